# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the road ends goes into a bag and comes back; what is no line is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import QosDurability

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.write import BagWriter
from vla_driver.geometry.rig import load_rig
from vla_driver.types import FloatArray, InvalidInput

#: A line on the left, and a ring on the right.
ROAD_M = (
    np.array([[-20.0, 8.0], [60.0, 12.0], [120.0, 25.0]]),
    np.array([[30.0, -4.0], [50.0, -3.0], [40.0, -20.0], [30.0, -4.0]]),
)


@pytest.fixture(scope='module')
def road_bag(tmp_path_factory: pytest.TempPathFactory, sample: SimpleNamespace) -> Path:
    """A drive without pictures."""
    path = tmp_path_factory.mktemp('road') / 'bag'
    with BagWriter(path, load_rig('sim')) as bag:
        bag.write_route(sample.T0_S, sample.ROUTE_M)
        bag.write_road_boundary(sample.T0_S, ROAD_M)
        for tick in range(4):
            bag.write_odometry(sample.ego(tick))
            bag.write_agents(sample.T0_S + tick * sample.STEP_S, [sample.car(tick)])
    return path


def lines_of(path: Path) -> tuple[FloatArray, ...]:
    with BagReader(path) as bag:
        return bag.road_boundary()


def test_lines_come_back(road_bag: Path) -> None:
    found = lines_of(road_bag)
    assert len(found) == len(ROAD_M) == 2
    for got, want in zip(found, ROAD_M, strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_message_is_what_viewers_expect(road_bag: Path, sample: SimpleNamespace) -> None:
    with BagReader(road_bag) as bag:
        ((_, logged_ns, message),) = bag.messages([schema.ROAD_BOUNDARY_TOPIC])
    assert logged_ns == round(sample.T0_S * 1e9)
    clears, *strips = message.markers
    assert clears.action == 3
    assert [(m.type, m.action, m.ns, m.id) for m in strips] == [(4, 0, 'road_boundary', k) for k in (0, 1)]
    assert all(m.header.frame_id == 'odom' and m.scale.x > 0.0 and m.color.a > 0.0 for m in strips)
    assert all(m.pose.orientation.w == 1.0 and m.pose.position.x == 0.0 for m in strips)


def test_the_topic_is_latched_of_a_type_that_the_client_library_reads(road_bag: Path) -> None:
    with BagReader(road_bag) as bag:
        ((connection, _, data),) = bag.raw_messages([schema.ROAD_BOUNDARY_TOPIC])
    assert connection.msgtype == 'visualization_msgs/msg/MarkerArray'
    (qos,) = connection.ext.offered_qos_profiles
    assert (qos.durability, qos.depth) == (QosDurability.TRANSIENT_LOCAL, 1)
    serialization = pytest.importorskip('rclpy.serialization', reason='no ROS 2 here')
    kind = pytest.importorskip('visualization_msgs.msg').MarkerArray
    markers = serialization.deserialize_message(data, kind).markers
    assert [(m.type, m.action, len(m.points)) for m in markers[1:]] == [(4, 0, 3), (4, 0, 4)]


def test_it_is_neither_an_input_nor_an_agent(road_bag: Path) -> None:
    with BagReader(road_bag) as bag:
        inputs = bag.inputs_without_cameras()
        assert (inputs.odometry, inputs.route, inputs.turn_command) == ('/odom', '/route', None)
        assert [len(actors) for _, actors in bag.agents()] == [1, 1, 1, 1]


def test_a_bag_without_the_topic_has_no_lines(tmp_path: Path, sample: SimpleNamespace) -> None:
    with BagWriter(tmp_path / 'bag', load_rig('sim')) as bag:
        bag.write_odometry(sample.ego(0))
    assert lines_of(tmp_path / 'bag') == ()


def test_the_last_message_counts(tmp_path: Path, sample: SimpleNamespace) -> None:
    with BagWriter(tmp_path / 'bag', load_rig('sim')) as bag:
        bag.write_road_boundary(sample.T0_S, ROAD_M)
        bag.write_road_boundary(sample.T0_S + 1.0, ROAD_M[1:])
    (line,) = lines_of(tmp_path / 'bag')
    np.testing.assert_array_equal(line, ROAD_M[1])


def test_a_road_without_an_end_has_no_lines(tmp_path: Path, sample: SimpleNamespace) -> None:
    with BagWriter(tmp_path / 'bag', load_rig('sim')) as bag:
        bag.write_road_boundary(sample.T0_S, [])
    with BagReader(tmp_path / 'bag') as reader:
        assert schema.ROAD_BOUNDARY_TOPIC in reader.topics
        assert reader.road_boundary() == ()


@pytest.mark.parametrize(
    ('line', 'words'),
    [
        ([[0.0, 0.0], [1.0, math.nan]], r'line 1: not finite at index \[1, 1\]: nan'),
        ([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], r'line 1: shape \(2, 3\)'),
        ([[0.0, 0.0]], 'line 1: 1 points, expected two or more'),
    ],
)
def test_what_is_no_line_is_not_written(
    line: list[list[float]], words: str, tmp_path: Path, sample: SimpleNamespace
) -> None:
    with BagWriter(tmp_path / 'bag', load_rig('sim')) as bag, pytest.raises(InvalidInput, match=words):
        bag.write_road_boundary(sample.T0_S, [ROAD_M[0], line])


def cut_short(marker: Any) -> None:
    marker.points = marker.points[:1]


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (lambda m: setattr(m.points[2], 'x', math.nan), r'marker 1: not finite at index \[2, 0\]: nan'),
        (lambda m: setattr(m.points[0], 'y', math.inf), r'marker 1: not finite at index \[0, 1\]: inf'),
        (cut_short, 'marker 1: 1 points, expected two or more'),
    ],
)
def test_what_is_no_line_is_not_read(
    spoil: Callable[[Any], None], words: str, road_bag: Path, tmp_path: Path, sample: SimpleNamespace
) -> None:
    with BagReader(road_bag) as bag:
        ((_, _, message),) = bag.messages([schema.ROAD_BOUNDARY_TOPIC])
    spoil(message.markers[2])
    with BagWriter(tmp_path / 'bag', load_rig('sim')) as bag:
        bag.write(schema.ROAD_BOUNDARY_OUT, message, sample.T0_S)
    with pytest.raises(InvalidInput, match=f'road boundary: {words}'):
        lines_of(tmp_path / 'bag')


def test_markers_that_are_no_line_strips_are_passed_over(
    road_bag: Path, tmp_path: Path, sample: SimpleNamespace
) -> None:
    with BagReader(road_bag) as bag:
        ((_, _, message),) = bag.messages([schema.ROAD_BOUNDARY_TOPIC])
    message.markers[1].type = 0  # an arrow
    with BagWriter(tmp_path / 'bag', load_rig('sim')) as bag:
        bag.write(schema.ROAD_BOUNDARY_OUT, message, sample.T0_S)
    (line,) = lines_of(tmp_path / 'bag')
    np.testing.assert_array_equal(line, ROAD_M[1])
