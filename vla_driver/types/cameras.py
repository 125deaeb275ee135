# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras: what they are, how they are mounted, what they saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla_driver.types.checks import FloatArray, Image, finite, finite_number
from vla_driver.types.errors import InvalidInput

#: The six cameras in mosaic order: upper row, then lower row.
CAMERA_NAMES = ('front_left', 'front', 'front_right', 'back_left', 'back', 'back_right')
#: The camera whose frames set the tick: every plan is stamped with its time.
ANCHOR_CAMERA = 'front'


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera without distortion, mounted on the vehicle.

    intrinsics: [3, 3] pixel matrix K; base_from_camera: [4, 4] pose of the optical frame in base_link.
    """

    name: str
    width: int
    height: int
    intrinsics: FloatArray
    base_from_camera: FloatArray

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidInput(f'camera {self.name}: size {self.width}x{self.height}, expected positive numbers')
        k = finite(f'camera {self.name}: intrinsics', self.intrinsics, (3, 3))
        if k[0, 0] <= 0 or k[1, 1] <= 0:
            raise InvalidInput(f'camera {self.name}: focal lengths {k[0, 0]}, {k[1, 1]}, expected positive numbers')
        pose = finite(f'camera {self.name}: base_from_camera', self.base_from_camera, (4, 4))
        if not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-4):
            raise InvalidInput(f'camera {self.name}: base_from_camera holds no rotation (R R^T is not the identity)')
        object.__setattr__(self, 'intrinsics', k)
        object.__setattr__(self, 'base_from_camera', pose)

    def resized(self, width: int, height: int) -> CameraModel:
        """Return the same camera seen at another resolution (pixel centres at half-integers)."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return CameraModel(self.name, width, height, scale @ self.intrinsics, self.base_from_camera)


@dataclass(frozen=True)
class CameraRig:
    """The cameras of one vehicle, by name."""

    name: str
    cameras: tuple[CameraModel, ...]

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise InvalidInput(f'rig {self.name}: camera names repeat: {names}')
        if not names:
            raise InvalidInput(f'rig {self.name}: no cameras')

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names in the rig's order."""
        return tuple(camera.name for camera in self.cameras)

    def __getitem__(self, name: str) -> CameraModel:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise InvalidInput(f'rig {self.name} has no camera {name!r}; it has: {", ".join(self.names)}')

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[CameraModel]:
        return iter(self.cameras)


@dataclass(frozen=True)
class CameraFrame:
    """One decoded picture: image [H, W, 3] uint8 RGB, stamp in seconds.

    blank: a black picture that stands in for one that was not to be had.
    """

    camera: str
    stamp_s: float
    image: Image
    blank: bool = False

    def __post_init__(self) -> None:
        finite_number(f'camera {self.camera}: stamp', self.stamp_s)
        image = self.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InvalidInput(
                f'camera {self.camera}: image of {image.dtype} {image.shape}, expected uint8 [H, W, 3] RGB'
            )
