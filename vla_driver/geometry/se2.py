# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Planar poses: a pose is [x, y, yaw]; `a_from_b` moves coordinates of frame b into frame a."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vla_driver.types import FloatArray


def wrap(angle_rad: npt.ArrayLike) -> FloatArray:
    """Return the angle(s) in [-pi, pi)."""
    return np.asarray((np.asarray(angle_rad, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi)


def compose(pose: npt.ArrayLike, relative: npt.ArrayLike) -> FloatArray:
    """Return [..., 3] the pose reached from `pose` by the motion `relative` given in its own frame."""
    p, r = np.asarray(pose, dtype=np.float64), np.asarray(relative, dtype=np.float64)
    cos, sin = np.cos(p[..., 2]), np.sin(p[..., 2])
    return np.stack(
        [
            p[..., 0] + cos * r[..., 0] - sin * r[..., 1],
            p[..., 1] + sin * r[..., 0] + cos * r[..., 1],
            wrap(p[..., 2] + r[..., 2]),
        ],
        axis=-1,
    )


def relative(origin: npt.ArrayLike, pose: npt.ArrayLike) -> FloatArray:
    """Return [..., 3] `pose` as seen from `origin` (both given in one common frame)."""
    o, p = np.asarray(origin, dtype=np.float64), np.asarray(pose, dtype=np.float64)
    dx, dy = p[..., 0] - o[..., 0], p[..., 1] - o[..., 1]
    cos, sin = np.cos(o[..., 2]), np.sin(o[..., 2])
    return np.stack([cos * dx + sin * dy, -sin * dx + cos * dy, wrap(p[..., 2] - o[..., 2])], axis=-1)


def points_to_local(origin: npt.ArrayLike, points_m: npt.ArrayLike) -> FloatArray:
    """Return [..., 2] points of the common frame in the frame of the pose `origin` [3]."""
    o, p = np.asarray(origin, dtype=np.float64), np.asarray(points_m, dtype=np.float64)
    cos, sin = np.cos(o[2]), np.sin(o[2])
    d = p - o[:2]
    return np.stack([cos * d[..., 0] + sin * d[..., 1], -sin * d[..., 0] + cos * d[..., 1]], axis=-1)


def points_to_global(origin: npt.ArrayLike, points_m: npt.ArrayLike) -> FloatArray:
    """Return [..., 2] points of the frame of the pose `origin` [3] in the common frame."""
    o, p = np.asarray(origin, dtype=np.float64), np.asarray(points_m, dtype=np.float64)
    cos, sin = np.cos(o[2]), np.sin(o[2])
    return np.stack([o[0] + cos * p[..., 0] - sin * p[..., 1], o[1] + sin * p[..., 0] + cos * p[..., 1]], axis=-1)
