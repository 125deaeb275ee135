# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The leaderboard's plan: what is to be done from which pose on, as junctions with a beginning and an end."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures.messages import header
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_driver.observation.messages import read_global_plan
from vla_driver.types import InvalidInput, TurnCommand

#: carla_msgs/CarlaRoute's options.
LEFT, RIGHT, STRAIGHT, LANE, LANE_LEFT, LANE_RIGHT = range(1, 7)


def plan(*options: int, poses: int | None = None) -> SimpleNamespace:
    """Return a plan with poses 10 m apart along x, k metres to the left."""
    count = len(options) if poses is None else poses
    places = [SimpleNamespace(position=SimpleNamespace(x=10.0 * k, y=float(k), z=0.0)) for k in range(count)]
    return SimpleNamespace(header=header(0), road_options=list(options), poses=places)


def told(*options: int) -> list[tuple[int, int, TurnCommand]]:
    """Return which pose each manoeuvre begins and ends at, and its command."""
    points, manoeuvres = read_global_plan(plan(*options))
    assert points == pytest.approx(np.array([[10.0 * k, k] for k in range(len(options))]))
    assert all(m.begin_m[0] == 10.0 * m.begin_m[1] and m.end_m[0] == 10.0 * m.end_m[1] for m in manoeuvres)
    return [(int(m.begin_m[1]), int(m.end_m[1]), m.command) for m in manoeuvres]


@pytest.mark.parametrize(
    ('option', 'command'),
    [(LEFT, TurnCommand.LEFT), (RIGHT, TurnCommand.RIGHT), (STRAIGHT, TurnCommand.STRAIGHT)],
)
def test_a_junction_is_from_the_first_pose_that_says_so_to_the_first_that_does_not(
    option: int, command: TurnCommand
) -> None:
    assert told(LANE, option, LANE) == [(1, 2, command)]
    assert told(LANE, LANE, option, option, option, LANE, LANE) == [(2, 5, command)]


@pytest.mark.parametrize('option', [-1, 0, LANE, LANE_LEFT, LANE_RIGHT, 7])
def test_lanes_and_their_changes_and_what_is_unknown_are_followed(option: int) -> None:
    assert told(LANE, option, option, LANE) == []
    assert told(LEFT, option) == [(0, 1, TurnCommand.LEFT)]


def test_one_junction_may_end_where_the_next_begins() -> None:
    assert told(LANE, LEFT, RIGHT, LANE) == [(1, 2, TurnCommand.LEFT), (2, 3, TurnCommand.RIGHT)]
    assert told(STRAIGHT, LANE, STRAIGHT, LANE) == [(0, 1, TurnCommand.STRAIGHT), (2, 3, TurnCommand.STRAIGHT)]


def test_a_plan_may_end_within_a_junction() -> None:
    assert told(LANE, LEFT, LEFT) == [(1, 2, TurnCommand.LEFT)]
    assert told(LANE, LEFT) == [(1, 1, TurnCommand.LEFT)]
    assert told(STRAIGHT) == [(0, 0, TurnCommand.STRAIGHT)]


def test_only_positions_count() -> None:
    """The leaderboard's orientations are no unit quaternions to rely on."""
    message = plan(LANE, LEFT, LANE)
    for pose in message.poses:
        pose.orientation = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    points, (manoeuvre,) = read_global_plan(message)
    assert points.shape == (3, 2)
    assert manoeuvre.end_m == pytest.approx([20.0, 2.0])


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (plan(), 'global plan: 0 poses and 0 road options'),
        (plan(LANE, LEFT, poses=3), 'global plan: 3 poses and 2 road options, expected as many'),
        (plan(LANE, LEFT, poses=0), 'global plan: 0 poses and 2 road options'),
    ],
)
def test_a_plan_without_as_many_options_as_poses_is_refused(message: SimpleNamespace, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_global_plan(message)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('axis', ['x', 'y'])
def test_a_place_that_is_none_is_named(axis: str, value: float) -> None:
    message = plan(LANE, LEFT, LANE)
    setattr(message.poses[1].position, axis, value)
    shown = [value, 1.0] if axis == 'x' else [10.0, value]
    with pytest.raises(InvalidInput) as refused:
        read_global_plan(message)
    assert str(refused.value) == f'global plan: pose 1 is {shown}, expected finite numbers'


def test_the_leaderboards_own_message_is_read() -> None:
    """Made of the definition in interfaces/: the carla_msgs that is installed may be the bridge's, which has none."""
    definition = Path(__file__).parents[2] / 'interfaces' / 'carla_msgs' / 'msg' / 'CarlaRoute.msg'
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(definition.read_text(encoding='utf-8'), 'carla_msgs/msg/CarlaRoute'))
    kinds, pose, point, turn, header, time = (
        store.types[name]
        for name in (
            'carla_msgs/msg/CarlaRoute', 'geometry_msgs/msg/Pose', 'geometry_msgs/msg/Point',
            'geometry_msgs/msg/Quaternion', 'std_msgs/msg/Header', 'builtin_interfaces/msg/Time',
        )
    )  # fmt: skip
    message = kinds(header=header(stamp=time(sec=0, nanosec=0), frame_id=''), road_options=[], poses=[])
    message.road_options = [kinds.LANEFOLLOW, kinds.RIGHT, kinds.CHANGELANELEFT, kinds.STRAIGHT, kinds.LEFT]
    for k in range(5):
        message.poses.append(pose(position=point(x=30.0 * k, y=-2.0, z=0.0), orientation=turn(x=0, y=0, z=0, w=1)))
    points, manoeuvres = read_global_plan(message)
    assert points == pytest.approx(np.array([[30.0 * k, -2.0] for k in range(5)]))
    assert [(m.begin_m[0], m.end_m[0], m.command) for m in manoeuvres] == [
        (30.0, 60.0, TurnCommand.RIGHT),
        (90.0, 120.0, TurnCommand.STRAIGHT),
        (120.0, 120.0, TurnCommand.LEFT),
    ]
