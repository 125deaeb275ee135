# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The bag player in a process of its own: what it plays, how fast, and what it refuses."""

import time

import numpy as np
import pytest
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

from vla_driver.bag.read import BagReader
from vla_driver.ros import conversions as convert
from vla_driver.ros import qos
from vla_driver.ros.bag_player_node import BagPlayerNode
from vla_driver.ros.playback import Bag, restamped, stamp_ns

FRONT = '/camera/front/image/compressed'


def stamps_of(messages):
    return [convert.to_nanoseconds(message.header.stamp) for message in messages]


def median_pace(recorded_ns, sent_ns):
    """Return recorded seconds per second, the median over all pairs of messages: no single late one counts."""
    recorded, sent = np.array(recorded_ns), np.array(sent_ns)
    later, earlier = np.tril_indices(len(recorded), -1)
    return np.median((recorded[later] - recorded[earlier]) / (sent[later] - sent[earlier]))


def play(nodes, bag, /, **parameters):
    return nodes.start('bag_player', {'bag': str(bag), 'wait_for_subscribers': ['/odom']} | parameters)


@pytest.fixture
def recorded(bag):
    with BagReader(bag) as reader:
        return {
            topic: [stamp for name, stamp, _ in reader.messages([topic]) if name == topic]
            for topic in ('/odom', FRONT, '/route')
        }


def test_everything_is_played_as_recorded_at_the_given_rate(probe, nodes, bag, recorded):
    odometry, images = probe.listen(Odometry, '/odom'), probe.listen(CompressedImage, FRONT)
    player = play(nodes, bag, rate=2.0, wait_for_subscribers=['/odom', FRONT])
    probe.until(lambda: len(odometry) == len(images) == 20)
    assert median_pace(recorded['/odom'], probe.sent_ns['/odom']) == pytest.approx(2.0, rel=0.1)
    assert stamps_of(odometry) == recorded['/odom']
    assert stamps_of(images) == recorded[FRONT]
    assert player.wait(10.0) == 0
    with BagReader(bag) as reader:
        first = next(message for _, _, message in reader.messages([FRONT]))
    assert bytes(images[0].data) == bytes(first.data)


def test_a_latched_route_reaches_who_comes_late_and_survives_a_start_offset(probe, nodes, bag, recorded):
    odometry = probe.listen(Odometry, '/odom')
    play(nodes, bag, start_offset_s=1.0, exit_at_end=False)
    probe.until(lambda: len(odometry) >= 3)
    assert stamps_of(odometry)[0] == recorded['/odom'][10]
    routes = probe.listen(Path, '/route', qos.LATCHED)
    probe.until(lambda: routes)
    assert stamps_of(routes) == recorded['/route']
    assert len(routes[0].poses) == 2


def test_a_loop_starts_over_and_the_clock_follows(probe, nodes, bag, recorded):
    odometry, clock = probe.listen(Odometry, '/odom'), probe.listen(Clock, '/clock')
    player = play(nodes, bag, loop=True, rate=4.0, clock_hz=100.0, topics=['/odom'])
    probe.until(lambda: len(odometry) >= 45)
    assert stamps_of(odometry)[:45] == (recorded['/odom'] * 3)[:45]
    times = np.array([convert.to_nanoseconds(message.clock) for message in clock]) * 1e-9
    assert (np.diff(times) < -1.0).sum() == 2
    assert times.min() >= recorded['/odom'][0] * 1e-9 - 0.05
    assert times.max() <= recorded['/odom'][-1] * 1e-9 + 0.05
    assert player.stop() == 0


def test_restamped_messages_carry_the_present(probe, nodes, bag):
    odometry = probe.listen(Odometry, '/odom')
    play(nodes, bag, restamp=True, rate=4.0)
    probe.until(lambda: len(odometry) == 20)
    ages = time.time() - np.array(stamps_of(odometry)) * 1e-9
    assert (np.abs(ages) < 10.0).all()
    assert (np.diff(ages) < 0.0).all()


def test_restamping_touches_nothing_but_the_stamp(bag):
    with Bag(bag) as opened:
        letters = list(opened.letters({'/odom': opened.channels['/odom']}))
    moved = restamped(letters[3].data, 1_234_567_890_123_456_789)
    assert stamp_ns(moved) == 1_234_567_890_123_456_789
    before, after = (deserialize_message(data, Odometry) for data in (letters[3].data, moved))
    assert before.header.frame_id == after.header.frame_id
    assert before.pose == after.pose
    assert len(letters) == 20


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'bag': 'no/such/bag'}, 'no such file or folder'),
        ({'bag': ''}, 'parameter bag is empty'),
        ({'topics': ['/odometry']}, "no playable topics ['/odometry']; it has: ['/camera"),
        ({'wait_for_subscribers': ['/odmo']}, "['/odmo'] are not played"),
        ({'rate': 0.0}, 'rate is 0, allowed is [0.01, 100]'),
        ({'start_offset_s': 99.0}, 'start_offset_s is 99, but the bag'),
        ({'wait_s': 0.2}, "nobody subscribed to ['/odom'] within 0.2 s"),
    ],
)
def test_what_cannot_be_played_ends_the_process_saying_why(nodes, bag, parameters, words):
    player = play(nodes, bag, **parameters)
    assert player.wait(20.0) == 1
    assert words in player.output
    assert 'Traceback' not in player.output


def test_a_file_that_is_no_bag_is_refused(nodes, tmp_path):
    (tmp_path / 'notes.mcap').write_text('not a recording')
    player = nodes.start('bag_player', {'bag': str(tmp_path / 'notes.mcap')})
    assert player.wait(20.0) == 1
    assert 'not readable as a rosbag2 recording' in player.output


@pytest.mark.parametrize(
    ('namespace', 'front', 'odometry'), [('', FRONT, '/odom'), ('/ego', f'/ego{FRONT}', '/ego/odom')]
)
def test_a_namespace_moves_the_recording(probe, bag, namespace, front, odometry):
    node = BagPlayerNode(
        context=probe.context,
        namespace=namespace,
        parameter_overrides=[Parameter('bag', value=str(bag)), Parameter('clock_hz', value=10.0)],
    )
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        topics = {publisher.topic_name for publisher in node.publishers}
        assert {front, odometry, '/clock'} <= topics
    finally:
        node.destroy_node()


def test_playing_waits_for_somebody_who_sees(probe, nodes, bag):
    """The launch file's way: whatever the image topics are called, one of them has a subscriber."""
    odometry = probe.listen(Odometry, '/odom')
    player = nodes.start('bag_player', {'bag': str(bag), 'wait_for_images': True, 'rate': 4.0})
    probe.spin(1.5)
    assert odometry == []
    images = probe.listen(CompressedImage, FRONT, qos.SENSOR_SUBSCRIPTION)
    probe.until(lambda: odometry and images)
    assert player.wait(20.0) == 0
