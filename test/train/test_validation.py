# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Figures on held-out episodes: means over ticks, however they are batched, and perfect for the expert's own plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.validation import validate


@pytest.fixture
def dataset(episode_model: Callable[..., VlaModel], episodes: Path) -> ClipDataset:
    return ClipDataset(find_episodes([episodes]), episode_model().config, ticks=3, augment=False)


def test_means_do_not_hang_on_the_batches(
    episode_model: Callable[..., VlaModel], dataset: ClipDataset, float32: None
) -> None:
    model = episode_model().train()
    one, two = (validate(model, dataset.validation_batches(clips, 3)) for clips in (1, 3))
    assert model.training
    assert one.keys() == two.keys() >= {'ade_1s', 'go_accuracy', 'lateral_slope', 'loss_anchor', 'lead_error_m'}
    assert not any(name.startswith('_') for name in one)
    for name in ('ade_1s', 'ade_2s', 'ade_3s', 'anchor_accuracy', 'go_accuracy', 'lateral_slope'):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name


def test_the_experts_own_controls_are_perfect(
    episode_model: Callable[..., VlaModel], dataset: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = episode_model()
    batch = dataset.batch([(0, 0), (1, 4), (2, 2)], None)
    monkeypatch.setattr(model, 'decode', lambda hidden, reflex: batch.labels.controls)
    figures = validate(model, [batch])
    assert figures['ade_3s'] < 0.05 and figures['go_accuracy'] == 1.0
    assert figures['lateral_slope'] == pytest.approx(1.0, abs=0.02)
    monkeypatch.setattr(model, 'decode', lambda hidden, reflex: torch.zeros_like(batch.labels.controls))
    assert validate(model, [batch])['ade_3s'] > 1.0
