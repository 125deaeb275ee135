# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A run that trains a pruner: resumed exactly, written for others to load, refused where its settings make no sense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_driver.data.foreground.frames import open_frames
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.trained.recon import load_recon_pruner
from vla_driver.train.pruning.pruner import PrunerRun, train_pruner
from vla_driver.train.pruning.pruner_trainer import PrunerConfig, PrunerTrainer
from vla_driver.train.pruning.recon_batches import make_batch
from vla_driver.train.pruning.token_encoder import NativeEncoder
from vla_driver.train.record import read_log
from vla_driver.train.state import load_state
from vla_driver.types import InvalidInput

_LEARNING = {field.name for field in fields(PrunerConfig)} - {'cell'}


@pytest.fixture
def train(native_checkpoint: Path, episodes: Path) -> Callable[..., dict[str, float]]:
    """Return a runner with small settings: (out, **fields of PrunerConfig and PrunerRun) -> the last figures."""

    def run(out: Path, **changes: Any) -> dict[str, float]:
        settings = {'batch': 2, 'decoder_layers': 1, 'decoder_steps': 1} | changes
        config = PrunerConfig(**{name: settings.pop(name) for name in _LEARNING & settings.keys()})
        small = {'cell': 4, 'validate': 4, 'device': 'cpu', 'threads': 1}
        return train_pruner(PrunerRun([episodes], str(native_checkpoint), out, config, **small | settings))

    return run


def test_resuming_is_exact(train: Any, tmp_path: Path, interrupted_at: Any, assert_same_state: Any) -> None:
    """Four steps, and two, an interruption and two more, end in the same weights and moments."""
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    train(whole, steps=4)
    with interrupted_at(PrunerTrainer, 2):
        train(halves, steps=4)
    settings = read_log(halves, 'start')[0]['settings']
    assert load_state(halves, settings, torch.device('cpu')).step == 2
    with pytest.raises(InvalidInput, match='already holds a run'):
        train(halves, steps=4)
    with pytest.raises(InvalidInput, match=r'alpha: 0\.5 there, 0\.2 here'):
        train(halves, steps=4, alpha=0.2, resume=True)
    train(halves, steps=4, resume=True)
    state = assert_same_state(whole, halves)
    assert any(name.startswith('optimizer.exp_avg_sq.pruner.') for name in state)


def test_writes_a_pruner_that_others_load(
    train: Any, tmp_path: Path, native_encoder: NativeEncoder, episodes: Path
) -> None:
    figures = train(tmp_path / 'run', steps=2, objective='adversarial-only')
    for share in (25, 50, 75):
        assert 0 <= figures[f'foreground_recall_{share}'] <= 1
    assert 0 <= figures['kept'] <= 1
    pruner = load_recon_pruner(tmp_path / 'run', native_encoder.model.config)
    assert pruner.notes['objective'] == 'adversarial-only' and pruner.notes['step'] == 2
    tokens = native_encoder.encode(make_batch(open_frames([episodes]), [0], native_encoder, cell=4).inputs)
    assert pruner.select(tokens, TokenBudget(ratio=0.75)).index.shape == (1, 33)
    assert [entry['kind'] for entry in read_log(tmp_path / 'run')] == ['start', 'train', 'validation']


def test_cached_features_train_alike(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'plain', steps=1, decoder_steps=0)
    train(tmp_path / 'cached', steps=1, decoder_steps=0, features=tmp_path / 'features')
    assert len(list((tmp_path / 'features').rglob('*.npy'))) == 4
    losses = [read_log(tmp_path / name, 'train')[0]['loss'] for name in ('plain', 'cached')]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # float16, and batches of another size


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'steps': 0}, '--steps is 0, expected a positive number'),
        ({'steps': 9, 'decoder_steps': 9}, '--decoder-steps is 9, expected 0 or more and less than'),
        ({'alpha': 2.0}, 'expected 0 or more, and 0 to 1'),
        ({'guide_road': 0.0}, '--guide-road is 0.0, expected above 0 and at most 1'),
        ({'guide': -1.0}, '--guide is -1.0, expected 0 \\(none\\) or more'),
        ({'cell': 0}, '--cell is 0, expected a positive number'),
        ({'picture_size': (10, 10)}, '--picture-size is for Qwen-VL'),
        ({'resume': True}, 'holds no training state to resume'),
    ],
)
def test_wrong_settings_are_named(train: Any, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        train(tmp_path / 'out', **settings)


def test_weights_that_lie_there_are_not_overwritten(train: Any, tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(InvalidInput, match=r'already holds config\.json: choose another folder'):
        train(tmp_path, steps=2)
