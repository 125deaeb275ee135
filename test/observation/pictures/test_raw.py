# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every raw encoding gives the right colours, by formulas written down here; whatever is broken is refused."""

from __future__ import annotations

import array
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_driver.observation.pictures.raw import RAW_ENCODINGS, decode_raw
from vla_driver.types import Image, InvalidInput

W, H = 160, 96
ALPHA, ALPHA_16 = np.full((H, W, 1), 7, np.uint8), np.full((H, W, 1), 7, np.uint16)
RANDOM = np.random.default_rng(5)
#: Y from black on; any U and V: colours outside of the cube are cut off, which the formula does as well.
YUV = RANDOM.integers((16, 0, 0), 256, (H, W, 3), dtype=np.uint8)
WORDS = RANDOM.integers(0, 65536, (H, W, 3), dtype=np.uint16)


@pytest.fixture(scope='module')
def picture() -> Image:
    """Smooth colours, no two channels alike."""
    seed = np.random.default_rng(1).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(seed, (W, H), interpolation=cv2.INTER_CUBIC))


#: encoding -> the pixels [H, W, C] as that encoding stores them.
BYTES = {
    'rgb8': lambda rgb: rgb,
    'bgr8': lambda rgb: rgb[..., ::-1],
    'rgba8': lambda rgb: np.dstack([rgb, ALPHA]),
    'bgra8': lambda rgb: np.dstack([rgb[..., ::-1], ALPHA]),
    'mono8': lambda rgb: rgb[..., :1],
    '8UC1': lambda rgb: rgb[..., :1],
    '8UC3': lambda rgb: rgb[..., ::-1],
    '8UC4': lambda rgb: np.dstack([rgb[..., ::-1], ALPHA]),
}
WIDE = {
    'rgb16': lambda rgb: rgb,
    'bgr16': lambda rgb: rgb[..., ::-1],
    'rgba16': lambda rgb: np.dstack([rgb, ALPHA_16]),
    'bgra16': lambda rgb: np.dstack([rgb[..., ::-1], ALPHA_16]),
    'mono16': lambda rgb: rgb[..., :1],
    '16UC3': lambda rgb: rgb[..., ::-1],
    '16UC4': lambda rgb: np.dstack([rgb[..., ::-1], ALPHA_16]),
}
GREY = ('mono8', 'mono16', '8UC1')
PATTERNS = {'rggb': 'RGGB', 'bggr': 'BGGR', 'gbrg': 'GBRG', 'grbg': 'GRBG'}
MOSAICS = [f'bayer_{pattern}{bits}' for pattern in PATTERNS for bits in (8, 16)]
YUV_PACKED = {
    'uyvy': 'UYVY', 'yuv422': 'UYVY', 'yuyv': 'YUYV', 'yuv422_yuy2': 'YUYV', 'yvyu': 'YVYU'
}  # fmt: skip
YUV_PLANAR = ('nv12', 'nv21', 'i420', 'yv12', 'nv24', 'nv42')


def padded(rows: np.ndarray, padding: int) -> tuple[bytes, int]:
    """Return rows [N, ...] with `padding` bytes of rubbish after each, and the step."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    rubbish = np.full((len(flat), padding), 0xAB, np.uint8)
    return np.hstack([flat, rubbish]).tobytes(), flat.shape[1] + padding


def from_yuv(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 with values of 16 to 235, as in its table of 8-bit conversion; not rounded."""
    y, u, v = (255 / 219 * (y.astype(float) - 16), *(255 / 224 * (c.astype(float) - 128) for c in (u, v)))
    rgb = np.dstack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u])
    return rgb.clip(0, 255)


