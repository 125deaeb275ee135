# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Raw cameras of a node: pictures are shrunk as they come, or rclpy hands them over and that is said."""

from __future__ import annotations

import array
import threading
import time

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage, Image

from vla_driver.observation.decode import decode_message, encode_jpeg
from vla_driver.observation.pictures.received import ReceivedImage
from vla_driver.ros.base.lifecycle import DriverNode
from vla_driver.ros.inputs import image_topics
from vla_driver.ros.inputs.image_topics import ImageTopics
from vla_driver.ros.inputs.raw_receiver import RawReceiver
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.image_taker import ImageTaker, TakeUnavailableError

W, H = 64, 48
NEEDED = (16, 12)
DONE = TransitionCallbackReturn.SUCCESS


class Listener(DriverNode):
    """Keeps the pictures of one camera, and what it said."""

    def __init__(self, transport='raw', **arguments):
        self.transport, self.got, self.warnings, self.errors, self.defect = transport, [], [], [], None
        super().__init__('listener', **arguments)
        logger = self.get_logger()
        warn = logger.warning
        logger.warning = lambda text: (self.warnings.append(text), warn(text))
        logger.error = lambda text, **how: self.errors.append(text)

    def setup(self):
        self.images = ImageTopics(self, ['front'], {'front': self.transport}, self.keep, {'front': NEEDED})

    def keep(self, camera, message, sent_s):
        self.got.append((camera, message, sent_s, threading.current_thread()))
        if self.defect is not None:
            raise self.defect

    def start(self):
        self.images.start()

    def stop(self):
        self.images.stop()


