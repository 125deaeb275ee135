# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Camera rigs from YAML files (`geometry.camera_info` has CameraInfo messages, `geometry.mounting` tf trees).

A rig file:

    name: sim
    cameras:
      front:
        width: 320                    # pixels
        height: 192
        fov_deg: 70.0                 # horizontal field of view; or `k`: nine numbers, row by row, as in CameraInfo
        position_m: [1.7, 0.0, 1.55]  # of the lens in base_link
        yaw_deg: 0.0                  # the viewing direction in base_link; the three angles are 0 unless given
        pitch_deg: 0.0
        roll_deg: 0.0

base_link lies on the ground below the middle of the rear axle, x forward, y left, z up (REP-103).  The
angles turn a camera that looks along x: R = Rz(yaw) Ry(pitch) Rx(roll), all right-handed.  So a positive
yaw looks to the left, a positive pitch looks down, a positive roll tilts the camera's top to the right.

Pixel coordinates: the picture spans [0, width] x [0, height], so pixel (0, 0) has its centre at
(0.5, 0.5), and `fov_deg` puts the principal point at (width / 2, height / 2).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from vla_driver.resources import resource
from vla_driver.types import CameraModel, CameraRig, FloatArray, InvalidInput

#: Columns: the optical frame's axes (x right, y down, z forward) in a body frame (x forward, y left, z up).
BODY_FROM_OPTICAL: FloatArray = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
BODY_FROM_OPTICAL.setflags(write=False)

_REQUIRED = ('width', 'height', 'position_m')
_OPTIONAL = ('fov_deg', 'k', 'yaw_deg', 'pitch_deg', 'roll_deg')


def intrinsics_from_fov(width: int, height: int, fov_deg: float) -> FloatArray:
    """Return K [3, 3] of a pinhole with square pixels: f = width / (2 tan(fov / 2)), centre in the middle."""
    if not 0.0 < fov_deg < 180.0:
        raise InvalidInput(f'fov_deg is {fov_deg}, expected a horizontal field of view between 0 and 180 degrees')
    focal = width / (2.0 * math.tan(math.radians(fov_deg) / 2.0))
    return np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])


def mount(position_m: npt.ArrayLike, yaw_deg: float, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> FloatArray:
    """Return base_from_camera [4, 4] of a lens at `position_m` [3] looking along the given direction."""
    y, p, r = (math.radians(angle) for angle in (yaw_deg, pitch_deg, roll_deg))
    about_z = np.array([[math.cos(y), -math.sin(y), 0.0], [math.sin(y), math.cos(y), 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[math.cos(p), 0.0, math.sin(p)], [0.0, 1.0, 0.0], [-math.sin(p), 0.0, math.cos(p)]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, math.cos(r), -math.sin(r)], [0.0, math.sin(r), math.cos(r)]])
    pose = np.eye(4)
    pose[:3, :3] = about_z @ about_y @ about_x @ BODY_FROM_OPTICAL
    pose[:3, 3] = np.asarray(position_m, dtype=np.float64)
    return pose


def viewing_angles(base_from_camera: npt.ArrayLike) -> tuple[float, float, float]:
    """Return (yaw, pitch, roll) in degrees: the inverse of `mount`.

    Straight up or down, where yaw and roll turn about the same axis, roll is given as 0.
    """
    r = np.asarray(base_from_camera, dtype=np.float64)[:3, :3] @ BODY_FROM_OPTICAL.T
    pitch = math.asin(min(1.0, max(-1.0, -float(r[2, 0]))))
    if math.hypot(r[0, 0], r[1, 0]) < 1e-9:
        yaw, roll = math.atan2(-r[0, 1], r[1, 1]), 0.0
    else:
        yaw, roll = math.atan2(r[1, 0], r[0, 0]), math.atan2(r[2, 1], r[2, 2])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def load_rig(source: str | Path) -> CameraRig:
    """Return the rig of a YAML file, or of a shipped one by name: 'sim', 'nuscenes', 'bench2drive'.

    Raises InvalidInput naming the file, the camera and the key that is wrong, and what is allowed.
    """
    path = Path(source)
    if path.suffix not in ('.yaml', '.yml'):
        folder = resource('config', 'rigs')
        shipped = sorted(p.stem for p in folder.glob('*.yaml'))
        if str(source) not in shipped:
            raise InvalidInput(f'rig {str(source)!r}: give a .yaml file or one of: {", ".join(shipped)}')
        path = folder / f'{source}.yaml'
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f'rig file {path} cannot be read: {error}') from error
    return rig_from_yaml(text, str(path))


