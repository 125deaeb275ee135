# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Lenses against OpenCV's own projection, and the pinhole that pictures are undistorted to."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from vla_driver.geometry.distortion import (
    MAX_FOV_DEG,
    Lens,
    fields_of_view_deg,
    read_model,
    undistorted_matrix,
    undistortion_table,
)

WIDTH, HEIGHT = 320, 200
K = np.array([[165.0, 0.0, 156.0], [0.0, 163.0, 103.0], [0.0, 0.0, 1.0]])
FISHEYE_K = np.array([[95.0, 0.0, 156.0], [0.0, 95.0, 103.0], [0.0, 0.0, 1.0]])
LENSES = {
    'plumb_bob': ('plumb_bob', K, (-0.32, 0.12, 0.0012, -0.0008, -0.02)),
    'rational': ('rational_polynomial', K, (0.5, -0.2, 0.001, -0.0004, 0.01, 0.8, -0.1, 0.02)),
    'thin_prism': ('rational_polynomial', K, (-0.3, 0.1, 0.001, 0, 0, 0.02, 0, 0, 0.01, -0.002, 0.008, 0.001)),
    'tilted': ('rational_polynomial', K, (-0.2, 0.05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.02, -0.03)),
    'pincushion': ('plumb_bob', K, (0.15, 0.02, 0, 0)),
    'equidistant': ('equidistant', FISHEYE_K, (-0.02, 0.001, -0.003, 0.0004)),
    'ideal_fisheye': ('equidistant', FISHEYE_K, ()),
}


def _lens(kind: str) -> Lens:
    name, k, d = LENSES[kind]
    read = read_model(name, d)
    assert read is not None
    return Lens(read[0], WIDTH, HEIGHT, k + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], read[1])


def _by_opencv(kind: str, rays: np.ndarray) -> np.ndarray:
    """Return indices of pixels [N, 2] of rays [N, 3]: OpenCV counts from the middle of the first pixel."""
    name, k, d = LENSES[kind]
    zero = np.zeros(3)
    points = rays.reshape(-1, 1, 3)
    if name == 'equidistant':
        return cv2.fisheye.projectPoints(points, zero, zero, k, np.array([*d, 0.0, 0.0, 0.0, 0.0][:4]))[0].reshape(
            -1, 2
        )
    return cv2.projectPoints(points, zero, zero, k, np.array(d, dtype=float))[0].reshape(-1, 2)


@pytest.mark.parametrize('kind', LENSES)
def test_rays_fall_where_opencv_says(kind: str):
    x, y = np.meshgrid(np.linspace(-0.9, 0.9, 13), np.linspace(-0.6, 0.6, 9))
    rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=-1)
    pixels, seen = _lens(kind).project(rays)
    assert seen.all()
    assert pixels - 0.5 == pytest.approx(_by_opencv(kind, rays), abs=1e-6)


def _rays_by_opencv(kind: str, pixels: np.ndarray) -> np.ndarray:
    """Return (x, y) at depth 1 [N, 2] of indices of pixels [N, 2]: OpenCV's projection, turned round step by step."""
    k = LENSES[kind][1]
    focal = k[[0, 1], [0, 1]]
    centred = (pixels - k[:2, 2]) / focal
    if kind in ('equidistant', 'ideal_fisheye'):
        radius = np.linalg.norm(centred, axis=1, keepdims=True)
        centred = centred * np.tan(np.minimum(radius, 1.4)) / np.maximum(radius, 1e-9)
    points = centred
    for _ in range(50):
        flat = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        # As far as the picture is from its aim, the ray moves, but less where rays are crowded together.
        points = points + (pixels - _by_opencv(kind, flat)) / focal
    return points


