# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a run writes down: the lines of its log, and the means that stand in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla_driver.model.precision import precision

LOG = 'log.jsonl'


def append_log(folder: Path, **entry: Any) -> None:
    """Add a line to the run's log.jsonl, numbers rounded to six digits."""
    with (folder / LOG).open('a', encoding='utf-8') as stream:
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in entry.items()}
        stream.write(json.dumps(rounded) + '\n')


def read_log(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the entries of a run's log in order; only those of one kind (start, train, validation) where it is given.

    Raises OSError where there is no log.
    """
    lines = (folder / LOG).read_text(encoding='utf-8').splitlines()
    return [entry for entry in map(json.loads, lines) if kind is None or entry['kind'] == kind]


def computed_on(device: str) -> dict[str, Any]:
    """Return what the log says of how a run computes: device, precision and threads."""
    return {'device': device, 'precision': precision(device), 'threads': torch.get_num_threads()}


def mean_of(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over the rows that hold it."""
    means = Means()
    for row in rows:
        for name, value in row.items():
            means.add(name, torch.tensor([value], dtype=torch.float64))
    return means.figures()


class Means:
    """Means by name of values that come in batches of different sizes: `add`, `add`, ..., `figures`."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Count values of any shape in; a batch may be empty."""
        self._sums[name] = self._sums.get(name, 0.0) + float(values.double().sum())
        self._counts[name] = self._counts.get(name, 0) + values.numel()

    def figures(self) -> dict[str, float]:
        """Return the mean of every name of which there was a value, in the order of their first `add`."""
        return {name: self._sums[name] / count for name, count in self._counts.items() if count}