def bilinear(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """Each missing colour is the mean of its nearest neighbours that have it; right away from the border."""
    sides = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    around = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    channels = []
    for colour, kernel in (('R', around), ('G', sides), ('B', around)):
        mask = np.tile(np.array([letter == colour for letter in pattern]).reshape(2, 2), (H // 2, W // 2))
        channels.append(cv2.filter2D(np.where(mask, mosaic, 0).astype(float), -1, kernel))
    return np.dstack(channels)


def test_the_encodings_tested_are_those_offered():
    assert {*BYTES, *WIDE, *MOSAICS, *YUV_PACKED, *YUV_PLANAR} == set(RAW_ENCODINGS)


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('padding', [0, 1, 32])
@pytest.mark.parametrize('encoding', BYTES)
def test_bytes_per_channel(picture: Image, encoding: str, padding: int, big_endian: bool):
    data, step = padded(BYTES[encoding](picture), padding)
    got = decode_raw(data, W, H, encoding, step, big_endian)
    want = np.repeat(picture[..., :1], 3, axis=2) if encoding in GREY else picture
    assert got.dtype == np.uint8
    assert np.array_equal(got, want)


@pytest.mark.parametrize('order', ['<u2', '>u2'])
@pytest.mark.parametrize('padding', [0, 1, 32])
@pytest.mark.parametrize('encoding', WIDE)
def test_16_bits_become_8_in_either_byte_order(encoding: str, padding: int, order: str):
    data, step = padded(WIDE[encoding](WORDS).astype(order), padding)
    got = decode_raw(data, W, H, encoding, step, order == '>u2')
    want = np.rint(WORDS / 257.0)
    assert np.array_equal(got, np.repeat(want[..., :1], 3, axis=2) if encoding in GREY else want)


@pytest.mark.parametrize('padding', [0, 1, 32])
@pytest.mark.parametrize('encoding', MOSAICS)
def test_mosaics(encoding: str, padding: int):
    pattern, wide = PATTERNS[encoding[6:10]], encoding.endswith('16')
    mosaic = WORDS[..., 0] if wide else YUV[..., 0]
    data, step = padded(mosaic.astype('>u2') if wide else mosaic, padding)
    got = decode_raw(data, W, H, encoding, step, wide)
    want = bilinear(mosaic, pattern) / (257.0 if wide else 1.0)
    assert np.abs(got - want)[2:-2, 2:-2].max() <= 1.0


@pytest.mark.parametrize('padding', [0, 2, 32])
@pytest.mark.parametrize('encoding', YUV_PACKED)
def test_yuv_side_by_side(encoding: str, padding: int):
    order = YUV_PACKED[encoding]
    y, u, v = YUV[..., 0], YUV[:, ::2, 1], YUV[:, ::2, 2]
    firsts = {'Y': [y[:, ::2], y[:, 1::2]], 'U': [u], 'V': [v]}
    data, step = padded(np.dstack([firsts[letter].pop(0) for letter in order]), padding)
    got = decode_raw(data, W, H, encoding, step)
    want = from_yuv(y, u.repeat(2, axis=1), v.repeat(2, axis=1))
    assert np.abs(got - want).max() <= 1.5


def planes(encoding: str, padding: int) -> tuple[bytes, int]:
    """Return Y, then U and V as `encoding` has them, with rubbish after each row, and the step of Y."""
    y, dense = padded(YUV[..., 0], padding)[0], encoding in ('nv24', 'nv42')
    u, v = (YUV[..., c] if dense else YUV[::2, ::2, c] for c in (1, 2))
    first, second = (v, u) if encoding in ('nv21', 'yv12', 'nv42') else (u, v)
    if encoding in ('i420', 'yv12'):
        colour = b''.join(padded(plane, padding // 2)[0] for plane in (first, second))
    else:
        colour = padded(np.dstack([first, second]), 2 * padding if dense else padding)[0]
    return y + colour, W + padding


@pytest.mark.parametrize('padding', [0, 32])
@pytest.mark.parametrize('encoding', YUV_PLANAR)
def test_yuv_in_planes(encoding: str, padding: int):
    data, step = planes(encoding, padding)
    u, v = YUV[..., 1], YUV[..., 2]
    if encoding not in ('nv24', 'nv42'):
        u, v = (plane[::2, ::2].repeat(2, axis=0).repeat(2, axis=1) for plane in (u, v))
    want = from_yuv(YUV[..., 0], u, v)
    assert np.abs(decode_raw(data, W, H, encoding, step) - want).max() <= 1.5
    if padding == 0:  # some drivers count all planes
        per_row = len(data) // H
        assert np.abs(decode_raw(data, W, H, encoding, per_row) - want).max() <= 1.5
        assert np.abs(decode_raw(data, W, H, encoding, 0) - want).max() <= 1.5


def stored(encoding: str, picture: Image) -> tuple[bytes, int]:
    """Return a picture in any encoding, without padding."""
    if encoding in BYTES:
        return padded(BYTES[encoding](picture), 0)
    if encoding in WIDE:
        return padded(WIDE[encoding](picture.astype(np.uint16) * 257), 0)
    if encoding in MOSAICS:
        mosaic = YUV[..., 0]
        return padded(mosaic if encoding.endswith('8') else mosaic.astype(np.uint16) * 257, 0)
    return padded(YUV[..., :2], 0) if encoding in YUV_PACKED else planes(encoding, 0)


@pytest.mark.parametrize('encoding', RAW_ENCODINGS)
@pytest.mark.parametrize(
    ('at_least', 'halvings'),
    # 160x96 is 5 * 2^5 by 3 * 2^5: a sixth halving would not be exact.
    [(None, 0), ((160, 96), 0), ((81, 1), 0), ((1, 49), 0), ((80, 48), 1), ((21, 12), 2), ((20, 12), 3), ((1, 1), 5)],
)
def test_halved_while_that_suffices(picture: Image, encoding: str, at_least: tuple[int, int] | None, halvings: int):
    data, step = stored(encoding, picture)
    whole = decode_raw(data, W, H, encoding, step)
    got = decode_raw(data, W, H, encoding, step, False, at_least)
    side = 2**halvings
    assert got.shape == (H // side, W // side, 3)
    means = whole.reshape(H // side, side, W // side, side, 3).mean(axis=(1, 3))
    assert np.abs(got - means).max() <= 0.5 * halvings  # each halving rounds


@pytest.mark.parametrize('encoding', RAW_ENCODINGS)
def test_the_last_row_needs_no_padding_and_bytes_may_follow(picture: Image, encoding: str):
    data, row = stored(encoding, picture)
    want = decode_raw(data, W, H, encoding, row)
    assert np.array_equal(decode_raw(data + b'\x11' * 999, W, H, encoding, row), want)
    assert np.array_equal(decode_raw(data, W, H, encoding, 0), want)
    with pytest.raises(InvalidInput, match=f'{len(data) - 1} bytes, expected {len(data)}'):
        decode_raw(data[:-1], W, H, encoding, row)
    if encoding not in YUV_PLANAR:
        rows = [data[k * row : (k + 1) * row] for k in range(H)]
        assert np.array_equal(decode_raw((b'\x22' * 64).join(rows), W, H, encoding, row + 64), want)


@pytest.mark.parametrize('container', [bytes, bytearray, memoryview, lambda b: array.array('B', b), np.frombuffer])
def test_any_byte_buffer_will_do(picture: Image, container):
    whole = picture.tobytes()
    data = np.frombuffer(whole, 'u1') if container is np.frombuffer else container(whole)
    assert np.array_equal(decode_raw(data, W, H, 'rgb8', 3 * W), picture)


@pytest.mark.parametrize(
    ('name', 'usual'),
    [('BGR8', 'bgr8'), (' rgb8', 'rgb8'), ('YUYV', 'yuyv'), ('yuy2', 'yuyv'), ('NV12', 'nv12'), ('8uc3', '8UC3')],
)
def test_other_names_for_the_same(picture: Image, name: str, usual: str):
    data, row = stored(usual, picture)
    assert np.array_equal(decode_raw(data, W, H, name, row), decode_raw(data, W, H, usual, row))


@pytest.mark.parametrize('encoding', ['', 'yuv444', '8UC2', '16UC2', 'bayer_rggb12', 'bayer_xxxx8', 'h264'])
def test_other_encodings_are_refused_with_those_allowed(picture: Image, encoding: str):
    with pytest.raises(InvalidInput, match='bgr8') as caught:
        decode_raw(picture.tobytes(), W, H, encoding, 3 * W)
    for allowed in RAW_ENCODINGS:
        assert allowed in str(caught.value)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1', '64FC1', '16SC1', '8SC1', 'TYPE_16UC1', 'depth'])
def test_depth_is_no_picture(picture: Image, encoding: str):
    with pytest.raises(InvalidInput, match='depth'):
        decode_raw(picture.tobytes(), W, H, encoding, 2 * W)


@pytest.mark.parametrize(
    ('width', 'height', 'step', 'size', 'words'),
    [
        (160, 90, 480, 43199, '43199 bytes, expected 43200'),
        (160, 90, 480, 0, '0 bytes'),
        (160, 90, 479, 43110, 'step is 479, expected at least 480'),
        (160, 91, 480, 43200, 'expected 43680'),
        (0, 90, 480, 43200, '0x90'),
        (160, 0, 480, 0, '160x0'),
        (1 << 20, 1 << 20, 3 << 20, 480, 'damaged header'),
    ],
)
def test_wrong_sizes_are_refused(width: int, height: int, step: int, size: int, words: str):
    with pytest.raises(InvalidInput, match=words):
        decode_raw(bytes(size), width, height, 'bgr8', step)


@pytest.mark.parametrize(
    ('encoding', 'width', 'height', 'words'),
    [
        ('yuyv', 159, 96, 'width 159 is odd'),
        ('nv12', 159, 96, 'width 159 is odd'),
        ('nv21', 160, 95, 'height 95 is odd'),
        ('i420', 160, 95, 'height 95 is odd'),
        ('bayer_rggb8', 1, 96, '1x96, expected at least 2x2'),
    ],
)
def test_sizes_that_an_encoding_cannot_have_are_refused(encoding: str, width: int, height: int, words: str):
    with pytest.raises(InvalidInput, match=words):
        decode_raw(bytes(3 * W * H), width, height, encoding, 0)


def test_odd_mosaics_and_dense_yuv_are_no_trouble():
    for encoding, size in (('bayer_grbg8', 1), ('nv24', 3)):
        assert decode_raw(bytes(95 * 159 * size), 159, 95, encoding, 0).shape == (95, 159, 3)


def test_cv_bridge_is_not_asked(tmp_path: Path):
    """One that was built for another NumPy ends the process: no `except` would help."""
    (tmp_path / 'cv_bridge').mkdir()
    (tmp_path / 'cv_bridge' / '__init__.py').write_text('import os\nos._exit(9)\n', encoding='utf-8')
    script = (
        'from vla_driver.observation.decode import decode_raw\n'
        "print(decode_raw(bytes(64), 8, 8, 'bayer_rggb8', 8).shape)\n"
        'try:\n'
        "    decode_raw(bytes(64), 8, 4, '16UC1', 16)\n"
        'except ValueError as error:\n'
        '    print(error)\n'
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get('PYTHONPATH')])])
    done = subprocess.run(
        [sys.executable, '-c', script], env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('(8, 8, 3)\n')
    assert 'depth' in done.stdout
