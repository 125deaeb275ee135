# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Messages of every kind find their way to the decoder that fits."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vla_driver.observation import decode
from vla_driver.types import Image, InvalidInput


@pytest.fixture(scope='module')
def picture() -> Image:
    """Smooth colours, 90 x 160, no two channels alike."""
    seed = np.random.default_rng(1).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(seed, (160, 90), interpolation=cv2.INTER_CUBIC))


def test_messages_of_both_kinds(picture: Image):
    raw = SimpleNamespace(data=picture.tobytes(), width=160, height=90, encoding='rgb8', step=480, is_bigendian=0)
    assert np.array_equal(decode.decode_message(raw), picture)
    compressed = SimpleNamespace(data=decode.encode_jpeg(picture), format='jpeg')
    assert decode.decode_message(compressed, (40, 22)).shape == (45, 80, 3)
    with pytest.raises(InvalidInput, match='expected sensor_msgs'):
        decode.decode_message(SimpleNamespace())


def test_a_jpeg_in_a_raw_message(picture: Image):
    """As some drivers of webcams have it."""
    data = decode.encode_jpeg(picture)
    message = SimpleNamespace(data=data, width=160, height=90, encoding='mjpeg', step=len(data), is_bigendian=0)
    assert np.array_equal(decode.decode_message(message), decode.decode_compressed(data))


def test_whatever_trips_a_decoder_is_the_picture_s_fault(picture: Image):
    """The tick needs a reason, for its fallback; an exception of another kind would end it without a plan."""
    raw = {'width': 160, 'height': 90, 'encoding': 'rgb8', 'step': 480, 'is_bigendian': 0}
    for message in (
        SimpleNamespace(data='text', **raw),
        SimpleNamespace(data=picture.tobytes(), **{**raw, 'width': None}),
        SimpleNamespace(data=None, format='jpeg'),
        SimpleNamespace(data=picture.tobytes(), format=None),
    ):
        with pytest.raises(InvalidInput, match='cannot be decoded'):
            decode.decode_message(message)
