# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every encoding gives the right colours; whatever is broken is refused with a reason."""

from __future__ import annotations

import array
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


#: encoding -> the pixels as that encoding stores them.
STORED = {
    'rgb8': lambda rgb: rgb,
    'bgr8': lambda rgb: rgb[..., ::-1],
    'rgba8': lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]),
    'bgra8': lambda rgb: np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)]),
    'mono8': lambda rgb: rgb[..., :1],
}


def raw_bytes(pixels: np.ndarray, padding: int) -> tuple[bytes, int]:
    """Return the rows with `padding` bytes of rubbish after each, and the step."""
    rows = pixels.reshape(len(pixels), -1)
    rubbish = np.full((len(rows), padding), 0xAB, np.uint8)
    return np.hstack([rows, rubbish]).tobytes(), rows.shape[1] + padding


def test_the_encodings_tested_are_those_offered():
    assert set(STORED) == set(decode.RAW_ENCODINGS)


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('padding', [0, 1, 32])
@pytest.mark.parametrize('encoding', decode.RAW_ENCODINGS)
def test_raw_encodings(picture: Image, encoding: str, padding: int, big_endian: bool):
    data, step = raw_bytes(STORED[encoding](picture), padding)
    got = decode.decode_raw(data, 160, 90, encoding, step, big_endian)
    want = np.repeat(picture[..., :1], 3, axis=2) if encoding == 'mono8' else picture
    assert got.dtype == np.uint8
    assert np.array_equal(got, want)


