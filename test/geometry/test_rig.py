# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Rigs from files and messages: where the cameras look, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from vla_driver.geometry.rig import (
    intrinsics_from_fov,
    load_rig,
    mount,
    rig_from_yaml,
    rig_to_yaml,
    viewing_angles,
)
from vla_driver.types import CAMERA_NAMES, CameraModel, CameraRig, InvalidInput

SHIPPED = ('sim', 'nuscenes', 'bench2drive')
FRONT = 'front: {width: 320, height: 192, fov_deg: 70.0, position_m: [1.7, 0.0, 1.5]}'


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_rigs_look_around(name: str):
    rig = load_rig(name)
    assert rig.names == CAMERA_NAMES
    for camera in rig:
        forward = camera.base_from_camera[:3, 2]
        degrees = {'front': 0, 'front_left': 55, 'front_right': -55, 'back_left': 110, 'back_right': -110, 'back': 180}
        yaw = math.radians(degrees[camera.name])
        assert forward == pytest.approx([math.cos(yaw), math.sin(yaw), 0.0], abs=1e-9)
        assert camera.base_from_camera[:3, 1] == pytest.approx([0, 0, -1], abs=1e-9)  # the picture's down is down
        assert np.linalg.det(camera.base_from_camera[:3, :3]) == pytest.approx(1.0)
        side = camera.base_from_camera[1, 3]
        assert side > 0.3 if 'left' in camera.name else side < -0.3 if 'right' in camera.name else abs(side) < 0.1
        assert 1.2 < camera.base_from_camera[2, 3] < 2.0
        fov_deg = math.degrees(2 * math.atan(camera.width / 2 / camera.intrinsics[0, 0]))
        wide, normal = (89, 65) if name == 'nuscenes' else (110, 70)
        assert fov_deg == pytest.approx(wide if camera.name == 'back' else normal, abs=1)


@pytest.mark.parametrize('name', SHIPPED)
def test_yaml_round_trip(name: str):
    rig = load_rig(name)
    again = rig_from_yaml(rig_to_yaml(rig))
    assert (again.name, again.names) == (rig.name, rig.names)
    for a, b in zip(rig, again, strict=True):
        assert (a.width, a.height) == (b.width, b.height)
        assert b.intrinsics == pytest.approx(a.intrinsics, rel=1e-12)
        assert b.base_from_camera == pytest.approx(a.base_from_camera, abs=1e-9)


def test_a_tilted_camera_survives_the_round_trip():
    camera = CameraModel('roof', 64, 48, intrinsics_from_fov(64, 48, 80), mount([0.1, -0.2, 1.9], 123.0, 17.0, -8.0))
    assert viewing_angles(camera.base_from_camera) == pytest.approx((123.0, 17.0, -8.0))
    again = rig_from_yaml(rig_to_yaml(CameraRig('one', (camera,))))['roof']
    assert again.base_from_camera == pytest.approx(camera.base_from_camera, abs=1e-9)


@pytest.mark.parametrize('pitch', [90.0, -90.0])
def test_straight_down_and_up(pitch: float):
    pose = mount([0, 0, 2], 30.0, pitch, 20.0)
    assert mount([0, 0, 2], *viewing_angles(pose)) == pytest.approx(pose, abs=1e-6)


def test_signs_of_the_angles():
    assert mount([0, 0, 0], 90)[:3, 2] == pytest.approx([0, 1, 0], abs=1e-12)  # yaw: to the left
    assert mount([0, 0, 0], 0, 30)[2, 2] == pytest.approx(-0.5)  # pitch: down
    rolled_up = -mount([0, 0, 0], 0, 0, 10)[:3, 1]
    assert rolled_up[1] < 0 < rolled_up[2]  # roll: the camera's top to the right


def test_field_of_view():
    k = intrinsics_from_fov(1600, 900, 90.0)
    assert k == pytest.approx(np.array([[800, 0, 800], [0, 800, 450], [0, 0, 1]]))
    for fov in (0.0, 180.0, -5.0, math.nan):
        with pytest.raises(InvalidInput, match='fov_deg'):
            intrinsics_from_fov(100, 100, fov)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('cameras: [', 'not valid YAML'),
        ('just words', 'mapping'),
        ('name: x', 'cameras'),
        ('cameras: {}', 'cameras'),
        (f'cameras:\n  {FRONT}\nlidar: 1', 'lidar'),
        (f'cameras:\n  {FRONT}'.replace('height: 192, ', ''), 'lacks height'),
        (f'cameras:\n  {FRONT}'.replace('fov_deg: 70.0, ', ''), 'fov_deg or k'),
        (f'cameras:\n  {FRONT}'.replace('fov_deg', 'fov'), "unknown keys \\['fov'\\], allowed"),
        (f'cameras:\n  {FRONT}'.replace('320', '-3'), 'width is -3'),
        (f'cameras:\n  {FRONT}'.replace('320', '3.5'), 'width is 3.5'),
        (f'cameras:\n  {FRONT}'.replace('1.7, 0.0, 1.5', '1.7, 0.0'), 'position_m'),
        (f'cameras:\n  {FRONT}'.replace('1.7', '.nan'), 'position_m'),
        (f'cameras:\n  {FRONT}'.replace('70.0', 'wide'), 'fov_deg'),
        (f'cameras:\n  {FRONT}'.replace('fov_deg: 70.0', 'k: [1, 2, 3]'), '9 finite numbers'),
        (f'cameras:\n  {FRONT}'.replace('fov_deg: 70.0', 'k: [a, 0, 0, 0, 1, 0, 0, 0, 1]'), '9 finite numbers'),
    ],
)
def test_wrong_rig_files_are_refused(tmp_path: Path, text: str, words: str):
    path = tmp_path / 'rig.yaml'
    path.write_text(text)
    with pytest.raises(InvalidInput, match=words) as caught:
        load_rig(path)
    assert str(path) in str(caught.value)


def test_unknown_rigs_name_the_shipped_ones(tmp_path: Path):
    with pytest.raises(InvalidInput, match='bench2drive, nuscenes, sim'):
        load_rig('tesla')
    with pytest.raises(InvalidInput, match='cannot be read'):
        load_rig(tmp_path / 'none.yaml')
