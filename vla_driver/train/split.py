# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which episodes a run learns from and which it holds out, written into its folder.

A run that is resumed goes on with them: new episodes would change the order of the old ones, and with it every batch.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from vla_driver.types import InvalidInput


def record_split(folder: Path, train: list[Path], held_out: list[Path]) -> None:
    """Write down both parts."""
    split = {'train': [str(path.resolve()) for path in train], 'validation': [str(path.resolve()) for path in held_out]}
    (folder / 'split.json').write_text(json.dumps(split, indent=1) + '\n', encoding='utf-8')


def recorded_split(folder: Path, train: list[Path], held_out: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the split with which the run began; raise `InvalidInput` when an episode of it is gone."""
    record = folder / 'split.json'
    if not record.is_file():
        return train, held_out
    split = json.loads(record.read_text(encoding='utf-8'))
    parts = ([Path(path) for path in split['train']], [Path(path) for path in split['validation']])
    lost = [path for path in itertools.chain(*parts) if not path.is_file()]
    if lost:
        raise InvalidInput(f'{len(lost)} episodes of the run in {folder} are gone, the first: {lost[0]}')
    return parts
