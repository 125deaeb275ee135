# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a pinhole's picture of a lens': a table per decoded size, made once, in the thread that decodes."""

from __future__ import annotations

import threading
from typing import Any, Final

import cv2
import numpy as np

from vla_driver.geometry.distortion import Lens, undistortion_table
from vla_driver.types import FloatArray, Image

#: Pictures of a camera come decoded to one size, seldom two (raw and compressed at once).
_TABLES: Final = 3


class Undistorter:
    """Undistorts the pictures of one lens to the pinhole of `matrix` [3, 3]; safe to call from several threads."""

    def __init__(self, lens: Lens, matrix: FloatArray) -> None:
        self.lens, self.matrix = lens, matrix
        self._tables: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, image: Image) -> Image:
        """Return the undistorted picture [H, W, 3], of the size of `image`; what the lens did not see is black."""
        height, width = image.shape[:2]
        first, second = self._table(width, height)
        return np.asarray(cv2.remap(image, first, second, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))

    def _table(self, width: int, height: int) -> tuple[Any, Any]:
        with self._lock:
            found = self._tables.get((width, height))
            if found is None:
                table = undistortion_table(self.lens, self.matrix, width, height)
                # In fixed point OpenCV is faster; it divides a pixel by 32.
                found = cv2.convertMaps(table[..., 0], table[..., 1], cv2.CV_16SC2)
                if len(self._tables) >= _TABLES:
                    self._tables.pop(next(iter(self._tables)))
                self._tables[width, height] = found
            return found