@pytest.mark.parametrize('padding', [0, 32])
@pytest.mark.parametrize('encoding', decode.RAW_ENCODINGS)
@pytest.mark.parametrize(
    ('at_least', 'halvings'),
    # 160x96 is 5 * 2^5 by 3 * 2^5: a sixth halving would not be exact.
    [(None, 0), ((160, 96), 0), ((81, 1), 0), ((1, 49), 0), ((80, 48), 1), ((21, 12), 2), ((20, 12), 3), ((1, 1), 5)],
)
def test_raw_pictures_are_halved_while_that_suffices(
    picture: Image, encoding: str, padding: int, at_least: tuple[int, int] | None, halvings: int
):
    whole = cv2.resize(picture, (160, 96))
    data, step = raw_bytes(STORED[encoding](whole), padding)
    got = decode.decode_raw(data, 160, 96, encoding, step, False, at_least)
    side = 2**halvings
    assert got.shape == (96 // side, 160 // side, 3)
    means = whole.reshape(96 // side, side, 160 // side, side, 3).mean(axis=(1, 3))
    want = np.repeat(means[..., :1], 3, axis=2) if encoding == 'mono8' else means
    assert np.abs(got - want).max() <= 0.5 * halvings  # each halving rounds


@pytest.mark.parametrize('container', [bytes, bytearray, memoryview, lambda b: array.array('B', b), np.frombuffer])
def test_any_byte_buffer_will_do(picture: Image, container):
    data = container(picture.tobytes()) if container is not np.frombuffer else np.frombuffer(picture.tobytes(), 'u1')
    assert np.array_equal(decode.decode_raw(data, 160, 90, 'rgb8', 480), picture)
    jpeg = decode.encode_jpeg(picture)
    data = container(jpeg) if container is not np.frombuffer else np.frombuffer(jpeg, 'u1')
    assert decode.decode_compressed(data).shape == (90, 160, 3)


@pytest.mark.skipif(decode.has_cv_bridge(), reason='cv_bridge is here and may convert it')
@pytest.mark.parametrize('encoding', ['', 'BGR8', 'yuv422', '16UC1', 'bayer_rggb8', '32FC1'])
def test_other_encodings_are_refused_with_those_allowed(picture: Image, encoding: str):
    with pytest.raises(InvalidInput, match='bgr8') as caught:
        decode.decode_raw(picture.tobytes(), 160, 90, encoding, 480)
    for allowed in decode.RAW_ENCODINGS:
        assert allowed in str(caught.value)


@pytest.mark.skipif(not decode.has_cv_bridge(), reason='cv_bridge comes with ROS distributions only')
def test_cv_bridge_reads_what_we_do_not(picture: Image):
    mosaic = np.full((90, 160), 128, np.uint8)
    assert decode.decode_raw(mosaic.tobytes(), 160, 90, 'bayer_rggb8', 160).shape == (90, 160, 3)


@pytest.mark.parametrize(
    ('width', 'height', 'step', 'size', 'words'),
    [
        (160, 90, 480, 43199, '43199 bytes, expected 43200'),
        (160, 90, 480, 43201, '43201 bytes'),
        (160, 90, 480, 0, '0 bytes'),
        (160, 90, 479, 43110, 'step is 479, expected at least 480'),
        (160, 91, 480, 43200, 'expected 43680'),
        (0, 90, 480, 43200, '0x90'),
        (160, 0, 480, 0, '160x0'),
    ],
)
def test_wrong_sizes_are_refused(width: int, height: int, step: int, size: int, words: str):
    with pytest.raises(InvalidInput, match=words):
        decode.decode_raw(bytes(size), width, height, 'bgr8', step)


@pytest.mark.parametrize('format', ['jpeg', 'jpg', 'JPEG', 'bgr8; jpeg compressed bgr8', 'rgb8; jpeg compressed '])
@pytest.mark.parametrize('subsampling', ['444', '422', '420'])
def test_jpeg_round_trip(picture: Image, format: str, subsampling: str):
    got = decode.decode_compressed(decode.encode_jpeg(picture, 95, subsampling), format)
    assert np.abs(got.astype(int) - picture).mean() < 3.5


def test_grey_jpeg_becomes_rgb(picture: Image):
    data = cv2.imencode('.jpg', picture[..., 0])[1].tobytes()
    got = decode.decode_compressed(data)
    assert got.shape == (90, 160, 3)
    assert np.array_equal(got[..., 0], got[..., 2])


@pytest.mark.parametrize(
    ('at_least', 'want'),
    [
        (None, (160, 96)),
        ((160, 96), (160, 96)),
        ((500, 1), (160, 96)),
        ((81, 48), (160, 96)),
        ((80, 49), (160, 96)),
        ((80, 48), (80, 48)),
        ((40, 24), (40, 24)),
        ((33, 7), (40, 24)),
        ((20, 12), (20, 12)),
        ((1, 1), (20, 12)),
    ],
)
def test_scaled_decoding_is_the_smallest_that_suffices(
    picture: Image, at_least: tuple[int, int] | None, want: tuple[int, int]
):
    whole = cv2.resize(picture, (160, 96))
    got = decode.decode_compressed(decode.encode_jpeg(whole), 'jpeg', at_least)
    assert got.shape == (want[1], want[0], 3)
    assert np.abs(got.astype(int) - cv2.resize(whole, want, interpolation=cv2.INTER_AREA)).mean() < 2.0


def test_scaled_decoding_does_not_stretch():
    """90 rows at 1/4 would be 23, the last one half empty: 2 % too high.  900 at 1/8 is 0.4 %: let through."""
    small, large = np.zeros((90, 160, 3), np.uint8), np.zeros((900, 1600, 3), np.uint8)
    assert decode.decode_compressed(decode.encode_jpeg(small), 'jpeg', (40, 22)).shape == (45, 80, 3)
    assert decode.decode_compressed(decode.encode_jpeg(large), 'jpeg', (160, 96)).shape == (113, 200, 3)
    assert decode.decode_compressed(decode.encode_jpeg(large), 'jpeg', (320, 192)).shape == (225, 400, 3)


@pytest.mark.parametrize('share', [0.0, 0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize('at_least', [None, (20, 12)])
@pytest.mark.parametrize('encode', [decode.encode_jpeg, decode.encode_png])
def test_truncated_files_are_refused(picture: Image, share: float, at_least: tuple[int, int] | None, encode):
    """Libjpeg itself would only warn and fill the rest with grey."""
    data = encode(picture)
    assert decode.decode_compressed(data, 'jpeg').shape == (90, 160, 3)
    with pytest.raises(InvalidInput):
        decode.decode_compressed(data[: int(share * len(data))], 'jpeg', at_least)


@pytest.mark.parametrize('encode', [decode.encode_jpeg, decode.encode_png])
def test_damage_in_the_middle_is_refused(picture: Image, encode):
    data = bytearray(encode(picture))
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    with pytest.raises(InvalidInput):
        decode.decode_compressed(data, 'jpeg')


def test_one_missing_byte_is_noticed(picture: Image):
    with pytest.raises(InvalidInput, match='truncated'):
        decode.decode_compressed(decode.encode_jpeg(picture)[:-1])


@pytest.mark.parametrize('at_least', [None, (20, 12)])
def test_fill_bytes_before_a_marker_are_harmless(picture: Image, at_least: tuple[int, int] | None):
    """Many webcams write some into every frame.  The picture is complete, which libjpeg warns about nonetheless."""
    data = decode.encode_jpeg(cv2.resize(picture, (160, 96)))
    filled = data[:-2] + b'\x01\x02\x03' + data[-2:]
    want = decode.decode_compressed(data, 'jpeg', at_least)
    assert np.array_equal(decode.decode_compressed(filled, 'jpeg', at_least), want)
    for end in (len(filled) // 2, len(filled) - 2, len(filled) - 1):
        with pytest.raises(InvalidInput, match='truncated'):
            decode.decode_compressed(filled[:end], 'jpeg', at_least)


def test_fill_bytes_do_not_hide_an_early_end(picture: Image):
    """Filled before each restart marker and cut off amid the picture, with a whole preview in front."""
    encoded = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1].tobytes()
    preview = decode.encode_jpeg(picture[:16, :16])
    application = b'\xff\xe1' + (len(preview) + 2).to_bytes(2, 'big') + preview
    data = encoded[:2] + application + encoded[2:]
    filled = data.replace(b'\xff\xd0', b'\x05\xff\xd0').replace(b'\xff\xd1', b'\x05\xff\xd1')
    assert np.array_equal(decode.decode_compressed(filled), decode.decode_compressed(encoded))
    for share in (0.5, 0.8, 0.95):
        with pytest.raises(InvalidInput, match='truncated'):
            decode.decode_compressed(filled[: int(share * len(filled))])


@pytest.mark.parametrize('format', ['h264', '', 'tiff', '16UC1; compressedDepth png'])
def test_other_formats_are_refused_with_those_allowed(picture: Image, format: str):
    with pytest.raises(InvalidInput, match='jpeg, png'):
        decode.decode_compressed(decode.encode_jpeg(picture), format)


def test_content_that_is_neither_is_refused():
    with pytest.raises(InvalidInput, match='neither JPEG nor PNG'):
        decode.decode_compressed(b'GIF89a' + bytes(100), 'jpeg')


def test_png_keeps_pictures_and_labels(picture: Image):
    assert np.array_equal(decode.decode_compressed(decode.encode_png(picture), 'png'), picture)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode.decode_labels(decode.encode_png(labels)), labels)
    with pytest.raises(InvalidInput, match='one channel'):
        decode.decode_labels(decode.encode_png(picture))
    with pytest.raises(InvalidInput, match='no PNG'):
        decode.decode_labels(decode.encode_jpeg(picture))


def test_a_depth_png_does_not_pass_for_a_picture(picture: Image):
    data = cv2.imencode('.png', picture[..., 0].astype(np.uint16) * 100)[1].tobytes()
    with pytest.raises(InvalidInput, match='16 bits'):
        decode.decode_compressed(data, 'png')


def test_messages_of_both_kinds(picture: Image):
    raw = SimpleNamespace(data=picture.tobytes(), width=160, height=90, encoding='rgb8', step=480, is_bigendian=0)
    assert np.array_equal(decode.decode_message(raw), picture)
    compressed = SimpleNamespace(data=decode.encode_jpeg(picture), format='jpeg')
    assert decode.decode_message(compressed, (40, 22)).shape == (45, 80, 3)
    with pytest.raises(InvalidInput, match='expected sensor_msgs'):
        decode.decode_message(SimpleNamespace())


def test_encoders_refuse_what_is_no_picture(picture: Image):
    for bad in (picture.astype(np.float32), picture[..., 0], picture[:0]):
        with pytest.raises(InvalidInput):
            decode.encode_jpeg(bad)
    with pytest.raises(InvalidInput, match='1 to 100'):
        decode.encode_jpeg(picture, quality=0)
    with pytest.raises(InvalidInput, match='444, 422, 420'):
        decode.encode_jpeg(picture, subsampling='411')
    with pytest.raises(InvalidInput):
        decode.encode_png(picture.astype(np.uint16))


def test_a_png_without_a_header_is_truncated():
    with pytest.raises(InvalidInput, match='truncated'):
        decode.decode_compressed(b'\x89PNG\r\n\x1a\n' + b'IEND\xaeB`\x82', 'png')
