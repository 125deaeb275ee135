# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""report.html of `evaluate words`: figures, confusion, reliability, and ticks with their pictures and words."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from vla_driver.data.episode_ticks import EpisodeTicks
from vla_driver.evaluate.words.figures import JUDGED
from vla_driver.evaluate.words.ticks import TickWords
from vla_driver.model.words.grammar import Grammar
from vla_driver.show.page import OPENING, STYLE
from vla_driver.show.report import data_uri, prose, tables_of
from vla_driver.show.tokens import six_cameras
from vla_driver.statistics import bracketed
from vla_driver.types import HazardKind, Image

#: Ticks on the page.
SHOWN: Final = 20
_CELL: Final = (320, 192)
_RIGHT: Final = (0, 190, 170)
_WRONG: Final = (222, 64, 50)
_EXTRA_STYLE: Final = """
main { max-width: 1500px; }
.right b { color: var(--plan); } .wrong b { color: var(--alarm); }
"""
_PAGE: Final = (
    OPENING
    + """{tables}
<h2>What was said, and what was to be said</h2>
<div class="gallery">{pictures}</div>
<h2>How to read this</h2>
<div class="notes">{notes}</div>
</main>
</body>
</html>
"""
)
_NOTES: Final = (
    'Accuracy is of single ticks; brackets are 95 % bootstrap intervals over whole drives. "balanced" is the mean over '
    'what there is to be said, so that who always says the same gains nothing.',
    '"black": the same model, every picture black. "other": the same model, given the pictures of another drive. '
    '"majority": what is right most often on these very ticks. What a model says about its pictures is what it has '
    'over these.',
    'A hazard is what the expert reacts to within 1.5 s; where no camera shows it, there is nothing to be said. '
    'Distances and speeds are said in steps, and not judged.',
    'The ticks below are spread evenly over those of each kind of hazard; none was chosen by hand. A frame marks the '
    'camera that was named, green where action, hazard and camera are all right.',
)


def chosen_ticks(spoken: Sequence[TickWords], count: int = SHOWN) -> list[TickWords]:
    """Return at most `count` ticks, evenly spread over those of each kind of hazard, as many of each as there are."""
    by_kind = {kind: [one for one in spoken if one.truth.hazard is kind] for kind in HazardKind}
    quota = dict.fromkeys(by_kind, 0)
    while sum(quota.values()) < min(count, len(spoken)):
        short = min((kind for kind in by_kind if quota[kind] < len(by_kind[kind])), key=lambda kind: quota[kind])
        quota[short] += 1
    chosen: list[TickWords] = []
    for kind, ticks in by_kind.items():
        chosen += [ticks[(2 * k + 1) * len(ticks) // (2 * quota[kind])] for k in range(quota[kind])]
    return chosen


def write_words_report(
    path: Path,
    figures: Mapping[str, Any],
    spoken: Sequence[TickWords],
    drives: Sequence[EpisodeTicks],
    grammar: Grammar,
    subtitle: str,
) -> None:
    """Write the page.  figures: as of the command's --json; spoken: of the model with its pictures."""
    pictures = ''.join(_figure(one, drives[one.drive], grammar) for one in chosen_ticks(spoken))
    page = _PAGE.format(
        title='What the slow half says',
        subtitle=html.escape(subtitle),
        style=STYLE + _EXTRA_STYLE,
        tables=tables_of(_tables(figures)),
        pictures=pictures,
        notes=''.join(f'<p>{prose(note)}</p>' for note in _NOTES),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding='utf-8')


def _tables(figures: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    head = ['', *figures['accuracy']]
    names = [*JUDGED, 'hazard_and_camera_of_hazards', 'balanced_meta_action', 'balanced_hazard']
    rows = [head]
    for name in names:
        rows.append([name.replace('_', ' '), *(_cell(of, name) for of in figures['accuracy'].values())])
    tables = {'Accuracy': rows}
    for name, table in figures['confusion'].items():
        said = list(next(iter(table.values())))
        tables[f'{name.replace("_", " ")}: to be said (rows), said (columns)'] = [
            ['', *said],
            *([truth, *(str(row[kind]) for kind in said)] for truth, row in table.items()),
        ]
    bins = figures['reliability']['bins']
    tables[f'Reliability (calibration error {figures["reliability"]["calibration_error"]:.3f})'] = [
        ['how sure', 'right', 'ticks'],
        *([f'{row["confidence"]:.2f}', f'{row["accuracy"]:.2f}', str(row['ticks'])] for row in bins),
    ]
    single = {name: value for part in ('decoding', 'gate', 'numbers') for name, value in figures[part].items()}
    tables['Decoding and gate'] = [['', 'value'], *([n.replace('_', ' '), f'{v:.3f}'] for n, v in single.items())]
    return tables


def _cell(figures: Mapping[str, Any], name: str) -> str:
    if name not in figures:
        return '-'
    return f'{figures[name]:.3f}{bracketed(figures.get(f"{name}_ci"), ".3f")}'


def _figure(one: TickWords, drive: EpisodeTicks, grammar: Grammar) -> str:
    right = JUDGED['meaning'](one.truth, one.said)
    said, truth = (grammar.text(grammar.say(statement)) for statement in (one.said, one.truth))
    images = {name: frame.image for name, frame in drive.observation(one.tick).frames.items()}
    if one.said.camera in images:
        images[one.said.camera] = _framed(images[one.said.camera], _RIGHT if right else _WRONG)
    sheet = six_cameras(images, {}, _CELL)
    alt = html.escape(f'six cameras: {said}')
    return (
        f'<figure class="{"right" if right else "wrong"}"><img src="{data_uri(sheet)}" alt="{alt}" loading="lazy">'
        f'<figcaption><b>{html.escape(said)}</b> ({one.confidence:.0%} sure)<br>{html.escape(truth)} was to be said; '
        f'{html.escape(drive.path.stem)}, {one.stamp_s:.1f} s</figcaption></figure>'
    )


def _framed(image: Image, colour: tuple[int, int, int]) -> Image:
    width = round(_CELL[0])
    large = cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])), interpolation=cv2.INTER_LINEAR)
    framed = np.ascontiguousarray(large)
    cv2.rectangle(framed, (1, 1), (framed.shape[1] - 2, framed.shape[0] - 2), colour, 3)
    return framed
