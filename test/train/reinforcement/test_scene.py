# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Scenes of recorded drives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_driver.data.episode import open_episode
from vla_driver.train.reinforcement.rewards import judge
from vla_driver.train.reinforcement.scene import Plans, SceneReader


@pytest.fixture
def episode(tracked_episodes: Path) -> dict[str, Any]:
    return dict(open_episode(sorted(tracked_episodes.glob('*.npz'))[0]))


def test_a_scene_is_seen_from_the_ego(episode: dict[str, Any]) -> None:
    scene = SceneReader(episode).at(2)
    assert scene.others.shape == (1, 21, 3) and scene.progress_m == 8.0
    # The car stands 25 m along; the ego is at (8, 0.2) and looks 0.04 rad to the left.
    np.testing.assert_allclose(scene.others[0, :, 0], 17.0 * np.cos(0.04) - 0.2 * np.sin(0.04), atol=1e-3)
    place = int(np.abs(scene.route_m - 25.0).argmin())
    np.testing.assert_allclose(scene.route[place], scene.others[0, 0, :2], atol=1e-3)
    np.testing.assert_allclose(scene.expert.positions_m[0], episode['expert_positions'][2], atol=1e-3)


def test_who_is_no_longer_recorded_goes_straight_on(episode: dict[str, Any]) -> None:
    state = np.array(episode['step_state'])
    state[:, 0], state[:, 3] = 25.0 + 0.5 * np.arange(len(state)), 5.0
    episode['step_state'] = state
    scene = SceneReader(episode).at(6)  # 1 s before the end
    way = np.hypot(*(scene.others[0, :, :2] - scene.others[0, 0, :2]).T)
    np.testing.assert_allclose(way, 5.0 * 0.25 * np.arange(21), atol=0.06)
    # Only the last step is left: its own speed is all that is known.
    last = SceneReader(episode | {'stamp': np.array(episode['stamp']) + 0.4}).at(7)
    np.testing.assert_allclose(np.hypot(*(last.others[0, -1, :2] - last.others[0, 0, :2])), 25.0, atol=1e-3)


def test_a_red_line_is_known_while_it_is_red(episode: dict[str, Any]) -> None:
    stop = np.array(episode['step_stop'])
    stop[10:20] = 33.0
    scene = SceneReader(episode | {'step_stop': stop}).at(1)  # at 0.5 s; red from 1.0 s to 2.0 s
    assert scene.stop_m.tolist() == [np.inf] * 2 + [33.0] * 4 + [np.inf] * 15


@pytest.mark.gl
def test_the_expert_scores_well_and_a_ram_does_not(dense_drive: Path, plan: Callable[..., Plans]) -> None:
    drive = open_episode(dense_drive)
    scenes = [SceneReader(drive).at(tick) for tick in range(len(drive['stamp']))]
    assert np.mean([judge(scene, scene.expert).reward[0] for scene in scenes]) > 0.9
    assert np.mean([judge(scene, plan(scene.speed_mps, 3.0)).reward[0] for scene in scenes]) < 0.5
