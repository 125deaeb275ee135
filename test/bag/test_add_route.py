# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""scripts/add_route.py: a bag without a route gets the driven way as one, and can be planned from."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures import found
from fixtures.found import START_NS, FoundBag
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from vla_driver.bag.read import BagReader
from vla_driver.geometry.rig import load_rig

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'add_route.py'


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=120)


def test_the_copy_has_the_driven_way_as_its_route(tmp_path: Path, sample: SimpleNamespace) -> None:
    source = sample.write_drive(tmp_path / 'bag', 60, leave_out=('route',))
    done = run(source, tmp_path / 'copy')
    assert done.returncode == 0, done.stderr
    with BagReader(source) as before, BagReader(tmp_path / 'copy') as after:
        assert after.topics == {**before.topics, '/route': 'nav_msgs/msg/Path'}
        assert after.rig().names == before.rig().names
        copied = {t: [(ns, bytes(data)) for _, ns, data in after.raw_messages([t])] for t in before.topics}
        assert copied == {t: [(ns, bytes(data)) for _, ns, data in before.raw_messages([t])] for t in before.topics}
        ((_, _, route),) = after.messages(['/route'])
        points = np.array([[pose.pose.position.x, pose.pose.position.y] for pose in route.poses])
        assert np.hypot(*(points[1] - points[0])) == pytest.approx(25.0, abs=1.0)
        np.testing.assert_allclose(points[-1], sample.ego(59).pose[:2], atol=1e-6)
        assert len(list(after.observations())) >= 55


def test_what_cannot_serve_is_named(tmp_path: Path, sample: SimpleNamespace) -> None:
    bag = sample.write_drive(tmp_path / 'bag', 3)
    for words, said in (
        ((bag, tmp_path / 'copy'), 'the bag has a topic /route already'),
        ((bag, tmp_path / 'copy', '--odometry', '/nowhere'), 'no nav_msgs/Odometry on /nowhere; the bag has: /camera'),
        ((bag, bag), 'exists already'),
    ):
        done = run(*words)
        assert done.returncode == 2
        assert said in done.stderr
    assert not (tmp_path / 'copy').exists()


def test_the_way_is_that_of_base_link_where_the_odometry_is_an_antennas(tmp_path: Path) -> None:
    mounted = found.transform(START_NS, 'base_link', 'gnss', (0.0, 3.0, 1.0), (0.0, 0.0, 0.0, 1.0))
    source = FoundBag(
        seconds=4.0,
        names=('front',),
        route_topic='',
        moving=lambda at_ns, x, y, yaw: found.odometry(at_ns, (x, y, yaw), (8.0, 0.0, 0.0), ('map', 'gnss')),
        more=lambda at_ns: [(at_ns, '/tf_static', 'tf2_msgs/msg/TFMessage', mounted)],
    ).write(tmp_path / 'bag')
    assert run(source, tmp_path / 'copy').returncode == 0
    with BagReader(tmp_path / 'copy') as bag:
        route = bag.route()
        assert route is not None
        np.testing.assert_allclose(route[:, 1], -3.0, atol=1e-9)
        ((_, logged_ns, message),) = bag.messages(['/route'])
        assert (logged_ns, message.header.frame_id) == (bag.start_ns, 'map')


@pytest.mark.parametrize('share', [0.1, 1.0])
def test_odometry_that_cannot_be_used_is_counted_and_left_out(tmp_path: Path, share: float) -> None:
    """A localiser that is not aligned yet, and one that never is."""

    def moving(at_ns: int, x: float, y: float, yaw: float) -> object:
        k = (at_ns - START_NS) // 20_000_000
        if k >= 50 * share:
            return found.odometry(at_ns, (x, y, yaw), (8.0, 0.0, 0.0))
        if k % 2:
            return found.odometry(at_ns, (x, y, yaw), (8.0, 0.0, 0.0), turn=found.quaternion(0, 0, 0, 0))
        return found.odometry(at_ns, (math.nan, math.nan, 0.0), (8.0, 0.0, 0.0))

    bag = FoundBag(seconds=1.0, names=('front',), route_topic='', moving=moving).write(tmp_path / 'bag')
    done = run(bag, tmp_path / 'copy')
    if share < 1.0:
        assert done.returncode == 0, done.stderr
        assert 'warning: 5 messages on /odom cannot be used and are left out' in done.stderr
        with BagReader(tmp_path / 'copy') as copy:
            route = copy.route()
        assert route is not None
        assert np.isfinite(route).all()
    else:
        assert done.returncode == 2
        assert 'no odometry that can be used: /odom has ' in done.stderr
        assert not (tmp_path / 'copy').exists()


def test_the_copy_of_a_ros_1_bag_is_a_bag_of_ros_2(tmp_path: Path) -> None:
    old, source = get_typestore(Stores.ROS1_NOETIC), tmp_path / 'x.bag'
    with Ros1Writer(source) as writer:
        connections = {}
        for at_ns, topic, kind, message in FoundBag(seconds=1.0, names=('front',), route_topic='').events():
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=old)
            writer.write(connections[topic], at_ns, bytes(old.serialize_ros1(_numbered(old, message), kind)))
    done = run(source, tmp_path / 'copy')
    assert done.returncode == 0, done.stderr
    rig = load_rig('sim')
    with BagReader(source) as before, BagReader(tmp_path / 'copy', rig=rig) as after:
        for connection in after.connections:
            assert 'uint32 seq' not in connection.msgdef.data
            assert connection.digest == get_typestore(Stores.ROS2_JAZZY).hash_rihs01(connection.msgtype)
        for topic in before.topics:
            ours, theirs = ([(ns, bytes(d)) for _, ns, d in bag.raw_messages([topic])] for bag in (before, after))
            assert ours == theirs
        assert after.route() is not None


def _numbered(old: Any, message: Any) -> Any:
    """Return a message of ROS 1: its header has a number."""
    if not hasattr(message, '__msgtype__'):
        return message
    values = {name: _numbered(old, value) for name, value in vars(message).items() if name != '__msgtype__'}
    if message.__msgtype__ == 'std_msgs/msg/Header':
        values['seq'] = 7
    return old.types[message.__msgtype__](**values)
