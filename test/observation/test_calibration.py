# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which calibration is in use, what is said of it, and that pictures are undistorted with their own."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures import found
from fixtures.messages import drain, flat, push, ticks

from vla_driver.geometry.projection import project, ray_directions
from vla_driver.geometry.rig import BODY_FROM_OPTICAL, load_rig, mount
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.calibration import Calibrator, same_calibration, shows_rectified
from vla_driver.types import CameraRig, Image, InvalidInput, Observation

BENT = {'d': [-0.3, 0.1, 0.0, 0.0, 0.0]}
FISHEYE = {'d': [-0.02, 0.001, -0.003, 0.0004], 'distortion_model': 'equidistant'}


def _info(**changes: Any) -> Any:
    return found.camera_info('front', 0, **changes)


def _quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    vector = cv2.Rodrigues(rotation)[0].ravel()
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / angle * math.sin(angle / 2) if angle > 1e-9 else (0.0, 0.0, 0.0)
    return float(x), float(y), float(z), math.cos(angle / 2)


def _transform(parent: str, child: str, pose: np.ndarray) -> Any:
    return found.transform(0, parent, child, pose[:3, 3], _quaternion(pose[:3, :3]))


def test_what_is_in_use_is_stated():
    known = Calibrator(load_rig('sim'))
    assert known.cameras['front'].describe().startswith('320x192, fx 228.5, fy 228.5, cx 160.0, cy 96.0 from rig sim;')
    assert known.cameras['front'].said == ()
    assert known.take_info('front', _info())
    used = known.cameras['front']
    assert used.describe() == '160x90, fx 128.0, fy 128.0, cx 80.0, cy 45.0 from camera_info K; mounted as rig sim says'
    assert used.said == ()
    assert known.lenses == {}
    assert known.take_info('front', _info(**FISHEYE))
    used = known.cameras['front']
    assert used.undistorted == 'equidistant'
    assert ', undistorted from equidistant;' in used.describe()
    assert used.said[0].startswith('its pictures are undistorted from equidistant: 160x90, fx ')
    assert used.as_json()['undistorted_from'] == 'equidistant'
    assert set(known.lenses) == {'front'}
    assert known.rig['front'].intrinsics == pytest.approx(used.camera.intrinsics)
    assert known.take_info('front', _info())
    assert known.lenses == {}


@pytest.mark.parametrize(
    'wrong',
    [
        {'k': [0.0] * 9},
        {'k': np.eye(3).ravel()},
        {'d': [math.nan] * 5},
        {'distortion_model': 'double_sphere'},
        {'k': [128.0, 0.0, 400.0, 0.0, 128.0, 45.0, 0.0, 0.0, 1.0]},
    ],
)
def test_a_refused_calibration_leaves_the_one_in_use_and_is_said(wrong: dict[str, Any]):
    known = Calibrator(load_rig('sim'))
    assert not known.take_info('front', _info(**wrong))
    assert not known.take_info('front', _info(**wrong))
    (warning,) = known.cameras['front'].warnings
    assert warning.startswith('CameraInfo: ')
    assert warning.endswith('320x192, fx 228.5, fy 228.5, cx 160.0, cy 96.0 of rig sim stay in use')
    assert known.take_info('front', _info())
    assert known.cameras['front'].warnings == ()
    assert not known.take_info('front', _info(**wrong))
    assert '160x90, fx 128.0' in known.cameras['front'].warnings[0]
    with pytest.raises(InvalidInput, match='roof'):
        known.take_info('roof', _info())


def test_tables_are_kept_while_the_calibration_is_the_same():
    known = Calibrator(load_rig('sim'))
    known.take_info('front', _info(**BENT))
    before = known.lenses['front']
    later = _info(**BENT)
    later.header.stamp.sec = 7
    assert known.take_info('front', later)
    assert known.lenses['front'] is before
    known.take_info('front', _info(d=[-0.2, 0.1, 0.0, 0.0, 0.0]))
    assert known.lenses['front'] is not before
    assert known.cameras['front'].warnings == ('its camera_info has changed while driving; the newest is in use',)


def test_the_same_calibration_is_the_same_though_it_holds_nan():
    one = _info(d=[math.nan] * 5)
    assert same_calibration(one, _info(d=[math.nan] * 5))
    for change in ({'distortion_model': 'equidistant'}, {'width': 320}, {'r': np.diag([1.0, -1.0, -1.0]).ravel()}):
        assert not same_calibration(_info(), _info(**change))
    moved = _info()
    moved.roi.x_offset = 5
    assert not same_calibration(_info(), moved)


