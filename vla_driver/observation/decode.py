# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Messages' bytes to pictures and back.  Pictures are RGB, uint8 [H, W, 3].

Errors are `InvalidInput` and say what was wrong: size, encoding, format, a file that ends too early.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from vla_driver.types import Image, InvalidInput

#: sensor_msgs/Image encodings read here: bytes per pixel and OpenCV's conversion to RGB (None: it is RGB).
_RAW: dict[str, tuple[int, int | None]] = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
}
RAW_ENCODINGS = tuple(_RAW)
COMPRESSED_FORMATS = ('jpeg', 'png')

_PNG_HEADER = 33  # bytes of the signature and of the first chunk, which says size and depth
#: What libjpeg warns of when a camera fills up between the picture's data and the next marker: nothing is lost.
_JPEG_FILLED = re.compile(r'^Corrupt JPEG data: \d+ extraneous bytes before marker')
_JPEG_SCAN, _JPEG_END = b'\xff\xda', b'\xff\xd9'
_JPEG_START, _PNG_START, _PNG_END = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'IEND\xaeB\x60\x82'


def decode_message(message: Any, at_least: tuple[int, int] | None = None) -> Image:
    """Return the picture of a sensor_msgs/Image or sensor_msgs/CompressedImage, whoever deserialised it.

    at_least: (width, height) that suffices; a JPEG or raw picture may come out smaller than it is, but not below.
    """
    if hasattr(message, 'encoding'):
        big_endian = bool(message.is_bigendian)
        return decode_raw(
            message.data, message.width, message.height, message.encoding, message.step, big_endian, at_least
        )
    if hasattr(message, 'format'):
        return decode_compressed(message.data, message.format, at_least)
    raise InvalidInput(f'{type(message).__name__}, expected sensor_msgs/Image or sensor_msgs/CompressedImage')


def decode_raw(
    data: Any,
    width: int,
    height: int,
    encoding: str,
    step: int,
    is_bigendian: bool = False,
    at_least: tuple[int, int] | None = None,
) -> Image:
    """Return the picture of a raw image message; it may share memory with `data` (any byte buffer).

    step: bytes from one row to the next, at least width * bytes per pixel.  All encodings read here have
    one byte per channel, so `is_bigendian` changes nothing.  Others go through cv_bridge where a ROS
    installation brings it, and are refused otherwise.  at_least: (width, height); the picture is halved (means of 2x2
    pixels) while both sides are even and it does not fall below, which saves work later.
    """
    if width < 1 or height < 1:
        raise InvalidInput(f'image of {width}x{height}, expected positive numbers')
    if encoding not in _RAW:
        return _decode_with_cv_bridge(data, width, height, encoding, step, is_bigendian)
    channels, conversion = _RAW[encoding]
    if step < width * channels:
        raise InvalidInput(
            f'image {width}x{height} {encoding}: step is {step}, expected at least {width * channels} '
            '(width * bytes per pixel)'
        )
    flat = np.frombuffer(data, dtype=np.uint8)
    if flat.size != step * height:
        raise InvalidInput(
            f'image {width}x{height} {encoding}: {flat.size} bytes, expected {step * height} (step {step} * height)'
        )
    pixels = flat.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    pixels = _halved(pixels, at_least)
    return pixels if conversion is None else np.asarray(cv2.cvtColor(pixels, conversion))


