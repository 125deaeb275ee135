# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Raw pictures taken over real DDS into one C message are those that rclpy takes; another layout is found out."""

from __future__ import annotations

import array
import ctypes
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import Image

from vla_driver.observation.decode import RAW_ENCODINGS, decode_message
from vla_driver.ros.wire import image_taker, qos
from vla_driver.ros.wire.image_taker import ImageTaker, TakeFailedError, TakeUnavailableError

W, H = 32, 16


def picture(number: int, encoding: str, step: int = 0, height: int = H) -> Image:
    rng = np.random.default_rng(number)
    image = Image(width=W, height=height, encoding=encoding, step=step, is_bigendian=number % 2)
    image.data = array.array('B', rng.integers(0, 256, 24 * W * height, dtype=np.uint8).tobytes())
    image.header.stamp.sec, image.header.stamp.nanosec = 1_790_000_000 + number, 999_999_000 + number
    image.header.frame_id = f'kamera_{number}_ä' if number else ''
    return image


def copied(image):
    return replace(image, data=image.data.copy())


@pytest.fixture
def listeners(probe):
    """Two subscriptions to one topic, one for rclpy and one for the taker, and its publisher."""
    publisher = probe.publisher(Image, 'picture', qos.SENSOR_PUBLICATION)
    both = [probe.node.create_subscription(Image, 'picture', print, qos.SENSOR_SUBSCRIPTION) for _ in range(2)]
    end = time.monotonic() + 20.0
    while publisher.get_subscription_count() < 2 or any(not one.get_publisher_count() for one in both):
        assert time.monotonic() < end
        time.sleep(0.02)
    return publisher, *both


def by_rclpy(subscription):
    return subscription.handle.take_message(Image, False)


def patiently(take):
    end = time.monotonic() + 20.0
    while (taken := take()) is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    return taken


def test_every_field_and_pixel_is_as_rclpy_has_it(listeners):
    """One after the other into the same message: shorter ones and longer ones, with padding and without."""
    publisher, theirs, ours = listeners
    taker = ImageTaker()
    pictures = [
        picture(number, encoding, 8 * W if number % 3 else 0, H if number % 4 else 3 * H)
        for number, encoding in enumerate((*RAW_ENCODINGS, '16UC1', ''))
    ]
    for image in (*pictures, Image()):
        before_ns = time.time_ns()
        publisher.publish(image)
        want, want_info = patiently(lambda: by_rclpy(theirs))
        got, info = patiently(lambda: taker.take(ours.handle, copied))
        assert got.data.tobytes() == want.data.tobytes() == image.data.tobytes()
        for name in ('height', 'width', 'encoding', 'is_bigendian', 'step'):
            assert getattr(got, name) == getattr(want, name)
        assert (got.header.stamp.sec, got.header.stamp.nanosec) == (want.header.stamp.sec, want.header.stamp.nanosec)
        assert got.header.frame_id == want.header.frame_id
        assert info['source_timestamp'] == want_info['source_timestamp'] >= before_ns - 1_000_000
        assert info['source_timestamp'] <= info['received_timestamp'] <= time.time_ns()
        if image.encoding in RAW_ENCODINGS:
            assert np.array_equal(decode_message(got), decode_message(want))
    assert taker.take(ours.handle, copied) is None


def test_a_reader_that_raises_leaves_the_taker_as_it_was(listeners):
    publisher, _, ours = listeners
    taker = ImageTaker()
    publisher.publish(picture(1, 'rgb8'))

    def trip(_):
        raise RuntimeError('tripped')

    with pytest.raises(RuntimeError, match='tripped'):
        patiently(lambda: taker.take(ours.handle, trip))
    publisher.publish(picture(2, 'rgb8'))
    got, _ = patiently(lambda: taker.take(ours.handle, copied))
    assert got.header.stamp.sec == 1_790_000_002


def test_what_is_no_subscription_is_refused_with_rcl_s_code():
    nothing = (ctypes.c_void_p * 1)(None)  # an rcl_subscription_t without an implementation
    with pytest.raises(TakeFailedError, match='rcl_take returned 400'):
        ImageTaker().take(SimpleNamespace(pointer=ctypes.addressof(nothing)), copied)


@pytest.mark.parametrize('exchanged', [('height', 'width'), ('frame_id', 'encoding'), ('is_bigendian', 'step')])
def test_another_layout_is_found_out(monkeypatch, exchanged):
    """Told with what is wrong, before anything is received."""
    fields = dict(image_taker._Image._fields_)
    one, other = exchanged
    names = [other if name == one else one if name == other else name for name in fields]

    class Otherwise(ctypes.Structure):
        _fields_ = tuple((name, fields[name]) for name in names)

    monkeypatch.setattr(image_taker, '_Image', Otherwise)
    with pytest.raises(TakeUnavailableError, match='laid out otherwise: '):
        ImageTaker()


def test_another_library_is_found_out(monkeypatch):
    """Python's own extension modules have no rcl_take."""
    import _ctypes

    monkeypatch.setattr(image_taker, 'rclpy_implementation', SimpleNamespace(__file__=_ctypes.__file__))
    with pytest.raises(TakeUnavailableError, match='rcl_take'):
        ImageTaker()


def test_messages_that_convert_otherwise_are_found_out(monkeypatch):
    monkeypatch.setattr(type(Image), '_CONVERT_FROM_PY', 'no capsule')
    with pytest.raises(TakeUnavailableError, match='does not have what this needs'):
        ImageTaker()
