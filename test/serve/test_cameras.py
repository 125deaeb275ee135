# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which of a simulator's cameras a policy looks through, and what their lenses do."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from carla_driver_interface.geometry import Pose
from carla_driver_interface.protocol import (
    AvailableCamera,
    CameraSpec,
    OpenCVPinholeCameraParam,
    sensorsim_pb2,
)
from carla_driver_interface.testing import FakeCamera
from scipy.spatial.transform import Rotation

from vla_driver.geometry.distortion import fields_of_view_deg
from vla_driver.geometry.rig import mount
from vla_driver.serve.cameras import choose_cameras, read_camera
from vla_driver.types import CAMERA_NAMES, InvalidInput

SIX = {'cam_f': 0, 'cam_fl': 55, 'cam_fr': -55, 'cam_bl': 110, 'cam_br': -110, 'cam_b': 180}


def fake(name: str, yaw_deg: float, fov_deg: float = 70.0) -> AvailableCamera:
    return FakeCamera(name, 320, 192, fov_deg, yaw_left_deg=yaw_deg).available_camera()


def declared(name: str, spec: CameraSpec, yaw_deg: float = 0.0) -> AvailableCamera:
    pose = mount([1.5, 0.0, 1.5], yaw_deg)
    mounted = Pose.from_rotation(pose[:3, 3], Rotation.from_matrix(pose[:3, :3]))
    return AvailableCamera(intrinsics=spec, rig_to_camera=mounted.to_proto(), logical_id=name)


def ftheta(**params: object) -> CameraSpec:
    given = {'principal_point_x': 960.0, 'principal_point_y': 540.0, **params}
    return CameraSpec(
        ftheta_param=sensorsim_pb2.FthetaCameraParam(**given), logical_id='wide', resolution_w=1920, resolution_h=1080
    )


def pinhole(**params: object) -> CameraSpec:
    given = {
        'principal_point_x': 160.0,
        'principal_point_y': 96.0,
        'focal_length_x': 200.0,
        'focal_length_y': 200.0,
        **params,
    }
    return CameraSpec(
        opencv_pinhole_param=OpenCVPinholeCameraParam(**given), logical_id='c', resolution_w=320, resolution_h=192
    )


def test_six_cameras_are_found_by_the_way_they_look() -> None:
    cameras = choose_cameras([fake(name, yaw) for name, yaw in SIX.items()], CAMERA_NAMES)
    assert dict(cameras.sources) == {
        'front_left': 'cam_fl',
        'front': 'cam_f',
        'front_right': 'cam_fr',
        'back_left': 'cam_bl',
        'back': 'cam_b',
        'back_right': 'cam_br',
    }
    assert cameras.notes == ()
    front = cameras.rig['front']
    assert front.base_from_camera == pytest.approx(mount([2.5, 0.0, 1.5], 0.0), abs=1e-6)
    assert front.intrinsics[0, 0] == pytest.approx(160.0 / math.tan(math.radians(35.0)), rel=1e-6)


def test_alpasims_four_cameras_leave_the_rear_unseen_and_the_tele_alone() -> None:
    four = [fake('wide', 0, 100), fake('tele', 0, 30), fake('cross_left', 60, 100), fake('cross_right', -60, 100)]
    cameras = choose_cameras(four, CAMERA_NAMES)
    assert dict(cameras.sources) == {'front_left': 'cross_left', 'front': 'wide', 'front_right': 'cross_right'}
    assert 'nothing shows back_left, back, back_right: the policy drives without' in cameras.notes
    assert 'not looked through: tele' in cameras.notes


def test_nuplans_eight_cameras_give_the_six() -> None:
    yaws = {'F0': 0, 'L0': 55, 'R0': -55, 'L1': 100, 'R1': -100, 'L2': 145, 'R2': -145, 'B0': 180}
    cameras = choose_cameras([fake(name, yaw, 64) for name, yaw in yaws.items()], CAMERA_NAMES)
    assert cameras.sources['back'] == 'B0'
    assert cameras.sources['back_left'] == 'L1'
    assert 'not looked through: L2, R2' in cameras.notes


