# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where to go as the line of the way tells it, for an episode and in the clips that are drawn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.data.episode import Episode
from vla_driver.data.lines import TOLD, told_by_line
from vla_driver.geometry import se2
from vla_driver.model.config import VlaConfig
from vla_driver.observation.guidance import WITHIN_M, RouteGuide
from vla_driver.types import InvalidInput, TurnCommand

BEND_M, RADIUS_M = 120.0, 12.0


@pytest.fixture
def episode() -> Episode:
    """Straight on over a junction that was announced, then a bend to the left: 2 m a tick, 0.4 m beside the line."""
    angle = np.linspace(0.0, 0.5 * np.pi, 20)
    bend = np.stack([BEND_M + RADIUS_M * np.sin(angle), RADIUS_M * (1.0 - np.cos(angle))], axis=-1)
    away = bend[-1] + np.stack([np.zeros(80), np.arange(1.0, 81.0)], axis=-1)
    route = np.concatenate([np.stack([np.arange(0.0, BEND_M), np.zeros(int(BEND_M))], axis=-1), bend, away])
    x = np.arange(0.0, BEND_M, 2.0)
    count = len(x)
    return {
        'route': route.astype(np.float32),
        'pose': np.stack([x, np.full(count, 0.4), np.zeros(count)], axis=-1),
        'stamp': 0.2 * np.arange(count),
        'speed': np.full(count, 10.0, np.float32),
        'command': np.full(count, int(TurnCommand.STRAIGHT), np.uint8),
    }


def test_only_bends_are_announced(episode: Episode) -> None:
    told = told_by_line(episode)
    assert told is not None and set(told) == set(TOLD)
    command, distance_m = told['command'], told['command_distance']
    assert command.dtype == np.uint8
    to_bend_m = BEND_M - episode['pose'][:, 0]
    assert np.all(command[to_bend_m > 65.0] == int(TurnCommand.FOLLOW))
    near = to_bend_m < 55.0
    assert np.all(command[near] == int(TurnCommand.LEFT))
    np.testing.assert_allclose(distance_m[near & (to_bend_m > 8.0)], to_bend_m[near & (to_bend_m > 8.0)], atol=4.0)


def test_it_is_what_a_driver_hears_who_is_told_the_line_in_pieces(episode: Episode) -> None:
    told = told_by_line(episode)
    assert told is not None
    guide, heard = RouteGuide(), 0
    for tick, pose in enumerate(episode['pose']):
        at = int(pose[0])
        guide.take(episode['route'][at : at + 100 : 2], pose)
        command, distance_m = guide.next_turn(pose)
        if abs(BEND_M - pose[0] - WITHIN_M) < 4.0:
            continue  # told a metre earlier or later
        assert int(command) == told['command'][tick]
        assert distance_m == pytest.approx(told['command_distance'][tick], abs=1.5)
        heard += 1
        expected = se2.points_to_local(pose, guide.targets_m()[:2])
        if tick < 5:
            np.testing.assert_allclose(told['targets'][tick], expected, atol=1.0)
    assert heard > 20


def test_clips_are_told_by_the_line_in_their_share(tracked_episodes: Path) -> None:
    paths = find_episodes([tracked_episodes])
    plain, always, half = (ClipDataset(paths, VlaConfig(), ticks=2, line_share=share) for share in (0.0, 1.0, 0.5))
    clips = [(index, start) for index in range(4) for start in range(6)]
    rng = np.random.default_rng
    told = [told_by_line(episode) for episode in plain.episodes]

    def commands(batch_of: ClipDataset) -> torch.Tensor:
        return batch_of.batch(clips, rng(3)).inputs.targets_m.unflatten(0, (len(clips), 2))

    recorded, line, mixed = commands(plain), commands(always), commands(half)
    for row, (index, start) in enumerate(clips):
        expected = told[index]
        assert expected is not None
        np.testing.assert_allclose(line[row], expected['targets'][start : start + 2], atol=1e-5)
        np.testing.assert_allclose(recorded[row], plain.episodes[index]['targets'][start : start + 2], atol=1e-5)
        # A clip is told in one way from its first tick to its last.
        assert torch.equal(mixed[row], line[row]) or torch.equal(mixed[row], recorded[row])
    by_line = sum(torch.equal(mixed[row], line[row]) for row in range(len(clips)))
    assert 4 < by_line < 20
    # What the expert did stays, and what is validated is told as it was recorded.
    assert torch.equal(always.batch(clips, rng(3)).labels.controls, plain.batch(clips, rng(3)).labels.controls)
    unseen = always.batch(clips, None).inputs
    assert torch.equal(unseen.targets_m.unflatten(0, (len(clips), 2)), recorded)


def test_episodes_without_their_route_are_refused(episodes: Path) -> None:
    with pytest.raises(InvalidInput, match=r'line_share 0\.5: none of \d+ episodes holds its route'):
        ClipDataset(find_episodes([episodes]), VlaConfig(), line_share=0.5)
