# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""report.html of `evaluate pruning`: the rows as a table and curves, and what every pruner kept, picture by picture."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from vla_driver.evaluate.pruning.comparison import Variant
from vla_driver.evaluate.pruning.open_loop import ShownTick
from vla_driver.evaluate.pruning.truth import foreground_tokens
from vla_driver.show.page import OPENING, STYLE
from vla_driver.show.report import data_uri, prose
from vla_driver.show.tokens import draw_foreground, kept_mosaic, six_cameras
from vla_driver.statistics import bracketed
from vla_driver.types import Image

_CELL: Final = (256, 154)
#: The grid in which the foreground is shown where no variant has a grid of its own.
_GRID: Final = (6, 10)
_COLOURS: Final = (
    '#00beaa', '#ffce54', '#ee82aa', '#7a9cd6', '#c896ff', '#e69f00', '#de4032', '#9bd65a', '#f0f0f0', '#5ad1c4',
    '#b08b5a', '#8b99a8',
)  # fmt: skip
_EXTRA_STYLE: Final = """
main { max-width: 1720px; }
.kept { display: grid; gap: 12px; align-items: start; }
.wide { overflow-x: auto; }
.wide td:nth-child(2), .wide th:nth-child(2) { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px; }
.empty { border-style: dashed; min-height: 40px; }
"""
_PAGE: Final = (
    OPENING
    + """<div class="card wide">{table}</div>
<h2>Against the share that is pruned</h2>
<div class="plots">{plots}</div>
{pictures}
<h2>How to read this</h2>
<div class="notes">{notes}</div>
</main>
</body>
</html>
"""
)


def write_pruning_report(
    path: Path,
    variants: Sequence[Variant],
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[ShownTick],
    *,
    title: str,
    subtitle: str,
    notes: Sequence[str],
) -> None:
    """Write the page.  rows: one for each variant; shown[i].kept in the order of all settings of all variants."""
    ratios = sorted({variant.ratio for variant in variants if variant.ratio > 0.0})
    page = _PAGE.format(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        style=STYLE + _EXTRA_STYLE,
        table=_table(rows),
        plots=''.join(_plot(rows, key, name) for key, name in _PLOTS),
        pictures=''.join(_pictures(variants, tick, ratios) for tick in shown),
        notes=''.join(f'<p>{prose(note)}</p>' for note in notes),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding='utf-8')


