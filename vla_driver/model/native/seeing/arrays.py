# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Observation to arrays: pictures resized per camera, viewing rays from the rig, ego state, navigation; all numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vla_driver.geometry.projection import ray_directions
from vla_driver.observation.resize import resize
from vla_driver.types import CameraModel, CameraRig, InvalidInput, Observation

Float32Array = npt.NDArray[np.float32]


class PictureLayout(Protocol):
    """What a model says of its pictures: a `VlaConfig`, or the manifest of its graphs."""

    @property
    def camera_groups(self) -> Sequence[tuple[tuple[int, int], Sequence[str]]]:
        """Cameras of equal size: (((width, height), names), ...)."""

    @property
    def camera_names(self) -> tuple[str, ...]:
        """All cameras in the order of the groups."""

    def patch_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches of an image of `size` (width, height)."""


@dataclass(frozen=True)
class ObservationArrays:
    """One observation as arrays with a batch axis of 1; shapes and units as in `ModelInputs`.

    rays and origins are the same objects as long as the rig is.
    """

    images: tuple[npt.NDArray[np.uint8], ...]
    present: npt.NDArray[np.bool_]
    rays: Float32Array
    origins: Float32Array
    speed_mps: Float32Array
    yaw_rate_rps: Float32Array
    command: npt.NDArray[np.int64]
    command_distance_m: Float32Array
    targets_m: Float32Array


def rig_geometry(layout: PictureLayout, cameras: Mapping[str, CameraModel]) -> tuple[Float32Array, Float32Array]:
    """Return rays [P, 3] of all patch centres and origins [C, 3] of the cameras, in base_link.

    A camera of the model that the mapping lacks gets zeros: its tokens are replaced by the "missing"
    embedding.  Rays do not depend on the pictures' resolution, only on the field of view.
    """
    rays, origins = [], []
    for size, names in layout.camera_groups:
        rows, columns = layout.patch_grid(size)
        for name in names:
            camera = cameras.get(name)
            if camera is None:
                rays.append(np.zeros((rows * columns, 3)))
                origins.append(np.zeros(3))
            else:
                rays.append(ray_directions(camera, (rows, columns)).reshape(-1, 3))
                origins.append(camera.base_from_camera[:3, 3])
    return np.concatenate(rays).astype(np.float32), np.stack(origins).astype(np.float32)


class ArrayBuilder:
    """Observation to `ObservationArrays`; the rig's rays are computed once per rig.

    looks: whether pictures are looked at at all (the blind control does not: nothing is resized for it).
    """

    def __init__(self, layout: PictureLayout, looks: bool = True):
        self._layout, self._looks = layout, looks
        self._rig: CameraRig | None = None
        self._rays: Float32Array = np.empty((1, 0, 3), np.float32)
        self._origins: Float32Array = np.empty((1, 0, 3), np.float32)

    def __call__(self, observation: Observation) -> ObservationArrays:
        """Return the arrays of one observation; raise `InvalidInput` for cameras the model does not know."""
        self._use_rig(observation.rig)
        images, present = [], []
        for (width, height), names in self._layout.camera_groups:
            group = np.zeros((1, len(names), height, width, 3), dtype=np.uint8)
            for index, name in enumerate(names):
                frame = observation.frames.get(name)
                present.append(frame is not None)
                if frame is not None and self._looks:
                    group[0, index] = resize(frame.image, width, height)
            images.append(group)
        ego, navigation = observation.ego, observation.navigation
        return ObservationArrays(
            images=tuple(images),
            present=np.array([present]),
            rays=self._rays,
            origins=self._origins,
            speed_mps=np.array([ego.speed_mps], np.float32),
            yaw_rate_rps=np.array([ego.yaw_rate_rps], np.float32),
            command=np.array([int(navigation.command)], np.int64),
            command_distance_m=np.array([navigation.distance_m], np.float32),
            targets_m=np.asarray(navigation.target_points_m, np.float32)[None],
        )

    def _use_rig(self, rig: CameraRig) -> None:
        if rig is self._rig:
            return
        known = self._layout.camera_names
        unknown = sorted(set(rig.names) - set(known))
        if unknown:
            raise InvalidInput(
                f'rig {rig.name} has cameras {unknown}, which the model does not know; it knows {", ".join(known)}: '
                'name them so in the rig file, or leave them out'
            )
        rays, origins = rig_geometry(self._layout, {camera.name: camera for camera in rig})
        self._rays, self._origins = rays[None], origins[None]
        self._rig = rig