@pytest.mark.parametrize(
    ('topic', 'rectified'),
    [
        ('/camera/front/image_rect', True),
        ('/camera/front/image_rect_color/compressed', True),
        ('/CAM_FRONT/image_rect_compressed', True),
        ('/camera/infra1/image_rect_raw', True),
        ('/zed/zed_node/rgb/color/rect/image', True),
        ('/sensing/camera/front/rectified/image', True),
        ('/sensing/camera/image_undistorted', True),
        ('/camera/front/image_raw', False),
        ('/camera/front/image/compressed', False),
        ('/direct/rectangle/front/image', False),
    ],
)
def test_rectified_pictures_are_known_by_their_topics(topic: str, rectified: bool):
    assert shows_rectified(topic) is rectified


def test_rectified_cameras_have_p_and_the_others_k():
    known = Calibrator(load_rig('sim'), rectified=['front'])
    p = np.array([100.0, 0, 80, 0, 0, 100, 45, 0, 0, 0, 1, 0])
    for camera in ('front', 'back'):
        assert known.take_info(camera, found.camera_info(camera, 0, p=p, **BENT))
    assert known.rig['front'].intrinsics[0, 0] == 100.0
    assert 'from camera_info P (rectified)' in known.cameras['front'].describe()
    assert set(known.lenses) == {'back'}


def test_tf_moves_the_cameras_it_connects_and_says_so():
    known = Calibrator(load_rig('sim'))
    place = mount([1.9, 0.1, 1.4], 5.0)
    known.take_frame('front', SimpleNamespace(header=SimpleNamespace(frame_id='front_optical_frame')))
    known.take_info('back', found.camera_info('back', 0))  # camera_info names the frame where no picture has yet
    assert known.take_transforms(_transform('base_link', 'front_optical_frame', place))
    assert known.rig['front'].base_from_camera == pytest.approx(place)
    assert 'mounted as tf (front_optical_frame in base_link) says' in known.cameras['front'].describe()
    assert known.rig['back'].base_from_camera == pytest.approx(load_rig('sim')['back'].base_from_camera)
    assert "tf does not connect its frame 'back_optical_frame'" in known.cameras['back'].describe()
    assert not known.take_transforms(_transform('base_link', 'front_optical_frame', place))
    body = mount([-0.5, 0.0, 1.3], 180.0)
    body[:3, :3] = body[:3, :3] @ BODY_FROM_OPTICAL.T
    assert known.take_transforms(_transform('base_link', 'back_optical_frame', body))
    assert known.rig['back'].base_from_camera == pytest.approx(mount([-0.5, 0.0, 1.3], 180.0), abs=1e-9)
    assert 'is no optical frame' in known.cameras['back'].warnings[0]
    fixed = Calibrator(load_rig('sim'), use_tf=False)
    fixed.take_info('front', _info())
    assert not fixed.take_transforms(_transform('base_link', 'front_optical_frame', place))
    assert fixed.rig['front'].base_from_camera == pytest.approx(load_rig('sim')['front'].base_from_camera)
    assert 'front_optical_frame' in fixed.frames


@pytest.mark.parametrize(
    ('camera', 'yaw_deg', 'warning'),
    [
        ('front', 40.0, ''),
        ('front_left', 15.0, ''),
        (
            'front',
            180.0,
            'rig sim has it looking to yaw 0, pitch 0 degrees, tf (lens in base_link) to yaw 180, pitch 10 degrees, '
            'where camera back looks: is it on the topic of that one?',
        ),
        (
            'front_left',
            -55.0,
            'rig sim has it looking to yaw 55, pitch 0 degrees, tf (lens in base_link) to yaw -55, pitch 10 degrees, '
            'where camera front_right looks: is it on the topic of that one?',
        ),
    ],
)
def test_a_camera_that_looks_as_another_one_does_is_told(camera: str, yaw_deg: float, warning: str):
    known = Calibrator(load_rig('sim'))
    known.take_frame(camera, SimpleNamespace(header=SimpleNamespace(frame_id='lens')))
    place = mount([1.0, 0.0, 1.5], yaw_deg, 10.0)
    assert known.take_transforms(_transform('base_link', 'lens', place))
    assert known.cameras[camera].warnings == tuple(filter(None, [warning]))
    assert known.rig[camera].base_from_camera == pytest.approx(place)  # tf decides all the same


def test_a_rig_of_one_camera_names_no_other():
    rig = load_rig('sim')
    known = Calibrator(CameraRig('mine', (rig['front'],)))
    known.take_frame('front', SimpleNamespace(header=SimpleNamespace(frame_id='lens')))
    known.take_transforms(_transform('base_link', 'lens', mount([1.0, 0.0, 1.5], 90.0)))
    (warning,) = known.cameras['front'].warnings
    assert warning.endswith('tf (lens in base_link) to yaw 90, pitch 0 degrees')


