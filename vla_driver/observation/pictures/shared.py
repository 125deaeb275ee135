# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What raw, compressed and video pictures have in common: mosaics, depth, 16 bits, shrinking.

Nothing here knows a message.  Pictures are RGB, uint8 [H, W, 3].
"""

from __future__ import annotations

import re
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from vla_driver.types import Image, InvalidInput

#: A header that tells of more is damaged, and would cost all memory: the largest automotive cameras have 8 megapixels.
MAX_PIXELS: Final = 1 << 27
#: ROS names a mosaic by its first two rows, OpenCV by the second row's second and third pixel.
_DEMOSAIC: Final = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
MOSAICS: Final = tuple(_DEMOSAIC)
_MOSAIC: Final = re.compile(r'bayer_(rggb|bggr|gbrg|grbg)(8|16)')
#: One channel of anything but bytes: millimetres or metres.  `8UC1` is a grey picture.
_DEPTH: Final = re.compile(r'(8s|16u|16s|32s|32f|64f)c1\b|compresseddepth|^depth')


def mosaic_of(encoding: str) -> tuple[str, int] | None:
    """Return (pattern, bits) of an encoding such as 'bayer_rggb8'; None of any other."""
    found = _MOSAIC.fullmatch(encoding)
    return None if found is None else (found[1], int(found[2]))


def refuse_depth(encoding: str, what: str) -> None:
    """Raise InvalidInput where `encoding` says that the numbers are distances; `what` names the message."""
    if _DEPTH.search(encoding.lower()):
        raise InvalidInput(
            f'{what} {encoding!r} holds one number per pixel (depth, say), not colours or brightness: name the '
            "camera's colour topic instead"
        )


def check_size(width: int, height: int) -> None:
    """Raise InvalidInput for a size that is no picture's."""
    if width < 1 or height < 1:
        raise InvalidInput(f'image of {width}x{height}, expected positive numbers')
    if width * height > MAX_PIXELS:
        raise InvalidInput(f'image of {width}x{height}, expected at most {MAX_PIXELS} pixels: a damaged header?')


def demosaic(mosaic: npt.NDArray[Any], pattern: str) -> npt.NDArray[Any]:
    """Return [H, W, 3] RGB of a mosaic [H, W] (bilinear, as image_proc and cv_bridge do), in its own dtype.

    pattern: one of MOSAICS.  At least two pixels each way, or there is no colour to be found.
    """
    if min(mosaic.shape) < 2:
        raise InvalidInput(f'mosaic of {mosaic.shape[1]}x{mosaic.shape[0]}, expected at least 2x2')
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(mosaic), _DEMOSAIC[pattern]))


def to_8_bits(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return 16-bit pixels as bytes: 65535 becomes 255, rounded to the nearest, as cv_bridge does."""
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0)).reshape(pixels.shape)


def halved(pixels: Image, at_least: tuple[int, int] | None) -> Image:
    """Return pixels [H, W, C] halved while that is exact and suffices: ten times as fast as any other shrinking.

    at_least: (width, height) that it does not fall below; None: as it is.
    """
    while at_least is not None:
        height, width = pixels.shape[:2]
        if height % 2 or width % 2 or width // 2 < at_least[0] or height // 2 < at_least[1]:
            break
        smaller = cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(smaller).reshape(height // 2, width // 2, -1)  # OpenCV drops a single channel's axis
    return pixels
