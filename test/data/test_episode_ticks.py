# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Ticks of episodes as observations are what training makes of them."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_driver.data.clips import ClipDataset
from vla_driver.data.episode_ticks import EpisodeTicks
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.seeing.inputs import InputBuilder
from vla_driver.types import HazardKind


def test_observations_are_those_of_training(reasoned_episodes: Path) -> None:
    path = reasoned_episodes / 'drive_0.npz'
    ticks, config = EpisodeTicks(path), VlaConfig()
    dataset = ClipDataset([path], config, ticks=3, augment=False)
    batch, build = dataset.batch([(0, 0)], None), InputBuilder(config)
    assert len(ticks) == 8
    for row in range(3):
        made = build(ticks.observation(row))
        for ours, theirs in zip(made.images, batch.inputs.images, strict=True):
            assert torch.equal(ours[0], theirs[row])
        for name in ('present', 'speed_mps', 'yaw_rate_rps', 'command', 'command_distance_m', 'targets_m'):
            torch.testing.assert_close(getattr(made, name)[0], getattr(batch.inputs, name)[row])
        torch.testing.assert_close(made.rays[0], batch.inputs.rays[0])
    assert ticks.observation(1).missing == ('back',)


def test_reasons_are_those_of_training(reasoned_episodes: Path, episodes: Path) -> None:
    ticks = EpisodeTicks(reasoned_episodes / 'drive_1.npz')
    assert ticks.has_reasons
    reasons = [ticks.reason(tick) for tick in range(len(ticks))]
    assert {reason.hazard for reason in reasons if reason is not None} > {HazardKind.NONE}
    old = EpisodeTicks(next(iter(sorted(episodes.glob('*.npz')))))
    assert not old.has_reasons
    assert old.reason(0) is None
