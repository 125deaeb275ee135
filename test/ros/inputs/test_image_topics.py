# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Choices per camera, when a message was sent, and cameras that send video."""

import array
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from fixtures import messages
from fixtures.video import encode_video
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage
from vla_driver.msg import DrivingPlan

from vla_driver.ros.inputs.image_topics import ImageTopics, SenderClock, sent_at
from vla_driver.ros.nodes.planner import PlannerNode
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.transports import picture_class
from vla_driver.settings.inputs import TRANSPORTS
from vla_driver.settings.per_camera import per_camera
from vla_driver.types import CAMERA_NAMES, InvalidInput

CAMERAS = ('front', 'back')


def choose(*entries, spared=''):
    return per_camera(entries, CAMERAS, TRANSPORTS, 'image_transport', spared)


def test_one_choice_for_all_or_one_per_camera():
    assert choose('raw') == {'front': 'raw', 'back': 'raw'}
    assert choose('raw', spared='front') == {'back': 'raw'}
    assert choose('back=compressed') == {'back': 'compressed'}
    assert choose('back=compressed', 'front=raw') == {'back': 'compressed', 'front': 'raw'}


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        (('jpeg',), "'jpeg', allowed: auto, raw, compressed"),
        (('left=raw',), "'left=raw', the cameras are: front, back"),
        (('front=',), 'allowed: auto, raw, compressed'),
        (('raw', 'back=raw'), 'one choice for all, or camera=choice each'),
    ],
)
def test_other_choices_are_refused(entries, words):
    with pytest.raises(InvalidInput, match=words):
        choose(*entries)


@pytest.mark.parametrize(
    ('source_age_s', 'received_age_s', 'age_s'),
    [(0.4, 0.1, 0.4), (-3600.0, 0.1, 0.1), (7200.0, 0.2, 0.2), (None, None, 0.0)],
)
def test_age_counts_from_publication_unless_the_clocks_disagree(source_age_s, received_age_s, age_s):
    now = time.time()
    info = {
        name: round((now - age) * 1e9)
        for name, age in (('source_timestamp', source_age_s), ('received_timestamp', received_age_s))
        if age is not None
    }
    sent = sent_at(info)
    assert age_s - 0.01 < time.monotonic() - sent < age_s + (time.time() - now) + 0.01


def under_way(seconds, at_s=100.0):
    return {'source_timestamp': round((at_s - seconds) * 1e9), 'received_timestamp': round(at_s * 1e9)}


@pytest.mark.parametrize(
    ('seconds', 'words'),
    [
        ([0.9, 0.7, 0.8] * 10, 'under way for 0.70 s'),
        ([0.7] * 5, ''),  # too few
        ([0.9] * 29 + [0.05], ''),  # late, but one was quick
        ([0.05] + [0.9] * 100, 'under way for 0.90 s'),  # set back since
        ([-3600.0] * 30, ''),  # these count from reception
        ([3600.0] * 30, ''),
    ],
)
def test_a_sender_whose_clock_lags_is_told_by_its_quickest_picture(seconds, words):
    clock = SenderClock()
    for one in seconds:
        clock.compare(under_way(one))
        clock.compare({})
    assert words in clock.problem
    assert bool(clock.problem) == bool(words)


def test_a_lagging_clock_is_said_once_of_the_camera():
    logger = Mock()
    topics = ImageTopics(SimpleNamespace(get_logger=lambda: logger), CAMERAS, {}, Mock())
    for camera, seconds in (('front', 0.7), ('back', 0.1)):
        topics._open[camera]['compressed'] = Mock()
        for _ in range(25):
            topics._take(camera, 'compressed', Mock(), under_way(seconds))
    topics._look_again()
    topics._look_again()
    logger.warning.assert_called_once()
    assert logger.warning.call_args.args[0].startswith('camera front: even the quickest of the last pictures seems')
    assert (topics.clock_problem('front') != '', topics.clock_problem('back')) == (True, '')


@pytest.mark.parametrize(
    ('transport', 'package'), [('ffmpeg', 'ffmpeg_image_transport_msgs'), ('foxglove', 'foxglove_msgs')]
)
def test_messages_that_are_not_installed_are_named(transport, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidInput, match=f'apt install ros-.ROS_DISTRO-{package.replace("_", "-")}'):
        picture_class(transport)


