# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures to JPEG and PNG files."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from vla_driver.types import Image, InvalidInput


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