def test_a_choice_goes_before_the_direction() -> None:
    cameras = choose_cameras([fake('wide', 0, 100), fake('tele', 0, 30)], CAMERA_NAMES, {'front': 'tele'})
    assert dict(cameras.sources) == {'front': 'tele'}


@pytest.mark.parametrize(
    ('chosen', 'words'),
    [
        ({'front': 'roof'}, "declares no 'roof'; it declares wide"),
        ({'roof': 'wide'}, 'the policy has no roof; it has front_left, front'),
    ],
)
def test_a_choice_that_cannot_be_met_is_named(chosen: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        choose_cameras([fake('wide', 0)], CAMERA_NAMES, chosen)


def test_nothing_in_front_is_refused_with_what_there_is() -> None:
    with pytest.raises(InvalidInput, match=r'no camera looks ahead \(within 40 degrees\).*rear at -?180 degrees'):
        choose_cameras([fake('rear', 180)], CAMERA_NAMES)


@pytest.mark.parametrize('pitch_deg', [60.0, 90.0])
@pytest.mark.parametrize('yaw_deg', [0.0, 180.0])
def test_a_view_from_above_is_none_ahead_or_back(pitch_deg: float, yaw_deg: float) -> None:
    pose = mount([0.0, 0.0, 20.0], yaw_deg, pitch_deg)
    mounted = Pose.from_rotation(pose[:3, 3], Rotation.from_matrix(pose[:3, :3])).to_proto()
    bird = fake('bird', 0.0, 90.0)
    bird.rig_to_camera.CopyFrom(mounted)
    cameras = choose_cameras([fake('wide', 0, 120), bird], CAMERA_NAMES)
    assert dict(cameras.sources) == {'front': 'wide'}
    assert 'not looked through: bird' in cameras.notes
    with pytest.raises(InvalidInput, match=rf'no camera looks ahead .*bird at -?\d+ degrees, {pitch_deg:.0f} down'):
        choose_cameras([bird], CAMERA_NAMES)


def test_a_camera_declared_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match='declared twice: a, a'):
        choose_cameras([fake('a', 0), fake('a', 180)], CAMERA_NAMES)


def test_a_lens_that_is_none_leaves_its_camera_out_and_says_so() -> None:
    broken = declared('rear', pinhole(focal_length_x=0.0), 180.0)
    cameras = choose_cameras([fake('ahead', 0), broken], CAMERA_NAMES)
    assert dict(cameras.sources) == {'front': 'ahead'}
    assert any("camera 'rear': focal length (0, 200)" in note and 'left out' in note for note in cameras.notes)


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        (pinhole(focal_length_x=math.nan), 'focal length'),
        (pinhole(principal_point_x=400.0), 'outside of the picture'),
        (pinhole(radial_coeffs=[0.0] * 7), 'at most 6 finite numbers'),
        (CameraSpec(logical_id='c', resolution_w=320, resolution_h=192), 'its lens is not declared'),
        (CameraSpec(logical_id='c'), 'resolution 0x0'),
        (ftheta(), 'expected 0 at an angle of 0'),
        (ftheta(angle_to_pixeldist_poly=[0.0, -900.0]), 'expected 0 at an angle of 0'),
        (ftheta(angle_to_pixeldist_poly=[0.0, math.inf]), 'expected finite numbers'),
        (ftheta(pixeldist_to_angle_poly=[0.0, -0.001]), 'does not grow'),
    ],
)
def test_what_no_lens_has_is_named(spec: CameraSpec, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_camera(declared('c', spec))


def test_a_pose_that_nobody_filled_in_is_named() -> None:
    camera = AvailableCamera(intrinsics=pinhole(), logical_id='c')
    with pytest.raises(InvalidInput, match=r"camera 'c': rig_to_camera: quaternion \(0, 0, 0, 0\) has length 0"):
        read_camera(camera)


def test_opencvs_coefficients_are_in_opencvs_order() -> None:
    radial, tangential, prism = [-0.3, 0.1, 0.01, 0.02, -0.01, 0.005], [0.001, -0.002], [0.002, 0.0, -0.001, 0.0]
    spec = pinhole(radial_coeffs=radial, tangential_coeffs=tangential, thin_prism_coeffs=prism)
    camera = read_camera(declared('c', spec))
    assert camera.lens is not None
    rays = np.array([[0.4, -0.2, 1.0], [-0.3, 0.25, 1.0], [0.0, 0.0, 1.0]])
    k = np.array([[200.0, 0.0, 160.0], [0.0, 200.0, 96.0], [0.0, 0.0, 1.0]])
    d = np.array([*radial[:2], *tangential, *radial[2:], *prism])
    there = cv2.projectPoints(rays.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), k, d)[0].reshape(-1, 2)
    assert camera.lens.project(rays)[0] == pytest.approx(there, abs=1e-6)


