# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The bag player in a process of its own: what it plays, how fast, and what it refuses."""

import signal
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
from rcl_interfaces.msg import Log
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from vla_driver.msg import ControlCommand, DrivingPlan, TurnCommand

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.write import BagWriter
from vla_driver.geometry.rig import load_rig
from vla_driver.ros.nodes.bag_player import BagPlayerNode
from vla_driver.ros.nodes.playback import Bag, restamped, stamp_ns
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.types import EgoState

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


def play_to(probe, nodes, bag, /, gate=('/turn_command', TurnCommand), **parameters):
    """Start a player that begins once it and all that the probe listens to have found each other: nothing is missed."""
    topics = set(probe.heard)
    player = play(nodes, bag, **parameters | {'wait_for_subscribers': [gate[0]]})
    probe.until(lambda: topics <= probe.found)
    probe.listen(gate[1], gate[0])
    return player


@pytest.fixture
def recorded(bag):
    with BagReader(bag) as reader:
        return {
            topic: [stamp for name, stamp, _ in reader.messages([topic]) if name == topic]
            for topic in ('/odom', FRONT, '/route')
        }


def test_everything_is_played_as_recorded_at_the_given_rate(probe, nodes, bag, recorded):
    odometry, images = probe.listen(Odometry, '/odom'), probe.listen(CompressedImage, FRONT)
    player = play_to(probe, nodes, bag, rate=2.0)
    probe.until(lambda: len(odometry) == len(images) == 20)
    assert median_pace(recorded['/odom'], probe.sent_ns['/odom']) == pytest.approx(2.0, rel=0.1)
    assert stamps_of(odometry) == recorded['/odom']
    assert stamps_of(images) == recorded[FRONT]
    assert player.wait(10.0) == 0
    with BagReader(bag) as reader:
        first = next(message for _, _, message in reader.messages([FRONT]))
    assert bytes(images[0].data) == bytes(first.data)


def test_after_a_standstill_nothing_is_sent_in_a_burst(probe, nodes, bag, recorded):
    """A planner that is sent a second of pictures at once answers the newest only."""
    odometry = probe.listen(Odometry, '/odom')
    player = play_to(probe, nodes, bag)
    probe.until(lambda: len(odometry) >= 5)
    player.signal(signal.SIGSTOP)
    probe.spin(1.0)
    player.signal(signal.SIGCONT)
    probe.until(lambda: len(odometry) == len(recorded['/odom']) == 20)
    gaps_s = np.diff(probe.sent_ns['/odom']) * 1e-9
    assert gaps_s.max() >= 1.0
    at_once = gaps_s[gaps_s.argmax() + 1 :] < 0.02  # recorded: 0.1 s between any two
    assert at_once.sum() <= 2  # a busy machine may be late with one or two; a burst has nine


def test_a_latched_route_reaches_who_comes_late_and_survives_a_start_offset(probe, nodes, bag, recorded):
    odometry = probe.listen(Odometry, '/odom')
    play_to(probe, nodes, bag, start_offset_s=1.0, exit_at_end=False)
    probe.until(lambda: len(odometry) >= 3)
    assert stamps_of(odometry)[0] == recorded['/odom'][10]
    routes = probe.listen(Path, '/route', qos.LATCHED)
    probe.until(lambda: routes)
    assert stamps_of(routes) == recorded['/route']
    assert len(routes[0].poses) == 2


def test_a_loop_starts_over_and_the_clock_follows(probe, nodes, bag, recorded):
    odometry, clock = probe.listen(Odometry, '/odom'), probe.listen(Clock, '/clock')

    def times():
        return np.array([convert.to_nanoseconds(message.clock) for message in clock]) * 1e-9

    def jumps():
        return (np.diff(times()) < -1.0).sum()

    player = play_to(probe, nodes, bag, loop=True, rate=4.0, clock_hz=100.0, topics=['/odom', '/turn_command'])
    probe.until(lambda: len(odometry) >= 45 and jumps() >= 2)
    assert stamps_of(odometry)[:45] == (recorded['/odom'] * 3)[:45]
    assert jumps() == 2
    assert times().min() >= recorded['/odom'][0] * 1e-9 - 0.05
    assert times().max() <= recorded['/odom'][-1] * 1e-9 + 0.05
    assert player.stop() == 0


def test_restamped_messages_carry_the_present(probe, nodes, bag):
    odometry = probe.listen(Odometry, '/odom')
    play_to(probe, nodes, bag, restamp=True, rate=4.0)
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
    assert 'notes.mcap is text, not a recording' in player.output


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


OUTPUTS = {
    '/plan': DrivingPlan,
    '/path': Path,
    '/control': ControlCommand,
    '/hero/steer': ControlCommand,
    '/diagnostics': DiagnosticArray,
    '/rosout': Log,
}


