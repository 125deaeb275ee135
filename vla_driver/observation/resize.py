# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Bring a picture to a model's input size."""

from __future__ import annotations

import cv2
import numpy as np

from vla_driver.types import Image, InvalidInput


def resize(image: Image, width: int, height: int) -> Image:
    """Return `image` [H, W, 3] uint8 at [height, width, 3]; the same array where it already has that size.

    Shrinking averages areas (INTER_AREA), so that thin things such as lane lines fade instead of flickering;
    enlarging in either direction interpolates linearly.
    """
    if width < 1 or height < 1:
        raise InvalidInput(f'resize to {width}x{height}, expected positive numbers')
    if image.dtype != np.uint8 or image.ndim != 3 or 0 in image.shape:
        raise InvalidInput(f'resize of {image.dtype} {image.shape}, expected uint8 [H, W, C] with H and W at least 1')
    if image.shape[:2] == (height, width):
        return image
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
