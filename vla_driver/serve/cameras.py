# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The cameras that a simulator declares, as the ones a policy knows: which is which, and what its lens does.

egodriver declares cameras by names of its own (`camera_front_wide_120fov`), with a lens and a pose each.  A policy
knows six by the way they look.  Each of these gets the declared camera that looks that way and shows enough of it; what
nobody looks through is left alone, and what nobody shows is missing, which the policy is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from vla_driver.geometry.distortion import (
    EQUIDISTANT,
    RATIONAL,
    Lens,
    fields_of_view_deg,
    ftheta_lens,
    undistorted_matrix,
)
from vla_driver.geometry.rig import viewing_angles
from vla_driver.types import ANCHOR_CAMERA, CameraModel, CameraRig, FloatArray, InvalidInput

#: Which way a policy's cameras look (degrees to the left), as they do in the rigs of nuScenes and Bench2Drive.
DIRECTIONS_DEG: Final = {
    'front': 0.0,
    'front_left': 55.0,
    'front_right': -55.0,
    'back_left': 110.0,
    'back_right': -110.0,
    'back': 180.0,
}
#: A camera that looks farther away from there shows something else.
_FARTHEST_DEG: Final = 40.0
#: What a camera should show across; each degree less is half as bad as a degree of direction, each one more a tenth.
_WANTED_FOV_DEG: Final = 70.0
_TOO_NARROW, _TOO_WIDE = 0.5, 0.1
#: Wider than any camera looks away.
_NEVER: Final = 1e3


@dataclass(frozen=True)
class DeclaredCamera:
    """A camera as a simulator declares it: its name there, and what it is once undistorted.

    camera: a pinhole; lens: what its pictures are undistorted from, None where they are the pinhole's already.
    note: what of its declaration is not heeded, in words, '' for nothing.
    """

    camera: CameraModel
    lens: Lens | None
    note: str = ''


@dataclass(frozen=True)
class SessionCameras:
    """The cameras of one session: a policy's names for those that it looks through.

    sources: policy's name -> declared name; rig: their pinholes; lenses: of those that are undistorted; notes: what a
    user should know, in words.
    """

    sources: Mapping[str, str]
    rig: CameraRig
    lenses: Mapping[str, Lens]
    notes: tuple[str, ...]

    def name_of(self, declared: str) -> str | None:
        """Return the policy's name of a declared camera, None where it does not look through it."""
        return next((name for name, source in self.sources.items() if source == declared), None)


def read_camera(declared: Any) -> DeclaredCamera:
    """Return an egodriver `AvailableCamera` (contract revision 2: `rig_to_camera` is its optical frame's pose).

    Raises InvalidInput, naming the camera, for a lens or a pose that none has.
    """
    name, spec = str(declared.logical_id), declared.intrinsics
    try:
        width, height = int(spec.resolution_w), int(spec.resolution_h)
        if width < 1 or height < 1:
            raise InvalidInput(f'resolution {width}x{height}, expected positive numbers of pixels')
        lens = _lens(spec, width, height)
        bends = lens.bends()
        matrix = undistorted_matrix(lens) if bends else lens.matrix
        if fields_of_view_deg(matrix, width, height)[0] < 1.0:
            raise InvalidInput(f'a field of view of {fields_of_view_deg(matrix, width, height)[0]:.2g} degrees')
        camera = CameraModel(name, width, height, matrix, _pose(declared.rig_to_camera))
    except InvalidInput as error:
        raise InvalidInput(f'camera {name!r}: {error}') from error
    windshield = spec.HasField('bivariate_windshield_model_param')
    note = 'what its windshield bends is not undone' if windshield else ''
    return DeclaredCamera(camera, lens if bends else None, note)


