# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Raw pictures: sensor_msgs/Image in every encoding that colour cameras have.

OpenCV converts them all.  cv_bridge is not asked: built for NumPy 1 beside NumPy 2 (Debian's is) it imports, then
raises, then ends the process with a segmentation fault.

YUV is BT.601 with values of 16 to 235, as drivers and cv_bridge take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vla_driver.observation.pictures.shared import (
    MOSAICS,
    check_size,
    demosaic,
    halved,
    mosaic_of,
    refuse_depth,
    to_8_bits,
)
from vla_driver.types import Image, InvalidInput


class _Packed(NamedTuple):
    """Channels that lie side by side: how many, bits of each, OpenCV's conversion to RGB (None: it is RGB)."""

    channels: int
    bits: int
    conversion: int | None


_PACKED: Final = {
    'rgb8': _Packed(3, 8, None),
    'bgr8': _Packed(3, 8, cv2.COLOR_BGR2RGB),
    'rgba8': _Packed(4, 8, cv2.COLOR_RGBA2RGB),
    'bgra8': _Packed(4, 8, cv2.COLOR_BGRA2RGB),
    'mono8': _Packed(1, 8, cv2.COLOR_GRAY2RGB),
    'rgb16': _Packed(3, 16, None),
    'bgr16': _Packed(3, 16, cv2.COLOR_BGR2RGB),
    'rgba16': _Packed(4, 16, cv2.COLOR_RGBA2RGB),
    'bgra16': _Packed(4, 16, cv2.COLOR_BGRA2RGB),
    'mono16': _Packed(1, 16, cv2.COLOR_GRAY2RGB),
    # OpenCV's own names say nothing of colours; whoever publishes them means OpenCV's order.
    '8UC1': _Packed(1, 8, cv2.COLOR_GRAY2RGB),
    '8UC3': _Packed(3, 8, cv2.COLOR_BGR2RGB),
    '8UC4': _Packed(4, 8, cv2.COLOR_BGRA2RGB),
    '16UC3': _Packed(3, 16, cv2.COLOR_BGR2RGB),
    '16UC4': _Packed(4, 16, cv2.COLOR_BGRA2RGB),
}
#: Two bytes per pixel, every second pixel's colour: brightness and colour lie side by side.
_YUV_422: Final = {
    'uyvy': cv2.COLOR_YUV2RGB_UYVY,
    'yuv422': cv2.COLOR_YUV2RGB_UYVY,
    'yuyv': cv2.COLOR_YUV2RGB_YUY2,
    'yuv422_yuy2': cv2.COLOR_YUV2RGB_YUY2,
    'yvyu': cv2.COLOR_YUV2RGB_YVYU,
}
#: The brightness of the whole picture, then the colour of 2x2 pixels, interleaved (nv) or one plane after the other.
_YUV_420: Final = {
    'nv12': cv2.COLOR_YUV2RGB_NV12,
    'nv21': cv2.COLOR_YUV2RGB_NV21,
    'i420': cv2.COLOR_YUV2RGB_I420,
    'yv12': cv2.COLOR_YUV2RGB_YV12,
}
_PLANES: Final = ('i420', 'yv12')
#: The brightness of the whole picture, then the colour of every pixel, interleaved.
_YUV_444: Final = {'nv24': cv2.COLOR_YUV2RGB_NV12, 'nv42': cv2.COLOR_YUV2RGB_NV21}
RAW_ENCODINGS: Final = (
    *_PACKED, *(f'bayer_{m}{bits}' for bits in (8, 16) for m in MOSAICS), *_YUV_422, *_YUV_420, *_YUV_444
)  # fmt: skip
#: What drivers call the same.
_OTHER_NAMES: Final = {
    **{name.lower(): name for name in RAW_ENCODINGS},
    'rgb': 'rgb8',
    'bgr': 'bgr8',
    'rgba': 'rgba8',
    'bgra': 'bgra8',
    'mono': 'mono8',
    'grey': 'mono8',
    'gray': 'mono8',
    'y8': 'mono8',
    'y16': 'mono16',
    'uyvy422': 'uyvy',
    'yuv422_uyvy': 'uyvy',
    'yuy2': 'yuyv',
    'yuyv422': 'yuyv',
    'yuv422_yuyv': 'yuyv',
    'yuv420': 'i420',
    'yuv420p': 'i420',
    'iyuv': 'i420',
}


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

    encoding: one of RAW_ENCODINGS, whatever its case.  step: bytes from one row to the next; 0, where nobody filled it
    in, means rows without padding.  The last row's padding may be absent, and bytes may follow the picture.
    is_bigendian: of channels of 16 bits, which become 8.  at_least: (width, height); the picture is halved (means of
    2x2 pixels) while both sides are even and it does not fall below, which saves work later.

    Raises InvalidInput for other encodings, depth among them, for sizes that an encoding cannot have, and for too few
    bytes.
    """
    check_size(width, height)
    name = encoding.strip().lower()
    name = _OTHER_NAMES.get(name, name)
    if name not in RAW_ENCODINGS:
        refuse_depth(encoding, 'image encoding')
        raise InvalidInput(f'image encoding {encoding!r}, allowed: {", ".join(RAW_ENCODINGS)}')
    source = _Source(np.frombuffer(data, dtype=np.uint8), f'image {width}x{height} {encoding}', step)
    if name in _PACKED:
        # Halved before its colours are converted, which is as exact.
        layout = _PACKED[name]
        row = width * layout.channels * layout.bits // 8
        pixels = _channels(source.rows(height, row), layout.channels, layout.bits, is_bigendian)
        pixels = halved(pixels if layout.bits == 8 else to_8_bits(pixels), at_least)
        return pixels if layout.conversion is None else np.asarray(cv2.cvtColor(pixels, layout.conversion))
    return halved(_converted(source, width, height, name, is_bigendian), at_least)


def _converted(source: _Source, width: int, height: int, name: str, is_bigendian: bool) -> Image:
    """Return the RGB picture of a mosaic or of YUV."""
    if (mosaic := mosaic_of(name)) is not None:
        pattern, bits = mosaic
        pixels = _channels(source.rows(height, width * bits // 8), 1, bits, is_bigendian)[..., 0]
        colours = demosaic(pixels, pattern)
        return colours if bits == 8 else to_8_bits(colours)
    if name in _YUV_422:
        source.check_even(width=width)
        pairs = np.ascontiguousarray(source.rows(height, 2 * width)).reshape(height, width, 2)
        return np.asarray(cv2.cvtColor(pairs, _YUV_422[name]))
    if name in _YUV_420:
        source.check_even(width=width, height=height)
        step = source.brightness_step(height, width, 3 * width // 2)
        luma = source.rows(height, width, step)
        if name in _PLANES:
            chroma = source.rows(height, width // 2, step // 2, step * height).reshape(height // 2, width)
        else:
            chroma = source.rows(height // 2, width, step, step * height)
        return np.asarray(cv2.cvtColor(np.vstack([luma, chroma]), _YUV_420[name]))
    step = source.brightness_step(height, width, 3 * width)
    luma = source.rows(height, width, step)
    chroma = source.rows(height, 2 * width, 2 * step, step * height)
    # OpenCV has no conversion for 4:4:4: as 4:2:0 with every brightness four times it comes out exactly.
    doubled = np.vstack([luma.repeat(2, axis=0).repeat(2, axis=1), chroma])
    return np.ascontiguousarray(cv2.cvtColor(doubled, _YUV_444[name])[::2, ::2])


def _channels(rows: npt.NDArray[np.uint8], channels: int, bits: int, is_bigendian: bool) -> npt.NDArray[Any]:
    """Return rows [H, bytes] as [H, W, channels] of 8 or 16 bits, in this machine's byte order."""
    if bits == 8:
        return rows.reshape(len(rows), -1, channels)
    words = np.ascontiguousarray(rows).view('>u2' if is_bigendian else '<u2')
    return words.astype(np.uint16, copy=False).reshape(len(rows), -1, channels)


@dataclass(frozen=True)
class _Source:
    """A message's bytes [N]; what: names it in errors; step: as in the message."""

    flat: npt.NDArray[np.uint8]
    what: str
    step: int

    def rows(self, count: int, row: int, step: int | None = None, start: int = 0) -> npt.NDArray[np.uint8]:
        """Return [count, row]: `row` bytes every `step` bytes (default: the message's), from `start` on."""
        step = (self.step or row) if step is None else step
        if step < row:
            raise InvalidInput(f'{self.what}: step is {step}, expected at least {row} (width * bytes per pixel)')
        if self.flat.size < start + step * (count - 1) + row:
            raise InvalidInput(
                f'{self.what}: {self.flat.size} bytes, expected {start + step * count} ({count} rows, one every {step} '
                f"bytes{f', from byte {start} on' if start else ''}; only the last row's padding may be absent)"
            )
        return np.ndarray((count, row), np.uint8, self.flat.data, start, (step, 1))

    def brightness_step(self, height: int, width: int, per_row: int) -> int:
        """Return the step of the brightness: the message's, or `width` where it counts the colour too (`per_row`)."""
        counts_all = self.step == per_row and self.flat.size < 2 * per_row * height - per_row * height // 2
        return width if self.step == 0 or counts_all else self.step

    def check_even(self, **sizes: int) -> None:
        """Refuse odd sizes, which an encoding that shares colour among pixels cannot have."""
        for what, size in sizes.items():
            if size % 2:
                raise InvalidInput(f'{self.what}: {what} {size} is odd, expected even (pixels share their colour)')
