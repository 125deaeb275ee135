# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras from sensor_msgs/CameraInfo: what of it is used, and what is refused and why.

Pictures as they come from the camera have the intrinsics of K, and are undistorted where distortion_model and D say
so; rectified ones (image_proc's image_rect) have those of P, and the camera is turned by R.

Calibration tools count pixels from the middle of the first one, this package from its corner.  The K of a lens that
was measured, one with distortion, is moved by that half pixel; K and P of pictures that are a pinhole's are taken as
they stand, as simulators and our own bags write the middle of the picture as width / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from vla_driver.geometry.distortion import (
    EQUIDISTANT,
    Lens,
    fields_of_view_deg,
    read_model,
    undistorted_matrix,
)
from vla_driver.types import CameraModel, CameraRig, FloatArray, InvalidInput

#: What a lens may see: less or more means that the matrix is not this camera's (an identity, other units).
_PINHOLE_DEG: Final = (5.0, 175.0)
_FISHEYE_DEG: Final = (5.0, 360.0)


class CameraInfoLike(Protocol):
    """What is read of sensor_msgs/CameraInfo, whoever deserialised it; r, p, roi and binning may be absent."""

    width: int
    height: int
    k: Any
    d: Any


@dataclass(frozen=True)
class InfoCamera:
    """A camera as its CameraInfo has it.

    model: the pinhole to work with, of the size that pictures come in; lens: what they must be undistorted from, None
    where they are a pinhole's already; matrix: 'K' or 'P', where the intrinsics are from.
    """

    model: CameraModel
    lens: Lens | None
    matrix: str


def read_camera_info(
    info: CameraInfoLike, name: str, base_from_camera: FloatArray, rectified: bool = False
) -> InfoCamera:
    """Return the camera of a CameraInfo whose optical frame is at `base_from_camera` [4, 4].

    rectified: its pictures are.  A region of interest and binning are applied, as K and P speak of the full sensor.
    Raises InvalidInput, naming the camera and the numbers, for what cannot be a calibration and for distortion models
    that are not known here.
    """
    where = f'camera {name}: CameraInfo'
    width, height = int(info.width), int(info.height)
    if width < 1 or height < 1:
        raise InvalidInput(f'{where}: size {width}x{height}; the driver must fill in width and height of its pictures')
    try:
        distorted = None
        if not rectified:
            distorted = read_model(str(getattr(info, 'distortion_model', '')), info.d)
        letter, k = _matrix(info, rectified)
        _check(k, width, height, letter, fisheye=distorted is not None and distorted[0] == EQUIDISTANT)
        turn = _rectification(info) if rectified else np.eye(3)
        lens = None
        if distorted is not None:
            model, coefficients = distorted
            lens = Lens(model, width, height, k + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]), coefficients)
            lens = _part(lens, info) if lens.bends() else None
        pose = base_from_camera.copy()
        pose[:3, :3] = pose[:3, :3] @ turn.T
        if lens is None:
            plain = _part(Lens('', width, height, k, np.zeros(0)), info)
            return InfoCamera(CameraModel(name, plain.width, plain.height, plain.matrix, pose), None, letter)
        return InfoCamera(CameraModel(name, lens.width, lens.height, undistorted_matrix(lens), pose), lens, letter)
    except InvalidInput as error:
        raise InvalidInput(f'{where}: {error}') from error


def rig_from_camera_infos(
    infos: Mapping[str, CameraInfoLike], extrinsics: CameraRig, rectified: bool = False
) -> CameraRig:
    """Return `extrinsics` with size and intrinsics of each camera that has a CameraInfo in `infos` (by camera name).

    CameraInfo says nothing about where a camera is mounted: that comes from the rig.  Raises InvalidInput as
    `read_camera_info` does, and for cameras that the rig does not have.
    """
    unknown = sorted(set(infos) - set(extrinsics.names))
    if unknown:
        raise InvalidInput(
            f'CameraInfo of {", ".join(unknown)}, but the rig {extrinsics.name} mounts only '
            f'{", ".join(extrinsics.names)}; add the camera to the rig file'
        )
    cameras = tuple(
        read_camera_info(infos[c.name], c.name, c.base_from_camera, rectified).model if c.name in infos else c
        for c in extrinsics
    )
    return CameraRig(extrinsics.name, cameras)