def _lens(spec: Any, width: int, height: int) -> Lens:
    kind = spec.WhichOneof('camera_param')
    if kind == 'opencv_pinhole_param':
        p = spec.opencv_pinhole_param
        k, t, s = (_padded(p, name, n) for name, n in (('radial', 6), ('tangential', 2), ('thin_prism', 4)))
        coefficients = np.concatenate([k[:2], t, k[2:], s, [0.0, 0.0]])
        return Lens(RATIONAL, width, height, _matrix(p, width, height), coefficients)
    if kind == 'opencv_fisheye_param':
        p = spec.opencv_fisheye_param
        limit = float(p.max_angle) if 0.0 < p.max_angle < math.pi else math.pi
        return Lens(EQUIDISTANT, width, height, _matrix(p, width, height), _padded(p, 'radial', 4), limit)
    if kind == 'ftheta_param':
        p = spec.ftheta_param
        inverse = p.reference_poly == p.PolynomialType.Value('PIXELDIST_TO_ANGLE')
        c, d, e = p.linear_cde.linear_c, p.linear_cde.linear_d, p.linear_cde.linear_e
        return ftheta_lens(
            width,
            height,
            (float(p.principal_point_x), float(p.principal_point_y)),
            list(p.angle_to_pixeldist_poly),
            list(p.pixeldist_to_angle_poly) if inverse or not p.angle_to_pixeldist_poly else (),
            float(p.max_angle),
            (c, d, e) if (c, d, e) != (0.0, 0.0, 0.0) else (1.0, 0.0, 0.0),  # not filled in
        )
    raise InvalidInput(
        f'its lens is {kind or "not declared"}; expected opencv_pinhole_param, opencv_fisheye_param or ftheta_param'
    )


def _padded(params: Any, name: str, count: int) -> FloatArray:
    given = np.array(getattr(params, f'{name}_coeffs'), dtype=np.float64)
    if len(given) > count or not np.isfinite(given).all():
        raise InvalidInput(f'{name}_coeffs is {given.tolist()}, expected at most {count} finite numbers')
    return np.concatenate([given, np.zeros(count - len(given))])


def _matrix(params: Any, width: int, height: int) -> FloatArray:
    fx, fy = float(params.focal_length_x), float(params.focal_length_y)
    cx, cy = float(params.principal_point_x), float(params.principal_point_y)
    if not (all(map(math.isfinite, (fx, fy, cx, cy))) and fx > 0.0 and fy > 0.0):
        raise InvalidInput(f'focal length ({fx:g}, {fy:g}), principal point ({cx:g}, {cy:g}): expected those of a lens')
    if not (0.0 < cx < width and 0.0 < cy < height):
        raise InvalidInput(f'principal point ({cx:g}, {cy:g}) outside of the picture of {width}x{height}')
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _pose(pose: Any) -> FloatArray:
    """Return a pose message as [4, 4]."""
    x, y, z, w = (float(getattr(pose.quat, axis)) for axis in 'xyzw')
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not 0.99 < norm < 1.01:
        raise InvalidInput(f'rig_to_camera: quaternion ({x:g}, {y:g}, {z:g}, {w:g}) has length {norm:g}, expected 1')
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
    ]
    matrix[:3, 3] = [float(pose.vec.x), float(pose.vec.y), float(pose.vec.z)]
    return matrix