@pytest.mark.parametrize('kind', LENSES)
@pytest.mark.parametrize('shrunk', [1, 2])
def test_a_scene_is_undistorted_to_where_the_pinhole_says(kind: str, shrunk: int):
    """Dots on rays of a grid, seen through OpenCV's lens, lie where K' says within 0.3 pixels, at any decoded size."""
    lens = _lens(kind)
    k = undistorted_matrix(lens)
    width, height = WIDTH // shrunk, HEIGHT // shrunk
    columns, rows = np.meshgrid(np.arange(40, WIDTH - 30, 40), np.arange(40, HEIGHT - 30, 40))
    wanted = np.stack([columns.ravel(), rows.ravel()], axis=-1) / shrunk
    # The raw picture: each of its pixels looks along a ray, and how near that is to a dot makes it bright.
    indices = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)
    looks_at = _rays_by_opencv(kind, (indices + 0.5) * shrunk - 0.5)
    there = np.clip((looks_at @ k[:2, :2].T + k[:2, 2]) / shrunk, -1e3, 1e3)
    nearest = np.clip(np.round(there * shrunk / 40), 1, [7, 4]) * 40 / shrunk
    away = np.linalg.norm(there - nearest, axis=1)
    raw = np.exp(-np.square(away) / (2.0 * 2.0**2)).reshape(height, width).astype(np.float32)
    table = undistortion_table(lens, k, width, height)
    picture = cv2.remap(raw, table[..., 0], table[..., 1], cv2.INTER_LINEAR).astype(float)
    for u, v in wanted:
        left, top = round(u) - 9, round(v) - 9
        patch = picture[top : top + 18, left : left + 18]
        rows, columns = np.mgrid[top : top + patch.shape[0], left : left + patch.shape[1]] + 0.5
        middle = np.array([(columns * patch).sum(), (rows * patch).sum()]) / patch.sum()
        assert middle == pytest.approx([u, v], abs=0.15)


@pytest.mark.parametrize('kind', LENSES)
def test_the_undistorted_picture_is_full_and_cuts_little_off(kind: str):
    lens = _lens(kind)
    k = undistorted_matrix(lens)
    white = np.full((HEIGHT, WIDTH), 255, np.uint8)
    table = undistortion_table(lens, k, WIDTH, HEIGHT)
    assert cv2.remap(white, table[..., 0], table[..., 1], cv2.INTER_LINEAR).min() == 255
    assert k[:2, 2] == pytest.approx(lens.matrix[:2, 2])
    assert k[0, 0] / k[1, 1] == pytest.approx(lens.matrix[0, 0] / lens.matrix[1, 1])
    assert max(fields_of_view_deg(k, WIDTH, HEIGHT)) <= MAX_FOV_DEG + 1e-6
    # Any shorter focal length shows what the raw picture does not have, or too much.
    shorter = k.copy()
    shorter[:2, :2] *= 0.98
    table = undistortion_table(lens, shorter, WIDTH, HEIGHT)
    black = cv2.remap(white, table[..., 0], table[..., 1], cv2.INTER_LINEAR).min() == 0
    assert black or max(fields_of_view_deg(shorter, WIDTH, HEIGHT)) > MAX_FOV_DEG


def test_an_ideal_fisheye_is_no_pinhole():
    """At 60 degrees with f = 300 the two are 205 pixels apart (tan 60 - 60 degrees in radians)."""
    lens = Lens('equidistant', 1000, 1000, np.array([[300.0, 0, 500], [0, 300.0, 500], [0, 0, 1]]), np.zeros(4))
    ray = np.array([math.sin(math.radians(60)), 0.0, math.cos(math.radians(60))])
    pixel, seen = lens.project(ray)
    assert seen
    assert pixel == pytest.approx([500 + 300 * math.radians(60), 500])
    assert 300 * math.tan(math.radians(60)) - (pixel[0] - 500) == pytest.approx(205, abs=1)
    assert lens.bends()


def test_rays_behind_a_fisheye_are_still_seen_and_those_behind_a_pinhole_not():
    fisheye, plain = _lens('ideal_fisheye'), _lens('plumb_bob')
    beyond = np.array([[math.sin(a), 0.0, math.cos(a)] for a in np.radians([80.0, 95.0, 110.0])])
    pixels, seen = fisheye.project(beyond)
    assert seen.all()
    assert pixels[:, 0] - 156.5 == pytest.approx(95.0 * np.radians([80.0, 95.0, 110.0]))
    assert plain.project(beyond)[1].tolist() == [False, False, False]


def test_a_polynomial_that_turns_back_shows_no_place_twice():
    """theta - 0.2 theta^3 grows until 74 degrees; a ray at 100 degrees would land beside one at 49."""
    lens = Lens(
        'equidistant', 1000, 600, np.array([[300.0, 0, 500], [0, 300.0, 300], [0, 0, 1]]), np.array([-0.2, 0, 0, 0])
    )
    angles = np.radians([60.0, 73.0, 75.0, 100.0])
    seen = lens.project(np.stack([np.sin(angles), np.zeros(4), np.cos(angles)], axis=-1))[1]
    assert seen.tolist() == [True, True, False, False]
    plain = read_model('plumb_bob', (-0.3, 0, 0, 0))
    assert plain is not None
    # r (1 - 0.3 r^2) grows until r = 1.054.
    seen = Lens('plumb_bob', WIDTH, HEIGHT, K, plain[1]).project([[1.04, 0, 1], [1.07, 0, 1], [3.0, 0, 1]])[1]
    assert seen.tolist() == [True, False, False]