def rig_from_yaml(text: str, where: str = 'rig') -> CameraRig:
    """Return the rig described by YAML `text`; `where` names it in errors (InvalidInput)."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f'{where}: not valid YAML: {error}') from error
    if not isinstance(data, dict) or not isinstance(data.get('cameras'), dict) or not data['cameras']:
        raise InvalidInput(f'{where}: expected a mapping with `name` and a mapping `cameras`: camera name -> camera')
    unknown = sorted(map(str, set(data) - {'name', 'cameras'}))
    if unknown:
        raise InvalidInput(f'{where}: unknown keys {unknown}, allowed: name, cameras')
    cameras = tuple(_camera(str(name), entry, where) for name, entry in data['cameras'].items())
    return CameraRig(str(data.get('name', Path(where).stem)), cameras)


def _camera(name: str, entry: Any, where: str) -> CameraModel:
    here = f'{where}: camera {name}'
    if not isinstance(entry, dict):
        raise InvalidInput(f'{here}: {entry!r}, expected a mapping with {", ".join(_REQUIRED)} and fov_deg or k')
    unknown = sorted(map(str, set(entry) - set(_REQUIRED) - set(_OPTIONAL)))
    if unknown:
        raise InvalidInput(f'{here}: unknown keys {unknown}, allowed: {", ".join(_REQUIRED + _OPTIONAL)}')
    lacking = [key for key in _REQUIRED if key not in entry]
    if lacking:
        raise InvalidInput(f'{here}: lacks {", ".join(lacking)}')
    if ('fov_deg' in entry) == ('k' in entry):
        raise InvalidInput(f'{here}: give either fov_deg or k (nine numbers), not both and not neither')
    width, height = entry['width'], entry['height']
    for key, value in (('width', width), ('height', height)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInput(f'{here}: {key} is {value!r}, expected a positive whole number of pixels')
    position = _numbers(f'{here}: position_m', entry['position_m'], 3)
    angles = [_numbers(f'{here}: {key}', [entry.get(key, 0.0)], 1)[0] for key in _OPTIONAL[2:]]
    if 'k' in entry:
        intrinsics = _intrinsics(f'{here}: k', entry['k'])
    else:
        intrinsics = intrinsics_from_fov(width, height, _numbers(f'{here}: fov_deg', [entry['fov_deg']], 1)[0])
    return CameraModel(name, width, height, intrinsics, mount(position, *angles))


def _numbers(what: str, value: Any, count: int) -> list[float]:
    ok = isinstance(value, list) and len(value) == count
    if not ok or not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value):
        raise InvalidInput(f'{what} is {value!r}, expected {count} finite number{"s" if count > 1 else ""}')
    return [float(v) for v in value]


def _intrinsics(what: str, value: Any) -> FloatArray:
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    k = np.array(_numbers(what, listed, 9)).reshape(3, 3)
    if not np.allclose(k[2], [0.0, 0.0, 1.0]) or abs(k[1, 0]) > 1e-9:
        raise InvalidInput(f'{what} is {k.tolist()}, expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]]')
    return k


def rig_to_yaml(rig: CameraRig) -> str:
    """Return the YAML text of `rig`, which `rig_from_yaml` reads back (angles to 1e-9 degrees)."""
    cameras = {}
    for camera in rig:
        yaw, pitch, roll = (round(angle, 9) for angle in viewing_angles(camera.base_from_camera))
        cameras[camera.name] = {
            'width': camera.width,
            'height': camera.height,
            'k': camera.intrinsics.ravel().tolist(),
            'position_m': camera.base_from_camera[:3, 3].tolist(),
            'yaw_deg': yaw,
            'pitch_deg': pitch,
            'roll_deg': roll,
        }
    return yaml.safe_dump({'name': rig.name, 'cameras': cameras}, sort_keys=False, default_flow_style=None)
