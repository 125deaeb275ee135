# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Projection and rays agree with each other and with what can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vla_driver.geometry.projection import project, ray_directions
from vla_driver.geometry.rig import load_rig
from vla_driver.types import CAMERA_NAMES, InvalidInput


def test_straight_ahead_is_the_middle():
    camera = load_rig('sim')['front']
    pixels, depth, visible = project(camera, [[11.7, 0.0, 1.55]])
    assert pixels[0] == pytest.approx([160.0, 96.0])
    assert depth[0] == pytest.approx(10.0)
    assert visible[0]


def test_left_is_left_and_down_is_down():
    camera = load_rig('sim')['front']
    focal = 160.0 / math.tan(math.radians(35.0))
    pixels, _, visible = project(camera, [[11.7, 1.0, 0.55], [11.7, -1.0, 2.55]])
    assert pixels[0] == pytest.approx([160.0 - focal / 10.0, 96.0 + focal / 10.0])
    assert pixels[1] == pytest.approx([160.0 + focal / 10.0, 96.0 - focal / 10.0])
    assert visible.all()


def test_behind_and_outside_are_not_visible():
    camera = load_rig('sim')['front']
    pixels, depth, visible = project(camera, [[-5.0, 0.0, 1.55], [11.7, 30.0, 1.55], [1.7, 0.0, 1.55]])
    assert not visible.any()
    assert depth[0] < 0
    assert np.isnan(pixels[[0, 2]]).all()
    assert np.isfinite(pixels[1]).all()


@pytest.mark.parametrize('name', ['sim', 'nuscenes', 'bench2drive'])
@pytest.mark.parametrize('camera', CAMERA_NAMES)
def test_rays_project_back_onto_the_cell_centres(name: str, camera: str):
    model = load_rig(name)[camera]
    rays = ray_directions(model, (6, 10))
    assert rays.shape == (6, 10, 3)
    assert np.linalg.norm(rays, axis=-1) == pytest.approx(np.ones((6, 10)))
    points = model.base_from_camera[:3, 3] + 25.0 * rays.reshape(-1, 3)
    pixels, _, visible = project(model, points)
    assert visible.all()
    columns, rows = np.meshgrid(np.arange(10) + 0.5, np.arange(6) + 0.5)
    want = np.stack([columns.ravel() * model.width / 10, rows.ravel() * model.height / 6], axis=-1)
    assert pixels == pytest.approx(want, abs=1e-6)


def test_rays_do_not_depend_on_the_resolution():
    camera = load_rig('nuscenes')['back_left']
    assert ray_directions(camera.resized(160, 90), (3, 5)) == pytest.approx(ray_directions(camera, (3, 5)))


def test_no_points_are_no_points():
    pixels, depth, visible = project(load_rig('sim')['back'], np.zeros((0, 3)))
    assert (pixels.shape, depth.shape, visible.shape) == ((0, 2), (0,), (0,))


def test_wrong_shapes_are_refused():
    camera = load_rig('sim')['front']
    with pytest.raises(InvalidInput, match='expected'):
        project(camera, [1.0, 2.0, 3.0])
    with pytest.raises(InvalidInput, match='at least 1'):
        ray_directions(camera, (0, 3))