def _matrix(info: CameraInfoLike, rectified: bool) -> tuple[str, FloatArray]:
    """Return which matrix holds the intrinsics of the pictures, and its numbers [3, 3]."""
    k = np.asarray(info.k, dtype=np.float64).ravel()
    letter = 'K'
    if rectified:
        p = np.asarray(getattr(info, 'p', ()), dtype=np.float64).ravel()
        if p.size == 12 and p.any():
            letter, k = 'P', p.reshape(3, 4)[:, :3].ravel()
        elif np.asarray(info.d, dtype=np.float64).any():
            raise InvalidInput(
                'P is all zeros, and rectified pictures have its intrinsics; publish it, or give the raw pictures'
            )
    if k.size != 9 or not k.any():
        raise InvalidInput(f'{letter} is {k.tolist()}: not calibrated; publish its numbers, or use the rig file only')
    matrix = k.reshape(3, 3).copy()
    if not np.isfinite(matrix).all():
        raise InvalidInput(f'{letter} is {matrix.tolist()}, expected finite numbers')
    if not np.allclose(matrix[2], [0.0, 0.0, 1.0]) or abs(matrix[1, 0]) > 1e-9:
        raise InvalidInput(f'{letter} is {matrix.tolist()}, expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]]')
    return letter, matrix


def _check(k: FloatArray, width: int, height: int, letter: str, *, fisheye: bool) -> None:
    """Refuse a matrix [3, 3] that no camera with pictures of this size has."""
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    centred = np.array([[fx, 0.0, width / 2.0], [0.0, fy, height / 2.0], [0.0, 0.0, 1.0]])
    if fx <= 0.0 or fy <= 0.0:
        raise InvalidInput(f'{letter} has focal lengths {fx:g} and {fy:g}, expected positive numbers of pixels')
    if fisheye:
        sees, allowed = (np.degrees(width / fx), np.degrees(height / fy)), _FISHEYE_DEG
    else:
        sees, allowed = fields_of_view_deg(centred, width, height), _PINHOLE_DEG
    if not (allowed[0] <= min(sees) and max(sees) <= allowed[1]):
        raise InvalidInput(
            f'{letter} has focal lengths {fx:g} and {fy:g} for {width}x{height} pixels, a field of view of '
            f"{sees[0]:.3g} x {sees[1]:.3g} degrees; expected {allowed[0]:g} to {allowed[1]:g}: not this camera's "
            'calibration'
        )
    if not (0.0 < cx < width and 0.0 < cy < height):
        raise InvalidInput(
            f'{letter} has its principal point at ({cx:g}, {cy:g}), outside the picture of {width}x{height}'
        )


def _rectification(info: CameraInfoLike) -> FloatArray:
    """Return R [3, 3], which turns rays of the camera into those of the rectified picture; identity if unfilled."""
    r = np.asarray(getattr(info, 'r', ()), dtype=np.float64).ravel()
    if r.size == 0 or not r.any():
        return np.eye(3)
    turn = r.reshape(3, 3) if r.size == 9 else np.zeros((3, 3))
    if not np.isfinite(turn).all() or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise InvalidInput(f'R is {r.tolist()}, expected a rotation matrix (the identity for a single camera)')
    return turn


def _part(lens: Lens, info: CameraInfoLike) -> Lens:
    """Return the lens of the pictures that are sent: a region of the sensor, binned."""
    roi = getattr(info, 'roi', None)
    if roi is not None and roi.width and roi.height:
        if roi.x_offset + roi.width > lens.width or roi.y_offset + roi.height > lens.height:
            raise InvalidInput(
                f'roi of {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset}), outside of '
                f'{lens.width}x{lens.height}'
            )
        lens = lens.cropped(roi.x_offset, roi.y_offset, int(roi.width), int(roi.height))
    bin_x, bin_y = (max(1, int(getattr(info, f'binning_{axis}', 0))) for axis in 'xy')
    return lens.resized(max(1, lens.width // bin_x), max(1, lens.height // bin_y))