def _halved(pixels: Image, at_least: tuple[int, int] | None) -> Image:
    """Return pixels [H, W, C] halved while that is exact and suffices: ten times as fast as any other shrinking."""
    while at_least is not None:
        height, width = pixels.shape[:2]
        if height % 2 or width % 2 or width // 2 < at_least[0] or height // 2 < at_least[1]:
            break
        smaller = cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(smaller).reshape(height // 2, width // 2, -1)  # OpenCV drops a single channel's axis
    return pixels


def _decode_with_cv_bridge(data: Any, width: int, height: int, encoding: str, step: int, is_bigendian: bool) -> Image:
    """Read Bayer, YUV, 16-bit ... through cv_bridge, which is part of ROS distributions and not on PyPI."""
    allowed = ', '.join(RAW_ENCODINGS)
    try:
        import cv_bridge
    except ImportError:
        raise InvalidInput(
            f'image encoding {encoding!r}, allowed: {allowed} (and what cv_bridge converts, where it is installed)'
        ) from None
    message = SimpleNamespace(
        data=data, width=width, height=height, encoding=encoding, step=step, is_bigendian=is_bigendian
    )
    try:
        return np.asarray(cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8'))
    except (cv_bridge.CvBridgeError, cv2.error, TypeError, ValueError) as error:
        raise InvalidInput(
            f'image encoding {encoding!r}, allowed: {allowed}; cv_bridge could not convert it: {error}'
        ) from error


def decode_compressed(data: Any, format: str = 'jpeg', at_least: tuple[int, int] | None = None) -> Image:
    """Return the picture of a JPEG or PNG file in `data` (any byte buffer).

    format: as in CompressedImage, such as 'jpeg' or 'bgr8; jpeg compressed bgr8'; it must name one of
    `COMPRESSED_FORMATS`, but the file's own first bytes decide.  at_least: (width, height); a JPEG is
    decoded at 1/2, 1/4 or 1/8 where that is not below it, which saves work.

    A file that ends early is refused (libjpeg would only warn and fill up with grey).  Fill bytes before a marker,
    which many webcams write into every frame, are harmless and let through.
    """
    name = format.lower().replace('jpg', 'jpeg')
    if not any(known in name for known in COMPRESSED_FORMATS) or 'compresseddepth' in name:
        raise InvalidInput(f'compressed image format {format!r}, allowed: {", ".join(COMPRESSED_FORMATS)}')
    view = memoryview(data).cast('B')
    if view[:3] == _JPEG_START:
        return _decode_jpeg(view, at_least)
    if view[:8] == _PNG_START:
        # Noble's OpenCV (4.6) has no IMREAD_COLOR_RGB.
        image = _decode_png(view, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    start = bytes(view[:8]).hex(' ') or 'nothing'
    raise InvalidInput(f'compressed image of {len(view)} bytes is neither JPEG nor PNG: it begins with {start}')


def _decode_jpeg(data: memoryview, at_least: tuple[int, int] | None) -> Image:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        divisor = _divisor(width, height, at_least)
        decode = partial(
            simplejpeg.decode_jpeg,
            data,
            'RGB',
            fastdct=True,
            fastupsample=True,
            min_height=-(-height // divisor),
            min_width=-(-width // divisor),
        )
        try:
            return np.asarray(decode(strict=True))
        except ValueError as error:
            # One warning is told of a file; whether it ends early as well is therefore looked up.
            if not _JPEG_FILLED.match(str(error)) or not _ends(data):
                raise
            return np.asarray(decode(strict=False))
    except (ValueError, KeyError, RuntimeError, MemoryError) as error:  # KeyError: a header that ends early
        raise InvalidInput(f'JPEG of {len(data)} bytes cannot be decoded (truncated or damaged): {error}') from error


def _ends(data: memoryview) -> bool:
    """Return whether a JPEG's last scan is closed by the end marker (in a scan's data neither marker can occur)."""
    whole = bytes(data)
    return whole.rfind(_JPEG_END) > whole.rfind(_JPEG_SCAN)


def _divisor(width: int, height: int, at_least: tuple[int, int] | None) -> int:
    """Return by how much a JPEG may be shrunk while decoding: 1, 2, 4 or 8.

    Powers of two only: libjpeg-turbo has fast code for them, and not for 3/8 or 5/8.  And only where the size is
    (nearly) a multiple: the last row and column are padded, so anything else would stretch the picture.
    """
    for divisor in (8, 4, 2):
        sizes = [(-(-size // divisor), size) for size in (width, height)]
        padded = max(small * divisor / size for small, size in sizes)
        if at_least is not None and padded <= 1.01 and all(s[0] >= a for s, a in zip(sizes, at_least, strict=True)):
            return divisor
    return 1


def _decode_png(data: memoryview, flags: int) -> Image:
    # What a damaged PNG becomes differs between OpenCV's versions, so the end is looked for first.
    if len(data) < _PNG_HEADER or _PNG_END not in bytes(data[-64:]):
        raise InvalidInput(f'PNG of {len(data)} bytes is truncated: its header or its end marker is missing')
    if data[24] != 8:
        raise InvalidInput(f'PNG with {data[24]} bits per channel, expected 8 (is this a depth image?)')
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise InvalidInput(f'PNG of {len(data)} bytes cannot be decoded: {error}') from error
    if image is None:
        raise InvalidInput(f'PNG of {len(data)} bytes cannot be decoded (damaged)')
    return np.asarray(image)


def decode_labels(data: Any) -> npt.NDArray[np.uint8]:
    """Return [H, W] class ids of a one-channel PNG, value for value."""
    view = memoryview(data).cast('B')
    if view[:8] != _PNG_START:
        raise InvalidInput(f'labels of {len(view)} bytes are no PNG')
    labels = _decode_png(view, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if labels.ndim != 2:
        raise InvalidInput(f'labels of shape {labels.shape}, expected a PNG with one channel')
    return labels


def encode_jpeg(image: Image, quality: int = 90, subsampling: str = '444') -> bytes:
    """Return `image` as a JPEG file.  subsampling: of the colour, '444' (none), '422' or '420'."""
    _check_rgb(image)
    if not 1 <= quality <= 100:
        raise InvalidInput(f'JPEG quality {quality}, allowed: 1 to 100')
    if subsampling not in ('444', '422', '420'):
        raise InvalidInput(f'JPEG subsampling {subsampling!r}, allowed: 444, 422, 420')
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, 'RGB', subsampling))


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Return an RGB picture [H, W, 3], or labels [H, W], as a PNG file (lossless)."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        raise InvalidInput(f'PNG of {image.dtype} {image.shape}, expected uint8 [H, W, 3] or [H, W]')
    if image.ndim == 3:
        _check_rgb(image)
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode('.png', image)
    if not ok:
        raise InvalidInput(f'OpenCV could not write a PNG of {image.shape}')
    return data.tobytes()


def _check_rgb(image: npt.NDArray[Any]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InvalidInput(f'image of {image.dtype} {image.shape}, expected uint8 [H, W, 3] RGB')


def has_cv_bridge() -> bool:
    """Whether cv_bridge was imported or can be (for diagnostics)."""
    if 'cv_bridge' in sys.modules:
        return True
    from importlib.util import find_spec

    return find_spec('cv_bridge') is not None
