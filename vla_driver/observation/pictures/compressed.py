# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed pictures: JPEG, PNG and what else sensor_msgs/CompressedImage is found to hold.

The file's first bytes say what it is; `format` is often empty, or an encoding.  What it is asked for is what the
camera's picture was before: image_transport compresses a mosaic as if it were grey, and depth as if it were a picture.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from vla_driver.observation.pictures.shared import MOSAICS, check_size, demosaic, halved, refuse_depth, to_8_bits
from vla_driver.types import Image, InvalidInput

COMPRESSED_FORMATS: Final = ('jpeg', 'png', 'webp', 'tiff', 'bmp')

#: A mosaic as ROS (bayer_rggb8), V4L2 (SRGGB10) and GenICam (BayerRG12p: its first row alone) call it: pattern, first
#: row, bits, whether pixels share bytes.  `bayerrg2rgb` is OpenCV's, which means another pattern.
_MOSAIC: Final = re.compile(
    rf'(?:({"|".join(MOSAICS)})|bayer[\W_]*(rg|bg|gb|gr)(?!2?[a-z]))[\W_]?(\d*)(_?p(?:acked)?(?![a-z]))?'
)
_OTHER_MOSAIC: Final = re.compile(r'bayer|rccb|rccc')
_YUV: Final = re.compile(r'yuv|yvu|yuy|yvy|uyvy|vyuy|ycbcr|ycrcb|nv(12|21|16|61|24|42)|i420|yv12')
#: Beside what is refused of any file: two channels compressed as one, and other names of depth.
_NO_GREY: Final = re.compile(r'\d[usf]c2(?!\d)|z16|depth|disparity')
_PNG_HEADER: Final = 33  # bytes of the signature and of the first chunk, which says size and depth
#: What libjpeg warns of when a camera fills up between the picture's data and the next marker: nothing is lost.
_JPEG_FILLED: Final = re.compile(r'^Corrupt JPEG data: \d+ extraneous bytes before marker')
_JPEG_SCAN, _JPEG_END = b'\xff\xda', b'\xff\xd9'
_JPEG_START, _PNG_START, _PNG_END = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'IEND\xaeB\x60\x82'
_TIFF_STARTS: Final = (b'II*\0', b'MM\0*')


def kind_of(data: memoryview) -> str:
    """Return which of COMPRESSED_FORMATS a file's first bytes begin; '' for none of them."""
    start = bytes(data[:12])
    if start[:3] == _JPEG_START:
        return 'jpeg'
    if start[:8] == _PNG_START:
        return 'png'
    if start[:4] == b'RIFF' and start[8:] == b'WEBP':
        return 'webp'
    if start[:4] in _TIFF_STARTS:
        return 'tiff'
    return 'bmp' if start[:2] == b'BM' else ''


def decode_compressed(data: Any, format: str = 'jpeg', at_least: tuple[int, int] | None = None) -> Image:
    """Return the picture of a file in `data` (any byte buffer), of a kind of `COMPRESSED_FORMATS`.

    format: as in CompressedImage, such as 'jpeg', '' or 'bayer_rggb8; jpeg compressed bgr8'.  The first bytes tell the
    kind of file.  A grey file of a camera with a mosaic (bayer_..., anywhere in `format`) is one, and gets its colours
    back; depth is refused, and so is a grey file of a camera that sends YUV.  16 bits per channel become 8 where the
    format, or colour, says that they are brightness.  at_least: (width, height); a JPEG is decoded at 1/2, 1/4 or 1/8
    where that is not below it, which saves work.

    A file that ends early is refused (libjpeg would only warn and fill up with grey).  Fill bytes before a marker,
    which many webcams write into every frame, are harmless and let through.
    """
    refuse_depth(format, 'compressed image format')
    view = memoryview(data).cast('B')
    kind = kind_of(view)
    if kind == 'jpeg':
        return _decode_jpeg(view, format, at_least)
    if kind:
        flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        return _picture_of(_decode_file(view, kind, flags), format, at_least)
    start = bytes(view[:8]).hex(' ') or 'nothing'
    raise InvalidInput(
        f'compressed image of {len(view)} bytes is neither JPEG nor PNG nor any other of '
        f'{", ".join(COMPRESSED_FORMATS)}: it begins with {start} (format {format!r})'
    )


