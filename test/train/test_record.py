# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a run writes down."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vla_driver.train.record import Means, append_log, mean_of, read_log


def test_lines_are_rounded_and_read_by_kind(tmp_path: Path) -> None:
    append_log(tmp_path, kind='start', step=0, settings={'rate': 0.123456789})
    append_log(tmp_path, kind='train', step=3, loss=0.123456789)
    append_log(tmp_path, kind='train', step=6, loss=float('nan'))
    assert read_log(tmp_path)[0] == {'kind': 'start', 'step': 0, 'settings': {'rate': 0.123456789}}
    first, second = read_log(tmp_path, 'train')
    assert first == {'kind': 'train', 'step': 3, 'loss': 0.123457} and second['loss'] != second['loss']
    assert read_log(tmp_path, 'validation') == []


def test_means_of_rows_and_of_batches_of_different_sizes() -> None:
    assert mean_of([{'a': 1.0, 'b': 4.0}, {'a': 2.0, 'b': 0.0}]) == {'a': 1.5, 'b': 2.0}
    means = Means()
    means.add('late', torch.ones(0))
    means.add('share', torch.tensor([True, False]))
    means.add('share', torch.tensor([[True, True]]))
    means.add('late', torch.tensor(5.0))
    means.add('never', torch.ones(0))
    assert means.figures() == {'late': 5.0, 'share': pytest.approx(0.75)}
    assert list(means.figures()) == ['late', 'share']
