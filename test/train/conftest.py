# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Small random episodes, written by the real EpisodeWriter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_driver.geometry.unicycle import integrate
from vla_driver.train.episode import EpisodeWriter, Hazard, Tick
from vla_driver.types import (
    CAMERA_NAMES,
    PLAN_STEPS,
    CameraFrame,
    CameraModel,
    CameraRig,
    EgoState,
    Navigation,
    Observation,
    TurnCommand,
)

_YAW_DEG = {'front_left': 55, 'front': 0, 'front_right': -55, 'back_left': 110, 'back': 180, 'back_right': -110}


def make_rig(names: tuple[str, ...] = CAMERA_NAMES) -> CameraRig:
    """Return a rig of 320x192 cameras looking outward from 1.5 m above base_link."""
    optical = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    cameras = []
    for name in names:
        yaw = np.deg2rad(_YAW_DEG[name])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3, :3] = turn @ optical
        pose[:3, 3] = 1.5 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5
        cameras.append(CameraModel(name, 320, 192, np.array([[228.0, 0, 160], [0, 228.0, 96], [0, 0, 1]]), pose))
    return CameraRig('test', tuple(cameras))


def random_tick(
    index: int, rng: np.random.Generator, rig: CameraRig, *, start_s: float = 0.0, missing: tuple[str, ...] = ()
) -> Tick:
    """Return tick `index` (every 0.5 s) of a drive at constant speed, with pictures of coloured blocks."""
    stamp, speed = start_s + 0.5 * index, float(rng.uniform(0, 12))
    frames, semantic, depth = {}, {}, {}
    for name in rig.names:
        if name in missing:
            continue
        blocks = rng.integers(0, 255, (12, 20, 3), dtype=np.uint8)
        frames[name] = CameraFrame(name, stamp, np.kron(blocks, np.ones((16, 16, 1), np.uint8)))
        semantic[name] = np.kron(rng.integers(0, 17, (12, 20), dtype=np.uint8), np.ones((16, 16), np.uint8))
        depth[name] = np.kron(rng.uniform(1, 80, (12, 20)), np.ones((16, 16))).astype(np.float32)
    acceleration = np.full(PLAN_STEPS, rng.uniform(-4, 2))
    observation = Observation(
        stamp_s=stamp,
        frames=frames,
        rig=rig,
        ego=EgoState(stamp, 4.0 * index, 0.1 * index, 0.02 * index, speed, 0.05),
        navigation=Navigation(
            TurnCommand(int(rng.integers(0, 4))), float(rng.uniform(0, 90)), rng.normal(0, 20, (2, 2))
        ),
        missing=missing,
    )
    return Tick(
        observation=observation,
        expert=integrate(speed, acceleration, np.full(PLAN_STEPS, rng.normal(0, 0.03))),
        semantic=semantic,
        depth_m=depth,
        red_light_distance_m=float(rng.choice([np.inf, 10.0, 30.0])),
        lead_gap_m=12.0,
        lead_speed_mps=3.0,
        hazard=Hazard(int(rng.integers(0, 4))),
    )


def write_episodes(folder: Path, count: int, ticks: int, *, seed: int = 0) -> Path:
    """Write `count` random episodes of `ticks` ticks in two towns; return the folder."""
    rig = make_rig()
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        writer = EpisodeWriter(folder / f'episode_{index:04d}.npz', rig, town=f'town_{index % 2}', seed=index)
        for tick in range(ticks):
            writer.append(random_tick(tick, rng, rig))
        writer.save()
    return folder


@pytest.fixture(scope='session')
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four random episodes of ten ticks."""
    return write_episodes(tmp_path_factory.mktemp('episodes'), count=4, ticks=10)


@pytest.fixture(scope='session')
def rig() -> CameraRig:
    """Six cameras that look outward."""
    return make_rig()


@pytest.fixture
def make_tick(rig: CameraRig) -> Callable[..., Tick]:
    """Return a maker of random ticks: (index, missing=())."""

    def make(index: int, missing: tuple[str, ...] = ()) -> Tick:
        return random_tick(index, np.random.default_rng(index), rig, missing=missing)

    return make


@pytest.fixture(scope='session')
def small_model_file(tmp_path_factory: pytest.TempPathFactory, tiny_settings: Callable[[], dict[str, Any]]) -> Path:
    """A file for --config: a model as small as episodes of full-size pictures allow."""
    settings = tiny_settings()
    narrow = {'stem_channels': [4, 8, 8], 'hidden_size': 16, 'num_attention_heads': 1, 'intermediate_size': 32}
    settings['vision_config'] |= narrow
    settings['action_config']['num_anchors'] = 6
    path = tmp_path_factory.mktemp('config') / 'small.json'
    path.write_text(json.dumps(settings))
    return path
