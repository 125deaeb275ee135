# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pinhole projection between base_link and pictures (numpy only).

Pixel coordinates as in `geometry.rig`: the picture spans [0, width] x [0, height].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vla_driver.types import CameraModel, FloatArray, InvalidInput

#: Points nearer than this along the optical axis count as behind the camera (their pixels blow up).
NEAR_M = 0.1


def to_camera(camera: CameraModel, points_base: npt.ArrayLike) -> FloatArray:
    """Return points [N, 3] of base_link in the camera's optical frame (x right, y down, z forward)."""
    points = np.asarray(points_base, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InvalidInput(f'points of shape {points.shape}, expected [N, 3] in base_link')
    rotation, position = camera.base_from_camera[:3, :3], camera.base_from_camera[:3, 3]
    return np.asarray((points - position) @ rotation)


def project(camera: CameraModel, points_base: npt.ArrayLike) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Project points [N, 3] of base_link.

    Returns pixels [N, 2] (u right, v down; NaN for points behind the camera), depth [N] in metres along
    the optical axis, and visible [N]: in front of the camera and inside the picture.  Occlusion is not
    looked at.
    """
    points = to_camera(camera, points_base)
    depth = points[:, 2]
    ahead = depth > NEAR_M
    pixels = np.full((len(points), 2), np.nan)
    pixels[ahead] = (points[ahead] @ camera.intrinsics[:2].T) / depth[ahead, None]
    with np.errstate(invalid='ignore'):
        inside = (pixels >= 0.0).all(axis=1) & (pixels < [camera.width, camera.height]).all(axis=1)
    return pixels, depth, ahead & inside


def ray_directions(camera: CameraModel, grid: tuple[int, int]) -> FloatArray:
    """Return [rows, columns, 3]: unit rays in base_link through the centres of grid = (rows, columns) equal cells.

    The rays start at the camera, `camera.base_from_camera[:3, 3]`.
    """
    rows, columns = grid
    if rows < 1 or columns < 1:
        raise InvalidInput(f'grid {grid}, expected (rows, columns), both at least 1')
    u = (np.arange(columns) + 0.5) * camera.width / columns
    v = (np.arange(rows) + 0.5) * camera.height / rows
    pixels = np.stack([*np.meshgrid(u, v), np.ones((rows, columns))], axis=-1)
    rays = pixels @ np.linalg.inv(camera.intrinsics).T @ camera.base_from_camera[:3, :3].T
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))
