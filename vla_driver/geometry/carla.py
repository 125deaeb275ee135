# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""CARLA's coordinates and ours.

CARLA is left-handed: x forward, y right, z up, yaw clockwise seen from above, pitch up positive, in degrees.  Ours are
REP-103's: y left, yaw counter-clockwise, pitch down positive.  The two differ by the sign of y, of pitch and of yaw.
CARLA places sensors from the vehicle's own origin, in the middle between the axles; base_link lies below the rear axle.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from vla_driver.geometry.distortion import fields_of_view_deg
from vla_driver.geometry.rig import viewing_angles
from vla_driver.types import CameraRig, FloatArray, InvalidInput

#: How far CARLA's origin of the Lincoln MKZ, which Bench2Drive drives, lies before its rear axle (half its wheel base).
MKZ_CENTRE_M: Final = 1.4

#: WGS 84's equator, and where the origin of a map is that does not say so (leaderboard/utils/route_manipulation.py).
EARTH_M: Final = 6_378_137.0
ORIGIN_DEG: Final = (42.0, 2.0)

_MIRROR: Final = np.diag([1.0, -1.0, 1.0, 1.0])


def from_carla(location_m: tuple[float, float, float], pitch_deg: float, yaw_deg: float, roll_deg: float) -> FloatArray:
    """Return [4, 4]: CARLA's transform as a pose of ours (its x axis ahead, its y axis to the left)."""
    p, y, r = (math.radians(angle) for angle in (pitch_deg, yaw_deg, roll_deg))
    cp, sp, cy, sy, cr, sr = math.cos(p), math.sin(p), math.cos(y), math.sin(y), math.cos(r), math.sin(r)
    # As carla::geom::Transform::GetMatrix has it (LibCarla, Transform.h).
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr],
        [cp * sy, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr],
        [sp, -cp * sr, cp * cr],
    ]
    matrix[:3, 3] = location_m
    return np.asarray(_MIRROR @ matrix @ _MIRROR)


def satellite_position(x_m: float, y_m: float, origin_deg: tuple[float, float] = ORIGIN_DEG) -> tuple[float, float]:
    """Return (latitude, longitude) in degrees of a place on a map (x east, y north) with an origin (the same).

    As the leaderboard has it (leaderboard/utils/route_manipulation.py): Mercator's projection, to scale at the origin.
    """
    scale_m = EARTH_M * math.cos(math.radians(origin_deg[0]))
    north = math.asinh(math.tan(math.radians(origin_deg[0]))) + y_m / scale_m
    return math.degrees(math.atan(math.sinh(north))), origin_deg[1] + math.degrees(x_m / scale_m)


def map_displacement_m(latitude_deg: float, longitude_deg: float, origin_deg: tuple[float, float]) -> FloatArray:
    """Return [2]: how far east and north of an origin (latitude, longitude) a place is on the map, in metres.

    The reverse of `satellite_position`.  A map's own origin is seldom told; from one nearby the scale is off by 0.2 m
    over 1 km at 45 degrees.
    """
    scale_m = EARTH_M * math.cos(math.radians(origin_deg[0]))
    north = [math.asinh(math.tan(math.radians(latitude))) for latitude in (latitude_deg, origin_deg[0])]
    east_deg = (longitude_deg - origin_deg[1] + 180.0) % 360.0 - 180.0
    return scale_m * np.array([math.radians(east_deg), north[0] - north[1]])


def sensors_of(rig: CameraRig, centre_m: float = MKZ_CENTRE_M) -> list[dict[str, Any]]:
    """Return a rig's cameras as sensors of the bridge's objects.json, whose spawn points are right-handed, in degrees.

    centre_m: how far CARLA's origin of the vehicle lies before its rear axle.  Raises InvalidInput for a camera that
    CARLA cannot draw: its pixels are square, and its optical axis is in the middle.
    """
    return [_sensor(camera, centre_m) for camera in rig]


def _sensor(camera: Any, centre_m: float) -> dict[str, Any]:
    k, width, height = camera.intrinsics, camera.width, camera.height
    centred = np.allclose(k[:2, 2], [width / 2.0, height / 2.0], atol=0.5)
    if not (centred and math.isclose(k[0, 0], k[1, 1], rel_tol=1e-3) and abs(k[0, 1]) < 1e-3):
        raise InvalidInput(
            f'camera {camera.name}: CARLA draws square pixels around the middle, its K is {k.tolist()}; give fov_deg'
        )
    x_m, y_m, z_m = camera.base_from_camera[:3, 3]
    yaw_deg, pitch_deg, roll_deg = viewing_angles(camera.base_from_camera)
    place = {'x': x_m - centre_m, 'y': y_m, 'z': z_m, 'roll': roll_deg, 'pitch': pitch_deg, 'yaw': yaw_deg}
    return {
        'type': 'sensor.camera.rgb',
        'id': camera.name,
        'spawn_point': {name: round(float(value), 6) + 0.0 for name, value in place.items()},
        'image_size_x': width,
        'image_size_y': height,
        'fov': round(fields_of_view_deg(k, width, height)[0], 6),
    }  # and no sensor_tick: pictures with every tick, for a world that waits would wait in vain without


def objects(
    rig: CameraRig, role: str = 'hero', vehicle: str = 'vehicle.lincoln.mkz_2020', centre_m: float = MKZ_CENTRE_M
) -> dict[str, Any]:
    """Return what the bridge's carla_spawn_objects spawns: a vehicle with a rig's cameras, odometry, speed; the map."""
    others = [
        {'type': 'sensor.pseudo.odom', 'id': 'odometry'},
        {'type': 'sensor.pseudo.speedometer', 'id': 'speedometer'},
        {'type': 'sensor.pseudo.tf', 'id': 'tf'},
    ]
    sensors = [*sensors_of(rig, centre_m), *others]
    # Without this sensor of the world the bridge publishes no /carla/map.
    world = {'type': 'sensor.pseudo.opendrive_map', 'id': 'map'}
    return {'objects': [{'type': vehicle, 'id': role, 'sensors': sensors}, world]}
