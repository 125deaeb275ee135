# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Oriented boxes on the ground, many at once: corners and overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vla_driver.types import FloatArray

_CORNERS = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]])


def corners(pose: npt.ArrayLike, size_m: npt.ArrayLike) -> FloatArray:
    """Return [..., 4, 2] the corners of boxes by the poses of their centres [..., 3] and length, width [..., 2].

    Front left, front right, rear right, rear left.
    """
    pose, size = np.asarray(pose, dtype=np.float64), np.asarray(size_m, dtype=np.float64)
    local = _CORNERS * size[..., None, :]
    cos, sin = np.cos(pose[..., 2, None]), np.sin(pose[..., 2, None])
    x = cos * local[..., 0] - sin * local[..., 1] + pose[..., 0, None]
    y = sin * local[..., 0] + cos * local[..., 1] + pose[..., 1, None]
    return np.stack([x, y], axis=-1)


def overlap(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return [...] whether boxes by their corners, both [..., 4, 2] (broadcast), overlap.

    Separating axes: S. Gottschalk et al., "OBBTree", SIGGRAPH 1996; in the plane, the four sides are all there are.
    """
    first, second = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    apart = np.zeros(first.shape[:-2], dtype=bool)
    for box in (first, second):
        for side in (box[..., 0, :] - box[..., 1, :], box[..., 0, :] - box[..., 3, :]):
            one, other = (np.einsum('...kd,...d->...k', each, side) for each in (first, second))
            apart |= (one.max(axis=-1) < other.min(axis=-1)) | (other.max(axis=-1) < one.min(axis=-1))
    return ~apart
