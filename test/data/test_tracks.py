# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Version 2 of episodes: who was where, where they went, and what the expert reacted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vla_driver.data.clips import ClipDataset
from vla_driver.data.episode import Episode, open_episode
from vla_driver.data.others import OtherTracks, agent_labels, other_tracks
from vla_driver.data.reasons import META_ACTIONS, reason_at, reason_labels
from vla_driver.data.tracks import has_tracks, off_route_m
from vla_driver.model.config import VlaConfig
from vla_driver.sim.expert import Cause
from vla_driver.types import CAMERA_NAMES, HazardKind, MetaAction


def _episode(steps: dict[int, list[tuple[int, float, float]]], ticks: int = 1) -> Episode:
    """Return tracks of an ego at (10, 0), turned left by 90 degrees: step -> (actor, x, y); a step is 0.1 s."""
    count = max(steps) + 1
    rows = [steps.get(k, []) for k in range(count)]
    flat = [entry for row in rows for entry in row]
    names = sorted({actor for actor, _, _ in flat})
    return {
        'stamp': np.arange(ticks) * 0.5,
        'pose': np.tile([10.0, 0.0, np.pi / 2], (ticks, 1)),
        'step_stamp': np.arange(count) * 0.1,
        'step_offsets': np.cumsum([0, *(len(row) for row in rows)]),
        'step_actor': np.array([actor for actor, _, _ in flat], np.uint16),
        'step_state': np.array([[x, y, np.pi / 2, 5.0] for _, x, y in flat], np.float32).reshape(-1, 4),
        'body_actor': np.array(names, np.uint16),
        'body_kind': np.full(len(names), 9, np.uint8),
        'body_size': np.tile(np.float32([4.5, 1.8]), (len(names), 1)),
        'seen_offsets': np.array([0, 2] + [2] * (ticks - 1)),
        'seen_actor': np.array([7, 7], np.uint16),
        'seen_camera': np.array([0, 1], np.uint8),
        'seen_pixels': np.array([3.0, 8.0], np.float32),
    }


def test_others_are_seen_from_the_ego_and_followed_until_they_leave() -> None:
    # Actor 7 drives north 5 m/s from 20 m ahead of the ego, actor 9 is nearer and leaves after 1 s, to come back later.
    steps = {k: [(7, 10.0, 20.0 + 0.5 * k)] + ([(9, 13.0, 0.0)] if k <= 10 or k > 30 else []) for k in range(61)}
    others = OtherTracks(_episode(steps)).at(0)
    assert others.actor.tolist() == [9, 7]
    np.testing.assert_allclose(others.pose, [[0.0, -3.0, 0.0], [20.0, 0.0, 0.0]], atol=1e-5)
    np.testing.assert_allclose(others.future[1, :, 0], 20.0 + 5.0 * 0.25 * np.arange(1, 21), atol=1e-4)
    assert others.valid[1].all()
    assert others.valid[0].tolist() == [True] * 4 + [False] * 16
    assert others.pixels.tolist() == [0.0, 8.0]


def test_a_drive_on_an_empty_road_has_no_others() -> None:
    alone = OtherTracks({**_episode({0: [], 1: []}), 'seen_offsets': np.zeros(2, int)}).at(0)
    assert alone.future.shape == (0, 20, 3) and alone.pixels.shape == (0,)


def test_rows_without_tracks_are_marked_unknown() -> None:
    others = OtherTracks(_episode({k: [(7, 10.0, 20.0)] for k in range(3)})).at(0)
    labels = agent_labels([None, others])
    assert labels is not None
    assert labels.known.tolist() == [False, True]
    assert labels.present.sum(dim=1).tolist() == [0, 1]
    assert agent_labels([None]) is None and reason_labels([None], CAMERA_NAMES) is None


