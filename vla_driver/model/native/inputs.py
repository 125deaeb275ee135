# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Observation to tensors: pictures resized per camera, viewing rays from the rig, ego state, navigation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from vla_driver.geometry.projection import ray_directions
from vla_driver.model.config import VlaConfig
from vla_driver.model.tokens import ModelInputs
from vla_driver.observation.resize import resize
from vla_driver.types import CameraModel, CameraRig, InvalidInput, Observation

Float32Array = npt.NDArray[np.float32]


def rig_geometry(config: VlaConfig, cameras: Mapping[str, CameraModel]) -> tuple[Float32Array, Float32Array]:
    """Return rays [P, 3] of all patch centres and origins [C, 3] of the cameras, in base_link.

    A camera of the model that the mapping lacks gets zeros: its tokens are replaced by the "missing"
    embedding.  Rays do not depend on the pictures' resolution, only on the field of view.
    """
    rays, origins = [], []
    for size, names in config.camera_groups:
        rows, columns = config.patch_grid(size)
        for name in names:
            camera = cameras.get(name)
            if camera is None:
                rays.append(np.zeros((rows * columns, 3)))
                origins.append(np.zeros(3))
            else:
                rays.append(ray_directions(camera, (rows, columns)).reshape(-1, 3))
                origins.append(camera.base_from_camera[:3, 3])
    return np.concatenate(rays).astype(np.float32), np.stack(origins).astype(np.float32)


class InputBuilder:
    """Observation to ModelInputs with B = 1; the rig's rays are computed once per rig."""

    def __init__(self, config: VlaConfig):
        self._config = config
        self._rig: CameraRig | None = None
        self._rays, self._origins = torch.empty(0), torch.empty(0)

    def __call__(self, observation: Observation) -> ModelInputs:
        """Return the tensors of one observation; raise `InvalidInput` for cameras the model does not know."""
        self._use_rig(observation.rig)
        images, present = [], []
        for (width, height), names in self._config.camera_groups:
            group = np.zeros((len(names), height, width, 3), dtype=np.uint8)
            for index, name in enumerate(names):
                frame = observation.frames.get(name)
                present.append(frame is not None)
                # The blind control never looks, so nothing is resized for it.
                if frame is not None and not self._config.blind:
                    group[index] = resize(frame.image, width, height)
            images.append(torch.from_numpy(group).unsqueeze(0))
        ego, navigation = observation.ego, observation.navigation
        return ModelInputs(
            images=tuple(images),
            present=torch.tensor([present]),
            rays=self._rays,
            origins=self._origins,
            speed_mps=torch.tensor([ego.speed_mps], dtype=torch.float32),
            yaw_rate_rps=torch.tensor([ego.yaw_rate_rps], dtype=torch.float32),
            command=torch.tensor([int(navigation.command)]),
            command_distance_m=torch.tensor([navigation.distance_m], dtype=torch.float32),
            targets_m=torch.tensor(np.asarray(navigation.target_points_m), dtype=torch.float32).unsqueeze(0),
        )

    def _use_rig(self, rig: CameraRig) -> None:
        if rig is self._rig:
            return
        known = self._config.camera_names
        unknown = sorted(set(rig.names) - set(known))
        if unknown:
            raise InvalidInput(
                f'rig {rig.name} has cameras {unknown}, which the model does not know; it knows {", ".join(known)}: '
                'name them so in the rig file, or leave them out'
            )
        rays, origins = rig_geometry(self._config, {camera.name: camera for camera in rig})
        self._rays, self._origins = torch.from_numpy(rays).unsqueeze(0), torch.from_numpy(origins).unsqueeze(0)
        self._rig = rig