def test_an_ftheta_lens_shows_a_ray_at_its_angle() -> None:
    focal = 1920.0 / math.radians(120.0)
    camera = read_camera(declared('wide', ftheta(angle_to_pixeldist_poly=[0.0, focal, 0.0, -8.0])))
    assert camera.lens is not None
    angle = math.radians(40.0)
    pixel, seen = camera.lens.project([[math.sin(angle), 0.0, math.cos(angle)]])
    assert seen.all()
    assert pixel[0] == pytest.approx([960.0 + focal * angle - 8.0 * angle**3, 540.0], abs=1e-6)
    across, upright = fields_of_view_deg(camera.camera.intrinsics, 1920, 1080)
    assert 90.0 < across < 120.0
    assert upright < 80.0


def test_an_ftheta_lens_given_by_its_inverse_is_the_same() -> None:
    focal = 900.0
    kind = sensorsim_pb2.FthetaCameraParam.PIXELDIST_TO_ANGLE
    spec = ftheta(reference_poly=kind, pixeldist_to_angle_poly=[0.0, 1.0 / focal, 0.0, 4e-11])
    lens = read_camera(declared('wide', spec)).lens
    assert lens is not None
    for radius in (100.0, 500.0, 900.0):
        angle = radius / focal + 4e-11 * radius**3
        pixel = lens.project([[0.0, -math.sin(angle), math.cos(angle)]])[0][0]
        assert pixel == pytest.approx([960.0, 540.0 - radius], abs=0.1)


def test_the_linear_term_shears_the_picture() -> None:
    linear = sensorsim_pb2.LinearCde(linear_c=1.1, linear_d=0.02, linear_e=0.01)
    lens = read_camera(declared('w', ftheta(angle_to_pixeldist_poly=[0.0, 900.0], linear_cde=linear))).lens
    assert lens is not None
    side, down = math.radians(10.0) * 900.0, math.radians(5.0) * 900.0
    rays = [[math.sin(math.radians(10.0)), 0.0, math.cos(math.radians(10.0))]]
    rays.append([0.0, math.sin(math.radians(5.0)), math.cos(math.radians(5.0))])
    expected = [[960.0 + 1.1 * side, 540.0 + 0.01 * side], [960.0 + 0.02 * down, 540.0 + down]]
    assert lens.project(rays)[0] == pytest.approx(np.array(expected), abs=1e-6)


def test_a_lens_sees_nothing_beyond_its_largest_angle() -> None:
    lens = read_camera(declared('w', ftheta(angle_to_pixeldist_poly=[0.0, 1500.0], max_angle=0.75))).lens
    assert lens is not None
    seen = lens.project([[math.sin(a), 0.0, math.cos(a)] for a in (0.7, 0.8)])[1]
    assert seen.tolist() == [True, False]


def test_an_undistorted_picture_is_said() -> None:
    wide = declared('wide', ftheta(angle_to_pixeldist_poly=[0.0, 900.0]))
    cameras = choose_cameras([wide], CAMERA_NAMES)
    assert any('wide (front) is undistorted from ftheta to a pinhole of' in note for note in cameras.notes)
    assert set(cameras.lenses) == {'front'}