def _decode_jpeg(data: memoryview, format: str, at_least: tuple[int, int] | None) -> Image:
    with _jpeg_errors(data):
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    check_size(width, height)
    if colours == 'Gray' and _mosaic_named(format) is not None:
        # Whole: in a smaller one the colours of a mosaic would be mixed.
        return _picture_of(_jpeg_pixels(data, 'GRAY', height, width)[..., 0], format, at_least)
    divisor = _divisor(width, height, at_least)
    return _jpeg_pixels(data, 'RGB', -(-height // divisor), -(-width // divisor))


def _jpeg_pixels(data: memoryview, colours: str, height: int, width: int) -> Image:
    """Return [H, W, C] in the colour space named, not smaller than asked."""
    decode = partial(
        simplejpeg.decode_jpeg, data, colours, fastdct=True, fastupsample=True, min_height=height, min_width=width
    )
    with _jpeg_errors(data):
        try:
            return np.asarray(decode(strict=True))
        except ValueError as error:
            # One warning is told of a file; whether it ends early as well is therefore looked up.
            if not _JPEG_FILLED.match(str(error)) or not _ends(data):
                raise
            return np.asarray(decode(strict=False))


@contextlib.contextmanager
def _jpeg_errors(data: memoryview) -> Iterator[None]:
    try:
        yield
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


def _mosaic_named(format: str) -> tuple[str, int] | None:
    """Return (pattern, bits; 0: not said) of the mosaic that a grey file is, None where it is grey.

    Raises InvalidInput where the format says that it is neither.
    """
    lower = format.lower()
    if _YUV.search(lower):
        raise InvalidInput(
            f'compressed image of a camera that sends {format!r}, but the file is grey: YUV was compressed as if it '
            'were brightness, and is lost; let the driver send rgb8 or bgr8, or take its raw topic'
        )
    found = list(_MOSAIC.finditer(lower))
    patterns = {one[1] or next(m for m in MOSAICS if m.startswith(one[2])) for one in found}
    if len(patterns) > 1 or (not patterns and _OTHER_MOSAIC.search(lower)) or any(one[4] for one in found):
        raise InvalidInput(
            f'compressed image of a camera that sends {format!r}, but the file is grey: a mosaic whose pattern or '
            f'packing is not known; let the driver send rgb8 or bgr8, or one of {", ".join(MOSAICS)} as bayer_...8'
        )
    if not patterns and _NO_GREY.search(lower):
        raise InvalidInput(
            f'compressed image of one channel, format {format!r}: neither colours nor brightness (depth, say); name '
            "the camera's colour topic instead"
        )
    return (patterns.pop(), max(int(one[3] or 0) for one in found)) if patterns else None


def _picture_of(pixels: npt.NDArray[Any], format: str, at_least: tuple[int, int] | None) -> Image:
    """Return the RGB picture of a file's pixels, [H, W] or BGR [H, W, 3], of a camera that `format` tells of."""
    check_size(pixels.shape[1], pixels.shape[0])
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InvalidInput(f'compressed image of {pixels.dtype}, expected 8 or 16 bits per channel (is this depth?)')
    if pixels.ndim == 3:
        eight = pixels if pixels.dtype == np.uint8 else to_8_bits(pixels)
        # Noble's OpenCV (4.6) has no IMREAD_COLOR_RGB.
        return np.asarray(cv2.cvtColor(eight, cv2.COLOR_BGR2RGB))
    mosaic = _mosaic_named(format)
    encoding = format.partition(';')[0].strip().lower()
    if pixels.dtype == np.uint16 and mosaic is None and encoding != 'mono16':
        raise InvalidInput(
            f'compressed image of one channel with 16 bits, format {encoding!r}: is this a depth image?  Brightness '
            'is said by the format: mono16; png compressed'
        )
    if mosaic is not None:
        if pixels.dtype == np.uint16 and mosaic[1] not in (0, 8, 16):
            raise InvalidInput(
                f'compressed image of 16 bits, format {format!r}: which {mosaic[1]} of them are meant is not said; let '
                f'the driver send bayer_{mosaic[0]}8 or bayer_{mosaic[0]}16'
            )
        colours = demosaic(pixels, mosaic[0])
        return halved(colours if pixels.dtype == np.uint8 else to_8_bits(colours), at_least)
    return np.asarray(cv2.cvtColor(pixels if pixels.dtype == np.uint8 else to_8_bits(pixels), cv2.COLOR_GRAY2RGB))


def _png_ends(data: memoryview) -> bool:
    """Return whether a PNG's chunks lead to its end marker; what lies behind it does not matter."""
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 12] == _PNG_END:
            return True
        at += 12 + int.from_bytes(data[at : at + 4], 'big')
    return False


def _decode_file(data: memoryview, kind: str, flags: int) -> npt.NDArray[Any]:
    """Return what OpenCV makes of a file."""
    if kind == 'png':
        # What a damaged PNG becomes differs between OpenCV's versions, so the end is looked for first.
        if len(data) < _PNG_HEADER or not _png_ends(data):
            raise InvalidInput(f'PNG of {len(data)} bytes is truncated: its header or its end marker is missing')
        check_size(int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big'))
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise InvalidInput(f'{kind.upper()} of {len(data)} bytes cannot be decoded: {error}') from error
    if image is None:
        raise InvalidInput(
            f'{kind.upper()} of {len(data)} bytes cannot be decoded (truncated, damaged, or unknown to OpenCV)'
        )
    return np.asarray(image)


def decode_labels(data: Any) -> npt.NDArray[np.uint8]:
    """Return [H, W] class ids of a one-channel PNG with 8 bits, value for value."""
    view = memoryview(data).cast('B')
    if kind_of(view) != 'png':
        raise InvalidInput(f'labels of {len(view)} bytes are no PNG')
    labels = _decode_file(view, 'png', cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise InvalidInput(f'labels of {labels.dtype} {labels.shape}, expected a PNG with one channel of 8 bits')
    return labels