@pytest.fixture
def earlier_run(tmp_path, monkeypatch):
    """A recording of odometry and of all that the nodes answered; its route was not offered to late comers."""
    monkeypatch.setattr(schema, 'ROUTE_OUT', schema.Topic('/my_route', schema.PATH))
    store = schema.typestore()
    with BagWriter(tmp_path / 'run', load_rig('sim')) as writer:
        writer.write_route(100.0, np.array([[40.0, 5.0], [80.0, 30.0]]))
        for tick in range(5):
            stamp_s = 100.0 + 0.1 * tick
            writer.write_odometry(EgoState(stamp_s, 0.5 * tick, 0.0, 0.0, 5.0))
            for topic, kind in OUTPUTS.items():
                type_name = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
                message = store.deserialize_cdr(serialize_message(kind()), type_name)
                writer.write(schema.Topic(topic, type_name), message, stamp_s)
    return tmp_path / 'run'


def played_topics(probe, bag, **parameters):
    """Return the topics a player offers of a bag."""
    given = [Parameter(name, value=value) for name, value in {'bag': str(bag), **parameters}.items()]
    node = BagPlayerNode(context=probe.context, namespace='/apart', parameter_overrides=given)
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.failure
        own = {'/my_route', '/odom', *OUTPUTS}
        return own & {topic for p in node.publishers for topic in (p.topic_name.removeprefix('/apart'),)}
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    ('parameters', 'outputs'),
    [
        ({}, set()),
        ({'include': ['/path']}, {'/path'}),
        ({'topics': ['/odom', '/my_route', '/control']}, {'/control'}),
        ({'topics': ['/odom', '/my_route'], 'include': ['/hero/steer', '/plan']}, {'/hero/steer', '/plan'}),
        ({'include': ['/path'], 'exclude': ['/pa']}, set()),
    ],
)
def test_what_running_nodes_publish_is_left_out_unless_it_is_named(probe, earlier_run, parameters, outputs):
    # The node's own logging and diagnostics are no playing.
    played = played_topics(probe, earlier_run, **parameters) - {'/rosout', '/diagnostics'}
    assert played == {'/odom', '/my_route'} | outputs


def test_recorded_commands_do_not_go_out_and_that_is_said_once(probe, nodes, earlier_run):
    odometry, steers = probe.listen(Odometry, '/odom'), probe.listen(ControlCommand, '/hero/steer')
    player = play_to(probe, nodes, earlier_run, gate=('/my_route', Path), include=['/hero/steer'])
    plans, controls = probe.listen(DrivingPlan, '/plan'), probe.listen(ControlCommand, '/control')
    assert player.wait(20.0) == 0
    probe.until(lambda: len(odometry) == len(steers) == 5)
    assert (plans, controls) == ([], [])
    (said,) = [line for line in player.output.splitlines() if 'left out' in line]
    for words in ('/control (it commands a vehicle)', '/plan (the planner publishes it)', '/rosout (running nodes'):
        assert words in said
    assert '/hero/steer' not in said
    assert '/odom' not in said


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'wait_for_subscribers': ['/plan']}, 'must be named in `include`'),
        ({'include': ['/plam']}, "no playable topics ['/plam']"),
        ({'exclude': ['/odom', '/my_route'], 'wait_for_subscribers': ['']}, 'left out of them as outputs of running'),
    ],
)
def test_what_is_left_out_is_named_in_errors(nodes, earlier_run, parameters, words):
    player = play(nodes, earlier_run, **parameters)
    assert player.wait(20.0) == 1
    assert words in player.output


@pytest.mark.parametrize('profile', [qos.LATCHED, qos.RELIABLE, qos.STATE_SUBSCRIPTION])
def test_a_route_recorded_from_a_publisher_that_keeps_nothing_reaches_everybody(probe, nodes, earlier_run, profile):
    routes = probe.listen(Path, '/my_route', profile)
    player = play_to(probe, nodes, earlier_run, gate=('/odom', Odometry))
    probe.until(lambda: routes)
    assert len(routes[0].poses) == 2
    assert player.wait(20.0) == 0


def test_a_planner_that_still_loads_is_named_as_a_reason_for_silence(nodes, earlier_run):
    player = play(nodes, earlier_run, wait_for_subscribers=['/my_route'], wait_s=0.2)
    assert player.wait(20.0) == 1
    assert 'if it still loads its checkpoint, raise wait_s' in player.output


def test_a_route_that_was_logged_at_time_0_is_played_at_once_and_that_is_said(probe, nodes, bag, recorded, tmp_path):
    store = schema.typestore()
    with BagReader(bag) as reader, Writer(tmp_path / 'early', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        copies = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=store) for c in reader.connections}
        for connection, logged_ns, data in reader.raw_messages(['/route', '/odom']):
            writer.write(copies[connection.id], 0 if connection.topic == '/route' else logged_ns, data)
    odometry, routes = probe.listen(Odometry, '/odom'), probe.listen(Path, '/route', qos.LATCHED)
    player = play(nodes, tmp_path / 'early')
    probe.until(lambda: odometry and routes)
    assert stamps_of(routes) == recorded['/route']
    assert player.wait(20.0) == 0
    assert 'messages on /route (1) were logged up to' in player.output
