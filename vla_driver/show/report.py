# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a replay: pictures with the plan in them, curves of speed, error and latency, tables; one HTML file.

This module only arranges what was measured; `commands/replay.py` and `commands/demo.py` measure.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from vla_driver.show.drawing import BRAKED_COLOUR, SHIFTED_COLOUR, STOP_COLOUR, Colour
from vla_driver.show.page import PAGE, SCRIPT, STYLE
from vla_driver.types import Image, InvalidInput, PlanSource

_FALLBACK_COLOURS: Final[Mapping[PlanSource, Colour]] = {
    PlanSource.BRAKED: BRAKED_COLOUR,
    PlanSource.SHIFTED: SHIFTED_COLOUR,
    PlanSource.STOP: STOP_COLOUR,
}
#: Pictures inside the page; at this width and quality one takes about 40 kB.
_PICTURE_WIDTH: Final = 1520
_WEBP_QUALITY: Final = 60


@dataclass(frozen=True)
class ReportTick:
    """One plan as the report shows it.  error_m: L2 at 1, 2, 3 s where the bag goes on so long, else None."""

    stamp_s: float
    speed_mps: float
    planned_speed_mps: float
    source: PlanSource
    reason: str = ''
    error_m: tuple[float | None, float | None, float | None] = (None, None, None)
    latency_ms: float | None = None
    expert_speed_mps: float | None = None


@dataclass
class Report:
    """Everything on the page.  tiles: (figure, what it is); tables: title -> rows, the first being the head."""

    title: str
    subtitle: str
    ticks: Sequence[ReportTick]
    tiles: Sequence[tuple[str, str]] = ()
    tables: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    latency_p99_ms: float | None = None
    _frames: list[dict[str, Any]] = field(default_factory=list)
    _figures: list[tuple[str, str, str]] = field(default_factory=list)

    def add_picture(self, stamp_s: float, picture: Image, caption: str) -> None:
        """Add one picture [H, W, 3] RGB of the player, at a plan's stamp."""
        self._frames.append({'stamp_s': stamp_s, 'src': data_uri(picture), 'caption': caption})

    def add_figure(self, picture: Image, name: str, words: str) -> None:
        """Add one picture [H, W, 3] RGB to the section of what the model kept; `name` is set in bold."""
        self._figures.append((data_uri(picture), name, words))

    def write(self, path: Path) -> None:
        """Write the page.  Raises InvalidInput where there is nothing to show: no plans, no pictures, no tables.

        Tables alone say why there are no plans.
        """
        if not (self.ticks and self._frames) and not self.tables:
            raise InvalidInput(
                f'report: {len(self.ticks)} plans and {len(self._frames)} pictures, expected at least one of each; '
                'did the planner get all it needs? (see its diagnostics)'
            )
        stamps = [tick.stamp_s for tick in self.ticks] or [0.0]
        start = min(stamps)
        frames = [
            {'t': frame['stamp_s'] - start, 'src': frame['src'], 'caption': frame['caption']} for frame in self._frames
        ]
        data = {
            'frames': frames,
            'opening': len(frames) // 3,
            'duration': max(stamps) - start,
            'fallbacks': [
                {'t': tick.stamp_s - start, 'colour': _css(_FALLBACK_COLOURS[tick.source])}
                for tick in self.ticks
                if tick.source in _FALLBACK_COLOURS
            ],
            'charts': self._charts(start),
        }
        page = PAGE.format(
            title=html.escape(self.title),
            subtitle=html.escape(self.subtitle),
            style=STYLE,
            script=SCRIPT,
            tiles=''.join(
                f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
                for value, name in self.tiles
            ),
            tables=tables_of(self.tables),
            figures=_gallery(self._figures),
            notes=''.join(f'<p>{prose(note)}</p>' for note in self.notes),
            # "</" would end the script element inside a string.
            data=json.dumps(data, allow_nan=False).replace('</', '<\\/'),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding='utf-8')

    def _charts(self, start_s: float) -> list[dict[str, Any]]:
        times = [round(tick.stamp_s - start_s, 4) for tick in self.ticks]

        def series(name: str, values: Sequence[float | None], colour: str, dash: str = '') -> dict[str, Any]:
            shown = [None if v is None or not np.isfinite(v) else round(float(v), 4) for v in values]
            return {'name': name, 't': times, 'y': shown, 'colour': colour, 'dash': dash}

        speed = [
            series('driven', [t.speed_mps for t in self.ticks], '#f0f0f0'),
            series('planned for 1 s later', [t.planned_speed_mps for t in self.ticks], '#00beaa'),
        ]
        if any(t.expert_speed_mps is not None for t in self.ticks):
            speed.append(series('expert for 1 s later', [t.expert_speed_mps for t in self.ticks], '#ffce54', '5 4'))
        error = [
            series(f'{horizon} s', [t.error_m[k] for t in self.ticks], colour)
            for k, (horizon, colour) in enumerate(((1, '#5ad1c4'), (2, '#7a9cd6'), (3, '#c896ff')))
        ]
        latency = [series('camera to path', [t.latency_ms for t in self.ticks], '#ee82aa')]
        lines = [{'name': f'p99 {self.latency_p99_ms:.0f} ms', 'y': self.latency_p99_ms}] if self.latency_p99_ms else []
        charts: list[dict[str, Any]] = [
            {'title': 'Speed', 'subtitle': 'm/s', 'series': speed, 'digits': 1, 'least': 2},
            {
                'title': 'Distance from the driven path',
                'subtitle': 'm, after 1, 2 and 3 s',
                'series': error,
                'digits': 2,
                'least': 1,
            },
            {
                'title': 'Latency',
                'subtitle': 'ms, front image sent to path received',
                'series': latency,
                'digits': 0,
                'least': 20,
                'lines': lines,
            },
        ]
        return [chart for chart in charts if any(any(v is not None for v in s['y']) for s in chart['series'])]