def test_a_planner_asked_for_them_does_not_configure(probe, monkeypatch):
    monkeypatch.setitem(sys.modules, 'foxglove_msgs', None)
    planner = _planner(probe, image_transport=['front=foxglove'])
    try:
        planner.trigger_configure()
        assert not planner.configured
        assert 'foxglove_msgs, which is not installed' in planner.failure
    finally:
        planner.destroy_node()


def test_a_camera_may_send_video_on_its_own_topic(probe, vehicle, monkeypatch):
    """Real DDS; the message of foxglove_msgs, which is not on PyPI, is stood in for by CompressedImage."""
    monkeypatch.setitem(sys.modules, 'foxglove_msgs', SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'foxglove_msgs.msg', SimpleNamespace(CompressedVideo=CompressedImage))
    front = probe.publisher(CompressedImage, 'camera/front/image/foxglove', qos.SENSOR_PUBLICATION)
    camera = vehicle.rig['front']
    packets = encode_video(12, gop=6, width=camera.width, height=camera.height)
    vehicle.cameras.remove('front')
    plans = probe.listen(DrivingPlan, 'plan')
    planner = _planner(probe)
    probe._executor.add_node(planner)
    try:
        assert planner.trigger_configure() == planner.trigger_activate() == TransitionCallbackReturn.SUCCESS
        assert planner._images.transport('front') == 'compressed+foxglove+raw'
        probe.until(front.get_subscription_count)
        vehicle.wait_for_listener()
        vehicle.publish_route()
        seen = []
        for k, data in enumerate(packets[2:], start=2):
            vehicle.tick()
            message = CompressedImage(format='h264', data=array.array('B', data))
            message.header.stamp = vehicle.stamp
            front.publish(message)
            probe.until(lambda n=k: planner._counters['sets'] == n - 1)
            probe.spin(0.05)
            seen.append(len(plans))
        assert planner._images.transport('front') == 'foxglove'
        probe.until(lambda: len(plans) == len(packets) - 2)
        sources = [plan.source for plan in plans]
        # Stops until the first key frame, packet 6; the policy's plans from then on.
        assert sources == ['stop'] * 4 + ['policy'] * 6, seen
        assert all('waiting for a key frame' in plan.reason for plan in plans[:4])
    finally:
        probe._executor.remove_node(planner)
        planner.destroy_node()


def test_sets_keep_their_order_whichever_thread_brings_the_last_picture(probe):
    """Raw pictures come in a thread of their own: a newer set must not be replaced by an older one."""
    planner = _planner(probe)
    probe._executor.add_node(planner)
    entered, put, order = threading.Event(), planner._mailbox.put, []

    def slowly(ready):
        if not entered.is_set():
            entered.set()
            time.sleep(0.3)  # the other thread would be through by then
        order.append(ready.stamp_ns)
        return put(ready)

    try:
        assert planner.trigger_configure() == TransitionCallbackReturn.SUCCESS
        planner._mailbox.put = slowly
        planner._assembler.push_route(messages.route())
        for tick in range(3):
            at_ns = tick * 100_000_000
            planner._on_odometry(messages.odometry(at_ns))
            planner._on_turn_command(messages.command(at_ns, 50.0))
        pictures = {at_ns: [(name, messages.image(at_ns)) for name in CAMERA_NAMES] for at_ns in (0, 100_000_000)}
        for name, picture in pictures[0][:-1]:
            planner._on_image(name, picture, time.monotonic())
        last = threading.Thread(target=planner._on_image, args=(*pictures[0][-1], time.monotonic()))
        last.start()
        assert entered.wait(10.0)
        for name, picture in pictures[100_000_000]:
            planner._on_image(name, picture, time.monotonic())
        last.join(10.0)
        assert order == [messages.T0_NS, messages.T0_NS + 100_000_000]
    finally:
        probe._executor.remove_node(planner)
        planner.destroy_node()


def _planner(probe, **parameters):
    values = {'policy': 'constant-velocity', 'rig': 'sim', 'max_age_s': 10.0, **parameters}
    return PlannerNode(
        context=probe.context, parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )
