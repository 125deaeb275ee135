# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A raw picture shrunk as it comes is the one that its whole message gives, whatever becomes of the buffer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vla_driver.observation.calibration import check_aspect
from vla_driver.observation.decode import RAW_ENCODINGS, decode_message, encode_jpeg
from vla_driver.observation.receive import receive_image
from vla_driver.types import CameraModel, InvalidInput

W, H = 64, 32
RANDOM = np.random.default_rng(7)
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=5, nanosec=6), frame_id='front_optical')


def message(encoding: str, *, step: int = 0, big_endian: int = 0, size: int = 24 * W * H, **changes: int):
    fields = {'width': W, 'height': H, 'step': step, 'is_bigendian': big_endian, **changes}
    data = RANDOM.integers(0, 256, size, dtype=np.uint8)
    return SimpleNamespace(header=HEADER, encoding=encoding, data=data, **fields)


@pytest.mark.parametrize('at_least', [None, (W, H), (20, 10), (1, 1)])
@pytest.mark.parametrize('step', [0, 8 * W])
@pytest.mark.parametrize('encoding', RAW_ENCODINGS)
def test_the_same_picture_and_none_of_the_buffer(encoding: str, step: int, at_least: tuple[int, int] | None):
    whole = message(encoding, step=step, big_endian=1)
    want = decode_message(SimpleNamespace(**{**vars(whole), 'data': whole.data.copy()}), at_least)
    received = receive_image(whole, at_least)
    whole.data[:] = 0xEE  # the next message
    assert np.array_equal(decode_message(received, at_least), want)
    kept = (received.width, received.height, received.encoding, received.step, received.header)
    assert kept == (W, H, encoding, step, HEADER)
    assert received.data.size == 0


@pytest.mark.parametrize(
    'broken',
    [
        message('16UC1'),
        message('32FC1'),
        message('yuv444'),
        message('bgr8', size=100),
        message('bgr8', step=7),
        message('yuyv', width=63),
        message('nv12', height=31),
        message('rgb8', width=0),
        message('mono8', width=1 << 20, height=1 << 20),
        message('rgb8', size=0),
    ],
    ids=lambda broken: f'{broken.encoding}-{broken.width}x{broken.height}-{broken.step}-{broken.data.size}',
)
def test_what_is_refused_is_refused_in_the_same_words(broken: SimpleNamespace):
    with pytest.raises(InvalidInput) as want:
        decode_message(broken)
    received = receive_image(broken)
    with pytest.raises(InvalidInput) as got:
        decode_message(received)
    assert str(got.value) == str(want.value) == received.problem


def test_a_jpeg_in_a_raw_message_is_left_to_whoever_decodes_files():
    file = np.frombuffer(encode_jpeg(RANDOM.integers(0, 256, (H, W, 3), dtype=np.uint8)), np.uint8).copy()
    whole = SimpleNamespace(**{**vars(message('mjpeg')), 'data': file})
    want = decode_message(whole)
    received = receive_image(whole, (8, 4))
    file[:] = 0
    assert received.picture is None
    assert np.array_equal(decode_message(received), want)


def test_proportions_are_those_of_the_camera_s_picture():
    """Judged by what was sent, to the pixel: a shrunk picture would be given more room for rounding."""
    k = np.array([[60.0, 0.0, 66.0 / 2], [0.0, 60.0, 32.0 / 2], [0.0, 0.0, 1.0]])
    camera = CameraModel('front', 68, 32, k, np.eye(4))
    received = receive_image(message('bgr8'), (4, 2))
    small = decode_message(received, (4, 2))
    assert small.shape == (2, 4, 3)
    with pytest.raises(InvalidInput, match='picture of 64x32, but the camera is calibrated for 68x32'):
        check_aspect(small, received, camera)


@pytest.mark.parametrize('size', [(0, 0), (68, 0), (0, 32)])
def test_a_file_in_a_raw_message_may_leave_its_size_unfilled(size: tuple[int, int]):
    file = np.frombuffer(encode_jpeg(RANDOM.integers(0, 256, (H, W, 3), dtype=np.uint8)), np.uint8).copy()
    whole = SimpleNamespace(**{**vars(message('mjpeg')), 'data': file, 'width': size[0], 'height': size[1]})
    received = receive_image(whole)
    picture = decode_message(received)
    k = np.array([[60.0, 0.0, W / 2], [0.0, 60.0, H / 2], [0.0, 0.0, 1.0]])
    check_aspect(picture, received, CameraModel('front', W, H, k, np.eye(4)))
    with pytest.raises(InvalidInput, match=f'picture of {W}x{H}, but the camera is calibrated for {2 * W}x{H}'):
        check_aspect(picture, received, CameraModel('front', 2 * W, H, k, np.eye(4)))
