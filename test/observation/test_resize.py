# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Shrinking averages, enlarging interpolates, the same size costs nothing."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.observation.resize import resize
from vla_driver.types import InvalidInput


def test_same_size_is_the_same_array():
    image = np.zeros((4, 6, 3), np.uint8)
    assert resize(image, 6, 4) is image


def test_shrinking_averages_areas():
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    want = image.reshape(12, 4, 20, 4, 3).mean(axis=(1, 3))
    assert np.abs(resize(image, 20, 12) - want).max() <= 0.5


def test_enlarging_interpolates():
    ramp = np.repeat(np.linspace(0, 240, 9, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(5, axis=0)
    wide = resize(ramp, 90, 5)[0, :, 0].astype(int)
    assert wide.shape == (90,)
    steps = np.diff(wide)
    assert steps.min() >= 0
    assert steps.max() <= 4


def test_one_direction_may_grow_while_the_other_shrinks():
    assert resize(np.zeros((10, 10, 3), np.uint8), 20, 5).shape == (5, 20, 3)


@pytest.mark.parametrize('size', [(0, 4), (4, -1)])
def test_bad_sizes_are_refused(size: tuple[int, int]):
    with pytest.raises(InvalidInput, match='positive'):
        resize(np.zeros((4, 4, 3), np.uint8), *size)


def test_bad_images_are_refused():
    with pytest.raises(InvalidInput, match='float32'):
        resize(np.zeros((4, 4, 3), np.float32), 2, 2)
    with pytest.raises(InvalidInput):
        resize(np.zeros((0, 4, 3), np.uint8), 2, 2)
