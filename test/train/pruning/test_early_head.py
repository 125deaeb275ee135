# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A head inside the encoder learns to say what a ReconPruner says behind it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.trained.early import EarlyPruner
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.pruning.trained.recon_layers import LayerSpec, layer_spec
from vla_driver.policies.loading import load_policy
from vla_driver.train.pruning.early_head import EarlyHeadRun, train_early_head
from vla_driver.train.record import read_log
from vla_driver.types import InvalidInput


@pytest.fixture
def checkpoint(episode_checkpoint: Callable[..., Path]) -> Path:
    """A small native checkpoint of two vision blocks, with a ReconPruner whose answers differ from token to token."""
    folder = episode_checkpoint(vision_layers=2)
    torch.manual_seed(0)
    teacher = ReconPruner(layer_spec(VlaConfig.from_pretrained(folder)))
    with torch.no_grad():
        teacher.scorer.weight.mul_(40.0)
    teacher.save_pretrained(folder / 'pruner')
    return folder


@pytest.fixture
def train(checkpoint: Path, episodes: Path, tmp_path: Path) -> Callable[..., dict[str, float]]:
    """Return a runner with small settings: (**fields of EarlyHeadRun) -> the figures of held-out moments."""

    def run(**changes: Any) -> dict[str, float]:
        settings = {'block': 1, 'batch': 2, 'hidden': 16, 'validate': 4, 'device': 'cpu'} | changes
        return train_early_head(EarlyHeadRun([episodes], str(checkpoint), out=tmp_path / 'head', **settings))

    return run


def test_the_head_learns_from_the_teacher_and_drives(train: Any, checkpoint: Path, tmp_path: Path) -> None:
    before = train(steps=1, learning_rate=1e-9)
    with pytest.raises(InvalidInput, match=r'head already holds config\.json'):
        train(steps=60)
    shutil.rmtree(tmp_path / 'head')
    after = train(steps=60, learning_rate=1e-2)
    assert after['loss'] < before['loss']
    # Tokens that leave are completed: nearer to what the later blocks would have made of them.
    assert before['completion'] == pytest.approx(before['unfinished'], rel=1e-4)
    assert after['completion'] < 0.9 * after['unfinished']
    assert all(0.0 <= after[f'{kind}_{share}'] <= 1.0 for kind in ('agreement', 'object_recall') for share in (25, 75))
    policy = load_policy(checkpoint, pruner=tmp_path / 'head', budget=TokenBudget(ratio=0.5))
    pruner, _ = policy.pruning  # type: ignore[attr-defined]
    assert isinstance(pruner, EarlyPruner) and (pruner.block, pruner.source) == (1, 'head')
    # Beside the checkpoint's ReconPruner, it goes by a name.
    (tmp_path / 'head').rename(checkpoint / 'early1')
    named = load_policy(checkpoint, pruner='early:1-head', budget=TokenBudget(ratio=0.5))
    assert isinstance(named.pruning[0], EarlyPruner)  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match='early2'):
        load_policy(checkpoint, pruner='early:2-head', budget=TokenBudget(ratio=0.5))
    notes = json.loads((checkpoint / 'early1/config.json').read_text())['notes']
    assert notes['steps'] == 60 and notes['held_out']['loss'] == pytest.approx(after['loss'], abs=1e-4)
    log = read_log(checkpoint / 'early1')
    assert [(entry['kind'], entry['step']) for entry in log] == [
        ('train', 25), ('train', 50), ('train', 60), ('validation', 60)
    ]  # fmt: skip


def test_what_does_not_fit_is_named(train: Any, tmp_path: Path) -> None:
    layer = {'hidden_size': 48, 'num_attention_heads': 2, 'num_key_value_heads': 2, 'intermediate_size': 64}
    ReconPruner(LayerSpec('vla_driver', {**layer, 'rms_norm_eps': 1e-6})).save_pretrained(tmp_path / 'other')
    for settings, message in (
        ({'block': 2}, 'before vision block 2; allowed: 1 to 1'),
        ({'steps': 0}, '--steps is 0, expected a positive number'),
        ({'teacher': tmp_path / 'other'}, 'width 48; --model'),
        ({'teacher': tmp_path / 'nowhere'}, 'is no folder'),
        ({'threads': -1}, '--threads is -1, expected 0'),
    ):
        with pytest.raises(InvalidInput, match=message):
            train(**settings)
