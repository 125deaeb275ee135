# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Detail textures: one small grey array texture that every static surface is multiplied with.

A surface without detail samples the plain layer, so that one shader (and one draw call per chunk)
serves roads, grass, house fronts and trees alike.
"""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

#: Texels per side, and the texel value that leaves a colour as it is.
SIZE = 128
NEUTRAL = 190
#: Metres that one repeat covers on the ground, and on a facade (four windows of 3.2 m).
GROUND_TILE_M = 9.0
FACADE_TILE_M = 12.8


class Layer(enum.IntEnum):
    """Index of a layer in the array texture."""

    PLAIN = 0
    ASPHALT = 1
    PAVING = 2
    GRASS = 3
    CLOUD = 4
    FACADE_GRID = 5
    FACADE_BAND = 6
    FACADE_HOUSE = 7


def _noise(rng: np.random.Generator, octaves: tuple[tuple[int, float], ...]) -> npt.NDArray[np.float64]:
    """Return [SIZE, SIZE] tileable value noise of standard deviation 1: a sum of periodic cells."""
    total = np.zeros((SIZE, SIZE))
    for cells, weight in octaves:
        grid = rng.normal(size=(cells, cells))
        at = np.arange(SIZE) * cells / SIZE
        low = at.astype(int)
        t = at - low
        t = t * t * (3 - 2 * t)
        high = (low + 1) % cells
        rows = grid[low] * (1 - t)[:, None] + grid[high] * t[:, None]
        total += weight * (rows[:, low] * (1 - t) + rows[:, high] * t)
    return np.asarray((total - total.mean()) / total.std())


def _facade(rng: np.random.Generator, layer: Layer) -> npt.NDArray[np.float64]:
    image = NEUTRAL + 4 * rng.normal(size=(SIZE, SIZE))
    cell = SIZE // 4
    for row in range(4):
        for column in range(4):
            glass = rng.uniform(60, 110)
            y, x = row * cell, column * cell
            if layer is Layer.FACADE_BAND:
                image[y + 8 : y + 24, x : x + cell] = glass
                image[y + 8 : y + 24, x : x + 2] = 150
            elif layer is Layer.FACADE_HOUSE:
                image[y + 8 : y + 24, x + 11 : x + 21] = 235
                image[y + 9 : y + 23, x + 12 : x + 20] = glass
                image[y + 9 : y + 23, x + 16] = 235
            else:
                image[y + 6 : y + 26, x + 6 : x + 26] = 225
                image[y + 7 : y + 25, x + 7 : x + 25] = glass
    return image


def detail_layers(seed: int) -> npt.NDArray[np.uint8]:
    """Return [layers, SIZE, SIZE] uint8 grey detail, different for every seed."""
    rng = np.random.default_rng(seed)
    layers = np.full((len(Layer), SIZE, SIZE), float(NEUTRAL))
    layers[Layer.ASPHALT] += 9 * _noise(rng, ((4, 1.0), (16, 0.8), (64, 1.0), (128, 0.8)))
    layers[Layer.PAVING] += 6 * _noise(rng, ((8, 1.0), (64, 1.0)))
    layers[Layer.PAVING, ::16] -= 28
    layers[Layer.PAVING, :, ::16] -= 28
    layers[Layer.GRASS] += 15 * _noise(rng, ((4, 1.0), (16, 1.0), (32, 1.0), (128, 0.7)))
    clouds = _noise(rng, ((3, 1.0), (6, 0.7), (12, 0.5), (24, 0.35), (48, 0.2)))
    layers[Layer.CLOUD] = 255 * np.clip(0.25 + 0.45 * clouds, 0, 1)
    for layer in (Layer.FACADE_GRID, Layer.FACADE_BAND, Layer.FACADE_HOUSE):
        layers[layer] = _facade(rng, layer)
    return np.clip(layers, 0, 255).astype(np.uint8)