def picture(number, encoding='bgr8', size=3 * W * H):
    data = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
    image = Image(width=W, height=H, encoding=encoding, step=size // H, data=array.array('B', data.tobytes()))
    image.header.stamp.sec = number
    return image


@pytest.fixture
def spinning(probe):
    """Make a listener, active, in an executor that spins in a thread of its own, as in `process.run`."""
    executor = SingleThreadedExecutor(context=probe.context)
    made = []

    def make(**how):
        node = Listener(context=probe.context, **how)
        made.append(node)
        executor.add_node(node)
        assert node.trigger_configure() == node.trigger_activate() == DONE
        return node

    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield make
    assert thread.is_alive()  # nothing has stopped the executor
    executor.shutdown()
    thread.join(10.0)
    for node in made:
        node.destroy_node()


@pytest.fixture
def outlet(probe):
    return probe.publisher(Image, 'camera/front/image', qos.SENSOR_PUBLICATION)


def found(probe, outlet):
    probe.until(outlet.get_subscription_count)
    probe.spin(0.3)  # discovery is not symmetric


def send(probe, outlet, node, image):
    """Publish; return what the node got."""
    before = len(node.got)
    outlet.publish(image)
    probe.until(lambda: len(node.got) > before)
    assert len(node.got) == before + 1
    return node.got[-1]


def test_pictures_come_shrunk_with_the_time_they_were_sent(probe, spinning, outlet):
    node = spinning()
    found(probe, outlet)
    for number in range(1, 6):
        before_s = time.monotonic()
        camera, message, sent_s, _ = send(probe, outlet, node, picture(number))
        assert (camera, message.header.stamp.sec) == ('front', number)
        assert isinstance(message, ReceivedImage)
        assert (message.width, message.height, message.picture.shape) == (W, H, (12, 16, 3))
        assert np.array_equal(decode_message(message, NEEDED), decode_message(picture(number), NEEDED))
        assert before_s - 0.01 <= sent_s <= time.monotonic()
    assert node.warnings == []
    assert node.images.rate_hz('front') > 0.0
    depth = send(probe, outlet, node, picture(9, '16UC1', 2 * W * H))[1]
    assert 'depth' in depth.problem


def test_where_rclpy_is_otherwise_it_takes_the_pictures_and_the_reason_is_said(probe, spinning, outlet, monkeypatch):
    def unavailable():
        raise TakeUnavailableError('sensor_msgs/Image is laid out otherwise')

    monkeypatch.setattr(image_topics, 'ImageTaker', unavailable)
    node = spinning()
    found(probe, outlet)
    for number in range(1, 4):
        message = send(probe, outlet, node, picture(number))[1]
        assert isinstance(message, Image)
        assert message.data == picture(number).data
    assert len(node.warnings) == 1
    assert 'received by rclpy' in node.warnings[0]
    assert 'laid out otherwise' in node.warnings[0]


def test_nothing_is_said_where_no_camera_is_raw(probe, spinning, monkeypatch):
    def unavailable():
        raise TakeUnavailableError('sensor_msgs/Image is laid out otherwise')

    monkeypatch.setattr(image_topics, 'ImageTaker', unavailable)
    outlet = probe.publisher(CompressedImage, 'camera/front/image/compressed', qos.SENSOR_PUBLICATION)
    node = spinning(transport='auto')
    found(probe, outlet)
    file = encode_jpeg(np.zeros((H, W, 3), np.uint8))
    send(probe, outlet, node, CompressedImage(format='jpeg', data=array.array('B', file)))
    assert node.images.transport('front') == 'compressed'
    assert node.warnings == []
    # Given up while nothing was raw: the executor has nothing of it left.
    assert [one.topic for one in node.subscriptions if 'camera' in one.topic] == ['camera/front/image/compressed']


def test_the_raw_topic_is_given_up_and_taken_up_again(probe, spinning, outlet, monkeypatch):
    monkeypatch.setattr(image_topics, '_SILENCE_S', 0.3)
    files = probe.publisher(CompressedImage, 'camera/front/image/compressed', qos.SENSOR_PUBLICATION)
    node = spinning(transport='auto')
    waitables = len(list(node.waitables))  # events of two subscriptions among them
    found(probe, outlet)
    send(probe, outlet, node, picture(1))
    assert node.images.transport('front') == 'raw'
    probe.until(lambda: 'compressed' in node.images.transport('front'))
    found(probe, files)
    file = CompressedImage(format='jpeg', data=array.array('B', encode_jpeg(np.zeros((H, W, 3), np.uint8))))
    send(probe, files, node, file)
    assert node.images.transport('front') == 'compressed'
    probe.until(lambda: 'raw' in node.images.transport('front'))
    found(probe, outlet)
    assert isinstance(send(probe, outlet, node, picture(2))[1], ReceivedImage)
    assert node.images.transport('front') == 'raw'
    probe.until(lambda: 'compressed' in node.images.transport('front'))
    assert len(list(node.waitables)) == waitables


def test_a_node_may_be_stopped_and_started_while_pictures_come(probe, spinning, outlet):
    """From another thread than the executor's and the receiver's; once stopped, nothing is handed over."""
    node = spinning()
    found(probe, outlet)
    ended = threading.Event()

    def stream():
        while not ended.is_set():
            outlet.publish(picture(1))
            time.sleep(0.001)

    sender = threading.Thread(target=stream, daemon=True)
    sender.start()
    try:
        for _ in range(6):
            before = len(node.got)
            probe.until(lambda n=before: len(node.got) > n)
            assert node.trigger_deactivate() == DONE
            stopped = len(node.got)
            assert [one for one in node.subscriptions if 'camera' in one.topic] == []
            probe.spin(0.02)
            assert len(node.got) == stopped
            assert _receivers() == []
            assert node.trigger_activate() == DONE
    finally:
        ended.set()
        sender.join()
    assert {thread.name for *_, thread in node.got} == {'raw-pictures'}


def test_a_defect_is_told_and_the_next_picture_is_received(probe, spinning, outlet):
    node = spinning()
    found(probe, outlet)
    send(probe, outlet, node, picture(1))
    node.defect = RuntimeError('tripped')
    send(probe, outlet, node, picture(2))
    node.defect = None
    send(probe, outlet, node, picture(3))
    assert len(node.errors) == 1
    assert 'RuntimeError: tripped' in node.errors[0]


def test_the_thread_ends_with_its_context(probe, domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Listener(context=context)
    assert node.trigger_configure() == node.trigger_activate() == DONE
    (thread,) = _receivers()
    rclpy.shutdown(context=context)
    thread.join(10.0)
    assert not thread.is_alive()
    assert node.errors == []
    node.destroy_node()


def test_a_publisher_that_does_not_fit_is_still_warned_of(probe, spinning):
    """The subscription's events are served although the executor leaves it alone."""
    node = spinning()
    probe.publisher(Image, 'kept', qos.SENSOR_PUBLICATION)
    receiver = RawReceiver(node, ImageTaker())
    subscription = receiver.open('kept', print, qos.LATCHED, None)
    probe.until(lambda: node.warnings)
    assert 'a publisher on /kept does not fit (DURABILITY)' in node.warnings[0]
    receiver.close(subscription)
    receiver.close(subscription)
    receiver.stop()
    receiver.stop()


def _receivers():
    return [thread for thread in threading.enumerate() if thread.name == 'raw-pictures']