def reading_notes(unpruned: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know about the figures; unpruned: the row without pruning."""
    notes = [
        'In the pictures, cells that were dropped are dark and grey; what is bright is what the language model read. '
        '`kept/all` stands beside each camera. In-model pruners (fastv, sparsevlm) are shown with what reached the '
        'last layer.',
        'Foreground tokens: at least 25 % of the cell is people, road, lane marks, vehicles, signs, lights or '
        'barriers, or at least 2 % of it is any of these but road and marks (small foreground, pink). "foreground" is '
        'the share kept.',
        'All pruners planned from the same ticks and drove the same routes. Brackets: 95 % bootstrap intervals over '
        'stretches of 10 s (open loop) or routes (closed loop); "to no pruning" is paired by route.',
        'L2, collisions and off road: "ST-P3/VAD" is the mean over the steps up to 1, 2, 3 s, "UniAD" the value at '
        '3 s. A step counts as a collision or off the road only where the driven car itself was clear. Open-loop '
        'figures say little about driving; look at the driving score.',
        '"scoring" is the median time of the pruner alone, measured with one thread beside other workers; '
        '`vla_driver evaluate tick-time` measures the whole tick.',
    ]
    for key, what in (('driven_collision_pct', 'collides'), ('driven_off_road_pct', 'is off the road')):
        if unpruned.get(key) is not None:
            value = unpruned[key]['ST-P3/VAD']['mean']
            notes.append(f'The driven car itself {what} in {value:.2f} % of the steps (ST-P3/VAD mean).')
    return notes


# --- figures ---------------------------------------------------------------------------------------------


def _number(value: Any, digits: int, sign: str = '') -> str:
    return '-' if value is None else f'{value:{sign}.{digits}f}'


def _with_ci(row: Mapping[str, Any], key: str, digits: int, sign: str = '') -> str:
    if row.get(key) is None:
        return '-'
    return f'{row[key]:{sign}.{digits}f}{bracketed(row[f"{key}_ci"], f"{sign}.{digits}f")}'


def _at(row: Mapping[str, Any], key: str, protocol: str, horizon: str) -> Any:
    return None if row.get(key) is None else row[key][protocol][horizon]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = (
        'pruner', 'pruned', 'tokens', 'driving score', 'to no pruning', 'foreground', 'small foreground',
        'L2 (m), ST-P3/VAD', 'L2 at 3 s, UniAD', 'collisions (%)', 'off road (%)', 'scoring (ms)',
    )  # fmt: skip
    lines = []
    for row in rows:
        name = f'{row["pruner"]}' + (f' ({row["seeds"]} seeds)' if row.get('seeds', 1) > 1 else '')
        if row.get('refused'):
            text = html.escape(row['refused'])
            lines.append(
                f'<tr><td>{html.escape(name)}</td><td>{row["ratio"]:.0%}</td><td colspan="10">{text}</td></tr>'
            )
            continue
        cells = (
            name,
            f'{row["ratio"]:.0%}',
            _number(row.get('tokens'), 0),
            _with_ci(row, 'driving_score', 1),
            _with_ci(row, 'driving_score_difference', 1, '+'),
            _with_ci(row, 'foreground_recall', 3),
            _with_ci(row, 'small_foreground_recall', 3),
            _number(_at(row, 'l2_m', 'ST-P3/VAD', 'mean'), 3),
            _number(_at(row, 'l2_m', 'UniAD', '3s'), 3),
            _number(_at(row, 'collision_pct', 'ST-P3/VAD', 'mean'), 2),
            _number(_at(row, 'off_road_pct', 'ST-P3/VAD', 'mean'), 2),
            _number(row.get('scoring_ms'), 2),
        )
        lines.append('<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in cells) + '</tr>')
    titles = ''.join(f'<th>{html.escape(cell)}</th>' for cell in head)
    return f'<table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


_PLOTS: Final = (
    ('driving_score', 'Driving score'),
    ('foreground_recall', 'Share of foreground tokens kept'),
    ('small_foreground_recall', 'Share of small foreground tokens kept'),
    ('l2_mean', 'L2 (m), ST-P3/VAD, mean of 1, 2 and 3 s'),
)


def _value(row: Mapping[str, Any], key: str) -> float | None:
    value = _at(row, 'l2_m', 'ST-P3/VAD', 'mean') if key == 'l2_mean' else row.get(key)
    return None if value is None else float(value)


def _plot(rows: Sequence[Mapping[str, Any]], key: str, title: str) -> str:
    """Return one chart: a line per pruner over the share pruned, from the point without pruning on."""
    width, height, left, right, top, bottom = 460, 240, 46, 12, 10, 26
    points: dict[str, list[tuple[float, float]]] = {}
    start = next((_value(row, key) for row in rows if row['ratio'] == 0.0), None)
    for row in rows:
        value = _value(row, key)
        if row['ratio'] > 0.0 and value is not None:
            points.setdefault(row['pruner'], [] if start is None else [(0.0, start)]).append((row['ratio'], value))
    values = [value for line in points.values() for _, value in line]
    if not values:
        return ''
    low, high = min(values), max(values)
    low, high = low - 0.05 * (high - low or 1.0), high + 0.05 * (high - low or 1.0)

    def x(ratio: float) -> float:
        return left + (width - left - right) * ratio

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * (value - low) / (high - low)

    parts = []
    for tick in np.linspace(low, high, 5):
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#27313d"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" fill="#8b99a8" font-size="10.5" text-anchor="end">'
            f'{tick:.3g}</text>'
        )
    for ratio in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<text x="{x(ratio):.1f}" y="{height - 8}" fill="#8b99a8" font-size="10.5" text-anchor="middle">'
            f'{ratio:.0%}</text>'
        )
    legend = []
    for k, (name, line) in enumerate(points.items()):
        colour = _COLOURS[k % len(_COLOURS)]
        path = ' '.join(f'{x(ratio):.1f},{y(value):.1f}' for ratio, value in sorted(line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(v):.1f}" r="2.6" fill="{colour}"/>' for r, v in line]
        legend.append(f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>')
    return (
        f'<div class="chart"><h3>{html.escape(title)}</h3><div class="legend">{"".join(legend)}</div>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg></div>'
    )


# --- pictures --------------------------------------------------------------------------------------------


def _pictures(variants: Sequence[Variant], tick: ShownTick, ratios: Sequence[float]) -> str:
    """Return one tick: the pictures, the foreground, then a row for each pruner and a column for each ratio."""
    figures = [_figure(kept_mosaic(tick.images, None, _CELL), 'as seen', '')]
    if tick.masks:
        grids = next((kept for kept in tick.kept if kept is not None), None) or {}
        drawn = {}
        for name, mask in tick.masks.items():
            if name in tick.images:
                foreground, small = foreground_tokens(mask, *(grids[name].shape if name in grids else _GRID))
                large = cv2.resize(tick.images[name], _CELL, interpolation=cv2.INTER_LINEAR)
                drawn[name] = draw_foreground(large, foreground, small)
        figures.append(_figure(six_cameras(drawn, {}, _CELL), 'foreground tokens', 'pink: small foreground'))
    grid = []
    for pruner in dict.fromkeys(variant.pruner for variant in variants if variant.ratio > 0.0):
        for ratio in ratios:
            grid.append(_variant_figure(variants, tick, pruner, ratio))
    title = f'What was kept: {Path(tick.bag).name}, {tick.stamp_s:.1f} s'
    columns = f'grid-template-columns: repeat({len(ratios)}, minmax(0, 1fr))'
    return (
        f'<h2>{html.escape(title)}</h2><div class="kept" style="grid-template-columns: repeat(2, minmax(0, 1fr))">'
        f'{"".join(figures)}</div><p></p><div class="kept" style="{columns}">{"".join(grid)}</div>'
    )


def _variant_figure(variants: Sequence[Variant], tick: ShownTick, pruner: str, ratio: float) -> str:
    index = 0
    for variant in variants:
        if (variant.pruner, variant.ratio) == (pruner, ratio) and index < len(tick.kept):
            kept = tick.kept[index]
            if kept is not None:
                total = sum(cells.size for cells in kept.values())
                stays = sum(int(cells.sum()) for cells in kept.values())
                recall = _recall(tick, kept)
                words = f'{ratio:.0%} pruned: {stays} of {total} tokens{recall}'
                return _figure(kept_mosaic(tick.images, kept, _CELL), pruner, words)
        index += len(variant.settings)
    return f'<figure class="empty"><figcaption><b>{html.escape(pruner)}</b> {ratio:.0%}: not run</figcaption></figure>'


def _recall(tick: ShownTick, kept: Mapping[str, Any]) -> str:
    counts = np.zeros((2, 2))
    for name, cells in kept.items():
        if name in tick.masks:
            truth = foreground_tokens(tick.masks[name], *cells.shape)
            counts += np.stack([(truth & cells).sum(axis=(1, 2)), truth.sum(axis=(1, 2))], axis=1)
    parts = [f'{counts[k, 0] / counts[k, 1]:.0%} of the {name}' for k, name in enumerate(('foreground', 'small'))
             if counts[k, 1]]  # fmt: skip
    return f'; {" and ".join(parts)}' if parts else ''


def _figure(picture: Image, name: str, words: str) -> str:
    alt = html.escape(f'{name}: six cameras')
    return (
        f'<figure><img src="{data_uri(picture)}" alt="{alt}" loading="lazy"><figcaption><b>{html.escape(name)}</b> '
        f'{html.escape(words)}</figcaption></figure>'
    )