def choose_cameras(
    declared: Sequence[Any], wanted: Sequence[str], chosen: Mapping[str, str] | None = None
) -> SessionCameras:
    """Return which of the `AvailableCamera`s a policy looks through.

    wanted: the policy's cameras; chosen: policy's name -> declared name, where somebody has said so.
    Raises InvalidInput where nothing shows what is in front, and for a choice that cannot be met.
    """
    chosen = dict(chosen or {})
    by_name = {str(camera.logical_id): camera for camera in declared}
    names = ', '.join(by_name) or 'none'
    if len(by_name) != len(declared):
        raise InvalidInput(f'cameras are declared twice: {", ".join(str(c.logical_id) for c in declared)}')
    for name, source in chosen.items():
        if name not in wanted:
            raise InvalidInput(f'camera {name}={source}: the policy has no {name}; it has {", ".join(wanted)}')
        if source not in by_name:
            raise InvalidInput(f'camera {name}={source}: the simulator declares no {source!r}; it declares {names}')
        if (other := next(n for n, s in chosen.items() if s == source)) != name:
            raise InvalidInput(f'camera {name}={source}: that is {other} already; each needs one of its own')
    read: dict[str, DeclaredCamera] = {}
    notes: list[str] = []
    for name, camera in by_name.items():
        try:
            read[name] = read_camera(camera)
        except InvalidInput as error:
            if name in chosen.values():
                raise
            notes.append(f'{error}: left out')
    sources = dict(chosen) | _by_direction(
        {name: camera for name, camera in read.items() if name not in chosen.values()},
        [name for name in wanted if name not in chosen],
    )
    if ANCHOR_CAMERA in wanted and ANCHOR_CAMERA not in sources:
        raise InvalidInput(
            f'no camera looks ahead (within {_FARTHEST_DEG:g} degrees): the simulator declares '
            + (', '.join(f'{n} at {_looks(c)}' for n, c in read.items()) or names)
            + ''.join(f'; {note}' for note in notes)
        )
    sources = {name: sources[name] for name in wanted if name in sources}
    missing = [name for name in wanted if name not in sources]
    unused = [name for name in read if name not in sources.values()]
    if missing:
        notes.append(f'nothing shows {", ".join(missing)}: the policy drives without')
    if unused:
        notes.append(f'not looked through: {", ".join(unused)}')
    for name, source in sources.items():
        lens = read[source].lens
        if lens is not None:
            fov = fields_of_view_deg(read[source].camera.intrinsics, lens.width, lens.height)[0]
            notes.append(f'{source} ({name}) is undistorted from {lens.model} to a pinhole of {fov:.0f} degrees')
        if read[source].note:
            notes.append(f'{source} ({name}): {read[source].note}')
    cameras = tuple(_renamed(read[source].camera, name) for name, source in sources.items())
    lenses = {name: lens for name, source in sources.items() if (lens := read[source].lens) is not None}
    return SessionCameras(sources, CameraRig('session', cameras), lenses, tuple(notes))


def _by_direction(cameras: Mapping[str, DeclaredCamera], wanted: Sequence[str]) -> dict[str, str]:
    wanted = [name for name in wanted if name in DIRECTIONS_DEG]
    if not wanted or not cameras:
        return {}
    costs = np.array([[_cost(camera, DIRECTIONS_DEG[name]) for camera in cameras.values()] for name in wanted])
    rows, columns = linear_sum_assignment(costs)
    sources = list(cameras)
    return {
        wanted[row]: sources[column] for row, column in zip(rows, columns, strict=True) if costs[row, column] < _NEVER
    }


def _looks(declared: DeclaredCamera) -> str:
    """Return which way a camera looks, in words."""
    yaw_deg, pitch_deg, _ = viewing_angles(declared.camera.base_from_camera)
    slope = f', {abs(pitch_deg):.0f} {"down" if pitch_deg > 0.0 else "up"}' if abs(pitch_deg) >= 20.0 else ''
    return f'{yaw_deg:.0f} degrees{slope}'


def _cost(declared: DeclaredCamera, towards_deg: float) -> float:
    # In space: what looks down from above has any yaw.
    towards = np.array([math.cos(math.radians(towards_deg)), math.sin(math.radians(towards_deg)), 0.0])
    axis = declared.camera.base_from_camera[:3, 2]
    away_deg = math.degrees(math.acos(float(np.clip(axis @ towards, -1.0, 1.0))))
    if away_deg > _FARTHEST_DEG:
        return _NEVER
    camera = declared.camera
    more_deg = fields_of_view_deg(camera.intrinsics, camera.width, camera.height)[0] - _WANTED_FOV_DEG
    return away_deg + max(-_TOO_NARROW * more_deg, _TOO_WIDE * more_deg)


def _renamed(camera: CameraModel, name: str) -> CameraModel:
    return CameraModel(name, camera.width, camera.height, camera.intrinsics, camera.base_from_camera)
