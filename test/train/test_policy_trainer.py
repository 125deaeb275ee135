# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a policy's training: what diverges is stopped before it does harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.policy_trainer import PolicyConfig, PolicyTrainer
from vla_driver.types import InvalidInput


def test_divergence_stops_the_run(episode_model: Callable[..., VlaModel], episodes: Path) -> None:
    model = episode_model()
    trainer = PolicyTrainer(model, PolicyConfig(steps=10, clips=1, ticks=3))
    with torch.no_grad():
        model.language.norm.weight[0] = float('nan')
    dataset = ClipDataset(find_episodes([episodes]), model.config, ticks=3)
    weight = model.flow.input.weight.detach().clone()
    with pytest.raises(InvalidInput, match='diverged at step 0'):
        trainer.train_step(dataset.training_batch(0, 0, 1))
    assert torch.equal(model.flow.input.weight, weight)
    assert trainer.step == 0


def test_progress_is_of_steps_or_of_minutes(episode_model: Callable[..., VlaModel]) -> None:
    trainer = PolicyTrainer(episode_model(), PolicyConfig(steps=10))
    trainer.step, trainer.elapsed_s = 4, 1e6
    assert trainer.progress == 0.4
    trainer = PolicyTrainer(episode_model(), PolicyConfig(minutes=2.0))
    trainer.step, trainer.elapsed_s = 4, 30.0
    assert trainer.progress == 0.25
    trainer.elapsed_s = 121.0
    assert trainer.progress == 1.0