def data_uri(picture: Image) -> str:
    """Return a picture [H, W, 3] RGB as the source of an <img>, at most 1520 pixels wide."""
    width = min(_PICTURE_WIDTH, picture.shape[1])
    height = round(picture.shape[0] * width / picture.shape[1])
    small = cv2.cvtColor(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode('.webp', small, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY])
    if not done:
        raise InvalidInput(f'report: a picture of shape {picture.shape} cannot be encoded')
    return 'data:image/webp;base64,' + base64.b64encode(data.tobytes()).decode('ascii')


def prose(text: str) -> str:
    """Return text as HTML: `code` as in the documentation, everything else as it stands."""
    return re.sub(r'`([^`]+)`', r'<code>\1</code>', html.escape(text))


def _css(colour: Colour) -> str:
    return '#{:02x}{:02x}{:02x}'.format(*colour)


def _gallery(figures: Sequence[tuple[str, str, str]]) -> str:
    if not figures:
        return ''
    parts = [
        f'<figure><img src="{source}" alt="{html.escape(name)}" loading="lazy"><figcaption><b>{html.escape(name)}</b> '
        f'{html.escape(words)}</figcaption></figure>'
        for source, name, words in figures
    ]
    return f'<h2>Tokens that the model kept</h2><div class="gallery">{"".join(parts)}</div>'


def tables_of(tables: Mapping[str, Sequence[Sequence[str]]]) -> str:
    """Return tables as HTML: title -> rows, the first being the head."""
    if not tables:
        return ''
    parts = []
    for title, rows in tables.items():
        head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in rows[0])
        body = ''.join('<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row) + '</tr>' for row in rows[1:])
        table = f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        parts.append(f'<div><h2>{html.escape(title)}</h2>{table}</div>')
    return f'<div class="tables">{"".join(parts)}</div>'
