# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A model of the same structure as nano, small enough for tests, with observations and clips to feed it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.inputs import rig_geometry
from vla_driver.model.tokens import ClipBatch, ClipLabels, ModelInputs
from vla_driver.model.vla import VlaModel
from vla_driver.types import (
    ANCHOR_CAMERA,
    CAMERA_NAMES,
    CameraFrame,
    CameraModel,
    CameraRig,
    EgoState,
    Navigation,
    Observation,
    TurnCommand,
)

_YAW_DEG = {'front_left': 55, 'front': 0, 'front_right': -55, 'back_left': 110, 'back': 180, 'back_right': -110}


def _small_config(**changes: object) -> VlaConfig:
    return VlaConfig(
        vision_config={
            'stem_channels': [8, 8, 16],
            'hidden_size': 32,
            'num_hidden_layers': 2,
            'num_attention_heads': 2,
            'intermediate_size': 64,
        },
        language_config={
            'hidden_size': 32,
            'num_hidden_layers': 2,
            'num_attention_heads': 4,
            'num_key_value_heads': 2,
            'intermediate_size': 64,
        },
        action_config={
            'hidden_size': 24,
            'intermediate_size': 48,
            'flow_hidden_size': 16,
            'flow_num_heads': 2,
            'num_anchors': 6,
        },
        image_sizes={name: [128, 64] if name == ANCHOR_CAMERA else [64, 32] for name in CAMERA_NAMES},
        **changes,
    )


@pytest.fixture
def small_config() -> Callable[..., VlaConfig]:
    """Return a maker of small configs."""
    return _small_config


@pytest.fixture
def small_model() -> Callable[..., VlaModel]:
    """Return a maker of small models with random weights, anchors among them: (seed=0, **config) -> VlaModel."""

    def make(seed: int = 0, **changes: object) -> VlaModel:
        torch.manual_seed(seed)
        model = VlaModel(_small_config(**changes)).eval()
        with torch.no_grad():
            model.flow.anchors.normal_()
            # Far from the initial state, in which the velocity is zero and absent tokens are.
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture
def rig() -> CameraRig:
    """Six cameras that look outward, 1.5 m above base_link."""
    optical = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    cameras = []
    for name, yaw_deg in _YAW_DEG.items():
        yaw = np.deg2rad(yaw_deg)
        pose = np.eye(4)
        pose[:3, :3] = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]]) @ optical
        pose[:3, 3] = 1.5 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5
        cameras.append(CameraModel(name, 160, 80, np.array([[114.0, 0, 80], [0, 114.0, 40], [0, 0, 1]]), pose))
    return CameraRig('small', tuple(cameras))


@pytest.fixture
def observe(rig: CameraRig) -> Callable[..., Observation]:
    """Return a maker of observations with random pictures: (index, missing=(), stamp_s=index / 2)."""

    def make(index: int, missing: tuple[str, ...] = (), stamp_s: float | None = None) -> Observation:
        rng = np.random.default_rng(index)
        stamp = 0.5 * index if stamp_s is None else stamp_s
        pictures = {name: rng.integers(0, 255, (80, 160, 3), dtype=np.uint8) for name in rig.names}
        frames = {name: CameraFrame(name, stamp, image) for name, image in pictures.items() if name not in missing}
        ego = EgoState(stamp, 3.0 * index, 0.2 * index, 3.1 + 0.05 * index, 6.0 + 0.1 * index, 0.1)
        targets = np.array([[20.0, 2.0], [48.0, 8.0]]) + index
        return Observation(stamp, frames, rig, ego, Navigation(TurnCommand.LEFT, 30.0, targets), missing)

    return make


@pytest.fixture
def clip_batch(rig: CameraRig) -> Callable[..., ClipBatch]:
    """Return a maker of random training batches for a config: (config, clips=2, ticks=4)."""

    def make(config: VlaConfig, clips: int = 2, ticks: int = 4, seed: int = 0) -> ClipBatch:
        generator = torch.Generator().manual_seed(seed)
        rows = clips * ticks

        def uniform(*shape: int, high: float = 1.0) -> torch.Tensor:
            return high * torch.rand(*shape, generator=generator)

        images, semantic, depth = [], [], []
        for (width, height), names in config.camera_groups:
            shape = (rows, len(names), height // 4, width // 4)
            images.append(
                torch.randint(0, 255, (rows, len(names), height, width, 3), dtype=torch.uint8, generator=generator)
            )
            semantic.append(torch.randint(0, 17, shape, generator=generator))
            depth.append(1.0 + uniform(*shape, high=60.0))
        rays, origins = rig_geometry(config, {camera.name: camera for camera in rig})
        inputs = ModelInputs(
            images=tuple(images),
            present=torch.ones(rows, 6, dtype=torch.bool),
            rays=torch.from_numpy(rays).expand(clips, -1, -1),
            origins=torch.from_numpy(origins).expand(clips, -1, -1),
            speed_mps=uniform(rows, high=12.0),
            yaw_rate_rps=uniform(rows, high=0.2),
            command=torch.randint(0, 4, (rows,), generator=generator),
            command_distance_m=uniform(rows, high=80.0),
            targets_m=uniform(rows, 2, 2, high=40.0),
        )
        controls = torch.stack([uniform(rows, 20) - 0.5, 0.05 * (uniform(rows, 20) - 0.5)], dim=-1)
        labels = ClipLabels(
            semantic=tuple(semantic),
            depth_m=tuple(depth),
            controls=controls,
            positions_m=torch.zeros(rows, 20, 2),
            plan_speed_mps=torch.zeros(rows, 20),
            red_light_distance_m=torch.where(uniform(rows) < 0.5, torch.inf, uniform(rows, high=50.0)),
            lead_gap_m=torch.where(uniform(rows) < 0.5, torch.inf, uniform(rows, high=50.0)),
            lead_speed_mps=uniform(rows, high=10.0),
            hazard=torch.randint(0, 4, (rows,), generator=generator),
        )
        steps = torch.arange(ticks, dtype=torch.float64).repeat(clips)
        pose = torch.stack([3.0 * steps, 0.2 * steps, 3.1 + 0.05 * steps], dim=-1)
        return ClipBatch(inputs, labels, pose, 0.5 * steps, ticks)

    return make
