# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The two ticks on which graphs are compared with torch: at export, and on every machine before they drive.

First all cameras and nothing remembered, then one camera lost and the first tick remembered.  Made of drawn streets,
because noise shows a model nothing and leaves it undecided; a choice between two equals is decided by rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vla_driver.model.export.manifest import Manifest
from vla_driver.model.native.seeing.arrays import PictureLayout, rig_geometry
from vla_driver.types import CameraModel, Image

Arrays = dict[str, npt.NDArray[Any]]


def street(width: int, height: int, rng: np.random.Generator) -> Image:
    """Return a picture of a street: sky, houses, road, vehicles; uint8 [H, W, 3]."""
    rows = np.linspace(0.0, 1.0, height)[:, None]
    picture = np.where(rows < 0.45, 220 - 60 * rows, 90 + 20 * rows)[..., None] * np.array([0.95, 1.0, 1.05])
    picture = np.broadcast_to(picture, (height, width, 3)).copy()
    for _ in range(12):
        left, top = int(rng.integers(0, width)), int(height * rng.uniform(0.2, 0.5))
        right, bottom = left + int(rng.integers(4, width // 4)), top + int(rng.integers(4, height // 3))
        picture[top:bottom, left:right] = rng.integers(20, 230, 3)
    middle = width // 2
    for row in range(height // 2, height):
        half = (row - height // 2) * width // (2 * height)
        for edge in (middle - half, middle + half):
            picture[row, max(0, edge - 1) : edge + 1] = 235
    return (picture + rng.normal(0.0, 4.0, picture.shape)).clip(0, 255).astype(np.uint8)


def sample_rays(layout: PictureLayout) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return rays [1, P, 3] and origins [1, C, 3] of cameras that look around evenly, the first one ahead."""
    cameras, count, number = {}, len(layout.camera_names), 0
    for (width, height), names in layout.camera_groups:
        for name in names:
            yaw = 2 * np.pi * number / count
            ahead, left = np.array([np.cos(yaw), np.sin(yaw), 0.0]), np.array([-np.sin(yaw), np.cos(yaw), 0.0])
            pose = np.eye(4)
            pose[:3, :3] = np.stack([-left, np.array([0.0, 0.0, -1.0]), ahead], axis=1)
            pose[:3, 3] = 1.0 + 0.8 * ahead[0], 0.5 * ahead[1], 1.5
            focal = 0.8 * width
            intrinsics = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
            cameras[name] = CameraModel(name, width, height, intrinsics, pose)
            number += 1
    rays, origins = rig_geometry(layout, cameras)
    return rays[None], origins[None]


def sample_ticks(layout: PictureLayout, pooled: int, ticks: int, width: int, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Return what goes into the graphs at both ticks, without what other graphs make (`rig`, `pooled` of the first).

    pooled, ticks, width: M, S and D of model/tokens.py.
    """
    rng, made = np.random.default_rng(seed), []
    cameras = len(layout.camera_names)
    for number in range(2):
        arrays: Arrays = {
            f'images_{place}': np.stack([street(*size, rng) for _ in names])[None]
            for place, (size, names) in enumerate(layout.camera_groups)
        }
        present = np.ones((1, cameras), dtype=bool)
        if number and cameras > 1:
            present[0, -1] = False
            arrays[f'images_{len(layout.camera_groups) - 1}'][0, -1] = 0
        arrays |= {
            'present': present,
            'remembered_features': np.zeros((1, ticks, pooled, width), np.float32),
            'remembered_valid': np.full((1, ticks), bool(number)),
            'motion': np.tile(np.array([-4.0, 0.1, 0.02], np.float32) * number, (1, ticks, 1)),
            'age_s': np.full((1, ticks), 0.5 * number, np.float32),
            'speed_mps': np.array([8.0], np.float32),
            'yaw_rate_rps': np.array([0.02], np.float32),
            'command': np.array([0], np.int64),
            'command_distance_m': np.array([40.0], np.float32),
            # At the second tick the slow half has said to slow down, 0.4 s ago and with weight 0.8.
            'intent_kinds': np.array([[2 * number, 1 * number, 1 * number]], np.int64),
            'intent_numbers': np.array([[4.0, 1.0, 15.0, 1.0, 0.4, 0.9, 0.8]], np.float32) * number,
            'targets_m': np.array([[[25.0, 0.5], [60.0, 2.0]]], np.float32),
        }
        made.append(arrays)
    return made[0], made[1]


def sample_index(tokens: int) -> npt.NDArray[np.int64]:
    """Return which tokens stay where the sample is pruned, [1, K]: every other one."""
    return np.arange(0, tokens, 2, dtype=np.int64)[None]


def of_camera(manifest: Manifest) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return camera, row and column [N] of every token."""
    cells, first = [], 0
    for size, names in manifest.camera_groups:
        rows, columns = manifest.token_grid(size)
        grid = np.stack(np.meshgrid(range(first, first + len(names)), range(rows), range(columns), indexing='ij'))
        cells.append(grid.reshape(3, -1))
        first += len(names)
    camera, row, column = np.concatenate(cells, axis=1).astype(np.int64)
    return camera, row, column