def test_the_vehicle_may_be_called_as_the_odometry_has_it():
    known = Calibrator(load_rig('sim'))
    place = mount([1.9, 0.1, 1.4], 5.0)
    known.take_info('front', _info())
    assert not known.take_transforms(_transform('hero', 'front_optical_frame', place))
    known.take_vehicle_frame('/hero')
    assert known.rig['front'].base_from_camera == pytest.approx(place)


def _seen_by_fisheye(width: int, height: int, focal: float, world: Image) -> Image:
    """Return what an ideal fisheye sees of a panorama [180, 360, 3], a degree per pixel, 0 degrees in its middle."""
    u, v = np.meshgrid(np.arange(width) - width / 2 + 0.5, np.arange(height) - height / 2 + 0.5)
    theta = np.hypot(u, v) / focal
    x, y, z = np.sin(theta) * u, np.sin(theta) * v, np.cos(theta) * np.hypot(u, v)
    azimuth, elevation = np.degrees(np.arctan2(x, z)), np.degrees(np.arctan2(y, np.hypot(x, z)))
    return np.asarray(
        cv2.remap(world, (azimuth + 179.5).astype(np.float32), (elevation + 89.5).astype(np.float32), cv2.INTER_LINEAR)
    )


def test_pictures_and_rays_agree_behind_a_fisheye():
    """A post at 40 degrees to the left is seen by a 160 degree fisheye; its columns in the picture are its ray's."""
    width, height = 320, 192
    world = np.zeros((180, 360, 3), np.uint8)
    world[:, 180 + 38 : 180 + 42] = 255  # azimuth 40 degrees to the right in the optical frame
    focal = (width / 2) / math.radians(80.0)
    picture = _seen_by_fisheye(width, height, focal, world)
    middle = (width / 2 - 0.5, height / 2 - 0.5)  # as calibrators count
    k = [focal, 0.0, middle[0], 0.0, focal, middle[1], 0.0, 0.0, 1.0]
    info = found.camera_info('front', 0, width=width, height=height, k=k, d=[0.0] * 4, distortion_model='equidistant')
    assembler = ObservationAssembler(load_rig('sim'))
    assert assembler.push_camera_info('front', info)
    seen = _drive(assembler, picture)
    image = seen.frames['front'].image
    assert image.shape == (height, width, 3)
    assert image.min() == 0
    camera = seen.rig['front']
    row = height // 2
    bright = image[row, :, 0].astype(float)
    column = float((bright * (np.arange(width) + 0.5)).sum() / bright.sum())
    far = camera.base_from_camera @ [math.sin(math.radians(40.0)), 0.0, math.cos(math.radians(40.0)), 1.0]
    # The post is 4 degrees broad; its middle in the picture is a little beyond that of its angle.
    assert project(camera, far[None, :3])[0][0, 0] == pytest.approx(column, abs=0.6)
    # And the rays that a policy is given look there, too.
    rays = ray_directions(camera, (1, width))[0]
    angles = np.degrees(np.arctan2(-rays[:, 1], rays[:, 0]))
    assert np.interp(column - 0.5, np.arange(width), angles) == pytest.approx(40.0, abs=0.3)


def _drive(assembler: ObservationAssembler, picture: Image) -> Observation:
    """Play one tick, whose front picture is this one."""
    from vla_driver.observation.decode import encode_png

    for kind, message in flat(ticks(1)):
        if kind == 'front':
            message.format, message.data = 'png', encode_png(picture)
        push(assembler, kind, message)
    assembler.flush()
    built = drain(assembler)[0]
    assert isinstance(built, Observation), built
    return built


def test_a_set_keeps_the_calibration_it_was_matched_with():
    """A calibration that changes while a set waits to be decoded must not be mixed with the rays of before."""
    assembler = ObservationAssembler(load_rig('sim'))
    size = {'width': 80, 'height': 48}
    k = [64.0, 0.0, 40.0, 0.0, 64.0, 24.0, 0.0, 0.0, 1.0]
    for camera in assembler.rig.names:
        assembler.push_camera_info(camera, found.camera_info(camera, 0, k=k, **size, **BENT))
    first = []
    for kind, message in flat(ticks(3)):
        push(assembler, kind, message)
        while (ready := assembler.take()) is not None:
            first.append(ready)
    (before, *_) = first
    k[0] = k[4] = 50.0
    assembler.push_camera_info('front', found.camera_info('front', 0, k=k, **size))
    built = before.observe()
    assert isinstance(built, Observation)
    assert set(before.lenses) == set(assembler.rig.names)
    assert built.rig['front'].intrinsics == pytest.approx(before.lenses['front'].matrix)
    assert built.rig['front'].intrinsics[0, 0] != assembler.rig['front'].intrinsics[0, 0] == 50.0
