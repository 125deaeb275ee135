# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half may have said by a tick: the reason of an earlier one, moved to the present."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.data.episode import open_episode, stored_cameras
from vla_driver.data.others import other_tracks
from vla_driver.data.reasons import HAZARDS, META_ACTIONS, reason_at
from vla_driver.data.told import SILENCE, earlier_tick, told_at, told_inputs
from vla_driver.planning.intent import present
from vla_driver.policies.native_intents import intent_arrays
from vla_driver.types import EgoState, HazardKind, Intent, Navigation, Observation, TurnCommand


def test_the_tick_is_at_least_as_old_as_asked_for() -> None:
    stamps = np.array([0.0, 0.5, 1.0, 2.5])
    assert [earlier_tick(stamps, 2, age) for age in (0.0, 0.2, 0.5, 0.6, 1.0, 1.1)] == [2, 1, 1, 0, 0, -1]
    assert earlier_tick(stamps, 3, 1.0) == 2  # between them nothing was recorded


def test_training_tells_what_a_policy_is_told(reasoned_episodes: Path) -> None:
    """The row of a batch is what `intent_arrays` makes of the intent that says the same, at the same later tick."""
    path = find_episodes([reasoned_episodes])[0]
    episode = dict(open_episode(path))
    # The vehicle drives on between the ticks, and turns.
    episode['pose'] = np.array([[1.5 * k, 0.1 * k * k, 0.05 * k] for k in range(len(episode['stamp']))])
    tracks, cameras = other_tracks(episode), stored_cameras(episode)
    assert tracks is not None
    names = tuple(cameras)
    tick, seen = 6, 0
    for then in range(tick + 1):
        age_s = float(episode['stamp'][tick] - episode['stamp'][then])
        row = told_at(episode, tracks, cameras, names, tick, age_s, ttl_s=4.0)
        reason = reason_at(episode, tracks, then)
        intent = Intent(
            float(episode['stamp'][then]),
            reason.meta_action,
            4.0,
            episode['pose'][then],
            reason.target_speed_mps,
            reason.hazard,
            reason.camera,
            reason.distance_m if math.isfinite(reason.distance_m) else math.nan,
        )
        now = _observation(episode, tick, cameras)
        kinds, numbers = intent_arrays(intent, now, names)
        assert row[0] == tuple(kinds[0])
        np.testing.assert_allclose(row[1], numbers[0], atol=1e-4)
        assert present(intent, now).weight == pytest.approx(1.0 - age_s / 4.0)
        seen += reason.hazard is not HazardKind.NONE
    assert seen > 2
    assert told_at(episode, tracks, cameras, names, 1, 3.0, 4.0) is SILENCE  # there was nothing before
    assert told_at(episode, tracks, cameras, names, tick, 1.0, 0.5) is SILENCE  # too old to count
    episode['pose'] = episode['pose'] * [40.0, 1.0, 1.0]
    assert told_at(episode, tracks, cameras, names, tick, 1.0, 4.0) is SILENCE  # moved too far


def _observation(episode: Any, tick: int, cameras: Any) -> Observation:
    from vla_driver.types import CameraRig

    rig = CameraRig('stored', tuple(cameras.values()))
    x, y, yaw = (float(value) for value in episode['pose'][tick])
    stamp_s = float(episode['stamp'][tick])
    ego = EgoState(stamp_s, x, y, yaw, float(episode['speed'][tick]))
    navigation = Navigation(TurnCommand.FOLLOW, 10.0, np.zeros((2, 2)))
    return Observation(stamp_s, {}, rig, ego, navigation, missing=rig.names)


def test_batches_hold_what_was_said_where_a_model_listens(reasoned_episodes: Path, tiny_config: Any) -> None:
    paths = find_episodes([reasoned_episodes])
    deaf = ClipDataset(paths, tiny_config(), ticks=3)
    assert deaf.training_batch(0, 0, 2).labels.told is None
    listening = ClipDataset(paths, tiny_config(intent=True, intent_ttl_s=1.5), ticks=3)
    batch = listening.training_batch(0, 0, 4)
    told = batch.labels.told
    assert told is not None and told.kinds.shape == (12, 3) and told.numbers.shape == (12, 7)
    ages, weights = told.numbers[:, 4], told.numbers[:, 6]
    assert float(ages.max()) < 1.5 and float(weights.max()) > 0.0
    heard = weights > 0
    torch.testing.assert_close(weights[heard], 1.0 - ages[heard] / 1.5)
    assert (told.kinds[:, 0] < len(META_ACTIONS)).all() and (told.kinds[:, 1] < len(HAZARDS)).all()
    # The same step gives the same words, and pictures do not change with them.
    again = listening.training_batch(0, 0, 4)
    assert again.labels.told is not None and torch.equal(again.labels.told.numbers, told.numbers)
    plain = deaf.training_batch(0, 0, 4)
    assert all(torch.equal(a, b) for a, b in zip(plain.inputs.images, batch.inputs.images, strict=True))
    assert told_inputs([SILENCE, SILENCE]) is None