@pytest.mark.gl
def test_a_drive_tells_where_everybody_went(dense_drive: Path) -> None:
    episode = open_episode(dense_drive)
    assert has_tracks(episode) and int(episode['version']) == 2
    tracks = other_tracks(episode)
    assert tracks is not None
    now, later = tracks.at(0), tracks.at(4)  # 2 s later
    pose, moved = np.asarray(episode['pose'][0]), np.asarray(episode['pose'][4])
    found = 0
    for k, actor in enumerate(now.actor.tolist()):
        there = np.flatnonzero(later.actor == actor)
        if not len(there) or not now.valid[k, 7]:
            continue
        cos, sin = np.cos(moved[2]), np.sin(moved[2])
        x, y, _ = later.pose[there[0]]
        world = moved[:2] + [cos * x - sin * y, sin * x + cos * y]
        ahead = now.future[k, 7]
        c, s = np.cos(pose[2]), np.sin(pose[2])
        np.testing.assert_allclose(
            pose[:2] + [c * ahead[0] - s * ahead[1], s * ahead[0] + c * ahead[1]], world, atol=1e-3
        )
        found += 1
    assert found >= 2
    assert (now.pixels > 50).any() and (now.pixels < 5).any()
    assert len(episode['drivable']) > 100 and len(episode['route']) > 100


@pytest.mark.gl
def test_labels_of_a_drive_reach_the_batch(dense_drive: Path) -> None:
    dataset = ClipDataset([dense_drive], VlaConfig(), ticks=2, augment=False)
    batch = dataset.batch([(0, 0), (0, 6)], None)
    agents, reason = batch.labels.agents, batch.labels.reason
    assert agents is not None and reason is not None
    assert agents.known.all() and reason.known.all()
    assert agents.future.shape == (4, 16, 20, 3)
    tracks = other_tracks(dataset.episodes[0])
    assert tracks is not None
    for row, tick in enumerate((0, 1, 6, 7)):
        expected = reason_at(dataset.episodes[0], tracks, tick)
        assert META_ACTIONS[int(reason.meta_action[row])] is expected.meta_action
        assert float(reason.target_speed_mps[row]) == pytest.approx(expected.target_speed_mps)
        if expected.hazard is HazardKind.NONE:
            assert int(reason.camera[row]) == -1 and torch.isinf(reason.distance_m[row])


@pytest.mark.gl
def test_the_reason_is_what_the_expert_stops_for(dense_drive: Path) -> None:
    episode = open_episode(dense_drive)
    tracks = other_tracks(episode)
    assert tracks is not None
    reasons = [reason_at(episode, tracks, k) for k in range(len(episode['stamp']))]
    stopping = [r for r in reasons if r.meta_action in (MetaAction.STOP, MetaAction.WAIT)]
    assert stopping and all(r.hazard is not HazardKind.NONE for r in stopping)
    assert any(r.camera for r in stopping)


def test_somebody_beyond_the_tracks_reach_is_a_vehicle() -> None:
    """The expert yields to a crossing car from further away than tracks go; of it nothing is recorded."""
    episode = {
        **_episode({0: [(7, 12.0, 0.0)]}),
        'expert_speed': np.full((1, 20), 2.0),
        'speed': np.array([5.0]),
        'reaction_cause': np.full((1, 20), int(Cause.CROSSING), np.uint8),
        'reaction_actor': np.full((1, 20), 34, np.uint16),
    }
    reason = reason_at(episode, OtherTracks(episode), 0)
    assert (reason.hazard, reason.camera, reason.distance_m) == (HazardKind.VEHICLE_CROSSING, '', np.inf)


def test_off_the_route_is_how_far_the_line_is() -> None:
    corner = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2], [3, 3]], np.float32)
    episode = {
        'route': corner,
        'pose': np.array([[1.5, 0.4, 0.0], [3.7, 1.5, 1.6], [3.3, -0.4, 0.8], [3.0, 3.5, 1.6]]),
        'route_progress': np.array([1.5, 4.5, 3.0, 6.5]),
    }
    assert off_route_m(episode) == pytest.approx([0.4, 0.7, 0.5, 0.5])
