# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""CARLA's coordinates against CARLA's own client library, and the objects file that ships."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vla_driver.geometry.carla import MKZ_CENTRE_M, from_carla, objects, sensors_of
from vla_driver.geometry.rig import load_rig, mount, rig_from_yaml
from vla_driver.planning.control import ControlCommand
from vla_driver.resources import resource
from vla_driver.ros.wire.carla import Driveline, pedals
from vla_driver.settings.nodes.controller import ControlConfig
from vla_driver.types import InvalidInput

carla = pytest.importorskip('carla', reason="CARLA's client is on PyPI for x86 alone")


@pytest.mark.parametrize('angles', [(0, 0, 0), (10, 20, 30), (-15, -110, 5), (0, 180, 0), (80, 45, -60)])
def test_a_transform_is_carlas_own_mirrored(angles: tuple[float, float, float]) -> None:
    pitch, yaw, roll = map(float, angles)
    theirs = carla.Transform(carla.Location(1.0, 2.0, 3.0), carla.Rotation(pitch=pitch, yaw=yaw, roll=roll))
    ours = from_carla((1.0, 2.0, 3.0), pitch, yaw, roll)
    for point in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, -0.4, 0.9]):
        there = theirs.transform(carla.Location(point[0], -point[1], point[2]))
        assert (ours @ [*point, 1.0])[:3] == pytest.approx([there.x, -there.y, there.z], abs=1e-5)


def test_a_sensor_of_the_objects_file_is_where_the_rig_has_it() -> None:
    """The bridge turns a spawn point to CARLA's by the signs of y, pitch and yaw; CARLA then places the camera."""
    rig = rig_from_yaml(
        'name: tilted\ncameras:\n  front: {width: 800, height: 600, fov_deg: 90.0, position_m: [2.0, 0.3, 1.5], '
        'yaw_deg: 25.0, pitch_deg: 8.0, roll_deg: -4.0}\n'
    )
    (sensor,) = sensors_of(rig, 1.4)
    place = sensor['spawn_point']
    body = from_carla((place['x'], -place['y'], place['z']), -place['pitch'], -place['yaw'], place['roll'])
    optical = body @ mount([0.0, 0.0, 0.0], 0.0)
    optical[0, 3] += 1.4
    assert optical == pytest.approx(rig['front'].base_from_camera, abs=1e-6)
    assert (sensor['image_size_x'], sensor['image_size_y'], sensor['fov']) == (800, 600, pytest.approx(90.0))


def test_the_objects_file_that_ships_is_that_of_bench2drives_rig() -> None:
    written = json.loads(resource('config', 'carla', 'objects.json').read_text(encoding='utf-8'))
    assert written == objects(load_rig('bench2drive'))
    sensors = written['objects'][0]['sensors']
    assert [sensor['id'] for sensor in sensors[-3:]] == ['odometry', 'speedometer', 'tf']
    front = next(sensor for sensor in sensors if sensor['id'] == 'front')
    assert front['spawn_point']['x'] == pytest.approx(0.8)  # Bench2Drive's, from the vehicle's middle
    assert MKZ_CENTRE_M == 1.4


def test_a_camera_that_carla_cannot_draw_is_named() -> None:
    rig = rig_from_yaml(
        'name: r\ncameras:\n  front: {width: 800, height: 600, position_m: [2.0, 0.0, 1.5], '
        'k: [700.0, 0.0, 380.0, 0.0, 700.0, 300.0, 0.0, 0.0, 1.0]}\n'
    )
    with pytest.raises(InvalidInput, match='camera front: CARLA draws square pixels around the middle'):
        sensors_of(rig)


@pytest.mark.parametrize('acceleration', [-5.0, -0.5, 0.0, 1.0, 2.5])
@pytest.mark.parametrize('steering', [-0.5, 0.0, 0.3])
def test_a_command_is_a_control_that_carla_takes(steering: float, acceleration: float) -> None:
    throttle, brake, steer = pedals(ControlCommand(steering, acceleration), ControlConfig())
    control = carla.VehicleControl(throttle=throttle, brake=brake, steer=steer)
    assert (control.throttle, control.brake) == pytest.approx((throttle, brake))
    done = Driveline().command(control.throttle, control.brake, control.steer, 5.0)
    assert done.steering_rad == pytest.approx(steering, abs=1e-6)
    # The emulated car is not the follower's idea of one, but it goes the same way.
    assert np.sign(done.acceleration_mps2 + 0.14) == np.sign(acceleration) or acceleration == 0.0
