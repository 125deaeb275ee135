# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Kept cells are shown as they are, dropped ones dark and grey."""

from __future__ import annotations

import numpy as np

from vla_driver.show.tokens import draw_foreground, draw_kept, kept_mosaic
from vla_driver.types import CAMERA_NAMES


def test_dropped_cells_are_dark_and_kept_ones_unchanged() -> None:
    image = np.random.default_rng(0).integers(100, 255, (60, 100, 3), dtype=np.uint8)
    kept = np.zeros((3, 5), bool)
    kept[1, 2] = True
    shown = draw_kept(image, kept)
    inside = np.s_[22:38, 42:58]
    np.testing.assert_array_equal(shown[inside], image[inside])
    outside = shown[:18]
    assert outside.max() < 60
    assert (outside[..., 0] == outside[..., 1]).all()
    np.testing.assert_array_equal(draw_kept(image, np.ones((3, 5), bool)), image)


def test_foreground_is_tinted() -> None:
    grey = np.full((20, 40, 3), 128, np.uint8)
    shown = draw_foreground(grey, np.array([[True, True]]), np.array([[False, True]]))
    left, right = shown[10, 10].astype(int), shown[10, 30].astype(int)
    assert left[1] > left[0] + 20  # green
    assert right[0] > right[1] + 20  # pink


def test_the_mosaic_darkens_the_camera_that_lost_its_tokens() -> None:
    images = dict.fromkeys(CAMERA_NAMES, np.full((96, 160, 3), 200, np.uint8))
    kept = {name: np.full((3, 5), name != 'back') for name in CAMERA_NAMES}
    sheet = kept_mosaic(images, kept, (160, 96))
    tiles = {name: sheet[40 + 99 * (k // 3), 80 + 163 * (k % 3)].mean() for k, name in enumerate(CAMERA_NAMES)}
    assert tiles['back'] < 60
    assert min(value for name, value in tiles.items() if name != 'back') > 190
    assert kept_mosaic(images, None, (160, 96))[40, 80].mean() > 190
