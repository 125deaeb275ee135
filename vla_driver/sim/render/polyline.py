# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Polylines in the plane: sideways offset, flat strips, and dashes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_driver.types import FloatArray


def clean(points: FloatArray) -> FloatArray:
    """Return the polyline [N, 2] without repeated points."""
    step = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.asarray(points[np.concatenate([[True], step > 1e-3])])


def offset(points: FloatArray, left_m: float) -> FloatArray:
    """Return the polyline [N, 2] moved to its left by `left_m`, corners mitred (at most twice as far)."""
    direction = np.diff(points, axis=0)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    before, after = np.vstack([normal[:1], normal]), np.vstack([normal, normal[-1:]])
    middle = before + after
    scale = 2.0 / np.maximum(np.einsum('ij,ij->i', middle, middle), 1.0)
    return np.asarray(points + left_m * middle * scale[:, None])


def length(points: FloatArray) -> float:
    """Return the polyline's length in metres."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def part(points: FloatArray, start_m: float, end_m: float) -> FloatArray:
    """Return the piece [M, 2] between two arc lengths (clipped to the polyline)."""
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    start, end = np.clip([start_m, end_m], 0.0, s[-1])
    inner = points[(s > start + 1e-6) & (s < end - 1e-6)]
    ends = np.stack([np.interp([start, end], s, points[:, 0]), np.interp([start, end], s, points[:, 1])], axis=1)
    return np.vstack([ends[:1], inner, ends[1:]])


def pieces(points: FloatArray, dash_m: float, gap_m: float) -> Iterator[FloatArray]:
    """Yield dashes of a polyline; with gap_m = 0, the whole of it cut into pieces of at most dash_m."""
    total = length(points)
    start = 0.5 * gap_m
    while start < total - (0.05 if gap_m == 0 else 0.5 * dash_m):
        yield part(points, start, start + dash_m)
        start += dash_m + gap_m
