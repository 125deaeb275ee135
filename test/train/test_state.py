# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a run: replaced as a whole, given back exactly, refused for other settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from vla_driver.train import state as module
from vla_driver.train.state import (
    STATE_FOLDER,
    load_state,
    restore_optimizer,
    save_state,
    tensors_of,
    under,
)
from vla_driver.types import InvalidInput

_CPU = torch.device('cpu')


def _stepped(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(2):
        layer(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer, optimizer


def test_weights_and_moments_come_back(tmp_path: Path) -> None:
    layer, optimizer = _stepped(0)
    save_state(tmp_path, tensors_of(layer, optimizer), step=7, elapsed_s=1.5, config={'seed': 3})
    found = load_state(tmp_path, {'seed': 3}, _CPU)
    assert (found.step, found.elapsed_s) == (7, 1.5)
    again, other = _stepped(1)
    again.load_state_dict(under('model.', found.tensors))
    restore_optimizer(again, other, found.tensors)
    for ours, theirs in zip(layer.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        one, two = optimizer.state[ours], other.state[theirs]
        assert one.keys() == two.keys() >= {'step', 'exp_avg', 'exp_avg_sq'}
        assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_crash_while_saving_leaves_the_previous_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, {'model.x': torch.ones(1)}, step=1, elapsed_s=0.0, config={})

    def fail(*_: object) -> None:
        raise OSError('disk full')

    with monkeypatch.context() as patch:
        patch.setattr(module, 'save_file', fail)
        with pytest.raises(OSError, match='disk full'):
            save_state(tmp_path, {'model.x': torch.zeros(1)}, step=2, elapsed_s=0.0, config={})
    assert load_state(tmp_path, {}, _CPU).step == 1

    replace = os.replace

    def stop(source: Path, target: Path) -> None:
        if target.name == STATE_FOLDER:  # the machine went off before the new one was put there
            raise OSError('power lost')
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, 'replace', stop)
        with pytest.raises(OSError, match='power lost'):
            save_state(tmp_path, {'model.x': torch.zeros(1)}, step=2, elapsed_s=0.0, config={})
    assert not (tmp_path / STATE_FOLDER).exists()
    assert load_state(tmp_path, {}, _CPU).step == 1
    save_state(tmp_path, {'model.x': torch.zeros(1)}, step=3, elapsed_s=0.0, config={})
    assert load_state(tmp_path, {}, _CPU).step == 3
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FOLDER]


def test_other_settings_are_refused_but_for_free_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='holds no training state to resume'):
        load_state(tmp_path, {}, _CPU)
    save_state(tmp_path, {'x': torch.ones(1)}, step=1, elapsed_s=0.0, config={'seed': 1, 'steps': 4, 'old': 0})
    ours = {'seed': 2, 'steps': 9, 'new': 5}
    with pytest.raises(
        InvalidInput, match=r'\(new: None there, 5 here, old: 0 there, None here, seed: 1 there, 2 here\)'
    ):
        load_state(tmp_path, ours, _CPU, free=('steps',))
    assert load_state(tmp_path, {'seed': 1, 'steps': 9, 'old': 0}, _CPU, free=('steps',)).step == 1
