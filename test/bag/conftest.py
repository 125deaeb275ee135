# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A small drive to write and read: six cameras, a curve, a route, another car."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vla_driver.bag.write import BagWriter
from vla_driver.geometry.rig import load_rig
from vla_driver.geometry.unicycle import integrate
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import (
    CAMERA_NAMES,
    CameraFrame,
    EgoState,
    Image,
    Navigation,
    Observation,
    TurnCommand,
)

T0_S, STEP_S, SPEED_MPS, YAW_RATE_RPS = 1_700_000_000.0, 0.1, 8.0, 0.05
ROUTE_M = np.array([[30.0, 1.0], [60.0, 6.0], [95.0, 14.0]])


def picture(tick: int, camera: str, width: int = 320, height: int = 192) -> Image:
    """A smooth picture that tells tick and camera."""
    seed = np.random.default_rng([tick, CAMERA_NAMES.index(camera)])
    return np.asarray(cv2.resize(seed.integers(0, 256, (6, 10, 3), dtype=np.uint8), (width, height)))


def ego(tick: int) -> EgoState:
    """On a circle, exactly."""
    t = tick * STEP_S
    yaw, radius = YAW_RATE_RPS * t, SPEED_MPS / YAW_RATE_RPS
    return EgoState(T0_S + t, radius * math.sin(yaw), radius * (1 - math.cos(yaw)), yaw, SPEED_MPS, YAW_RATE_RPS)


def car(tick: int) -> Actor:
    """A car that drives ahead."""
    return Actor(70_000 % 65_536, SemanticClass.CAR, 20.0 + tick, 2.0, 0.1, 4.6, 1.9, 1.5, speed_mps=9.25)


def expert():
    """A trajectory that brakes in a bend."""
    return integrate(SPEED_MPS, np.full(20, -0.5), np.full(20, 0.01))


def observation(tick: int) -> Observation:
    """What a simulator would hand out at `tick`."""
    stamp_s = T0_S + tick * STEP_S
    frames = {name: CameraFrame(name, stamp_s, picture(tick, name)) for name in CAMERA_NAMES}
    navigation = Navigation(TurnCommand.LEFT, 50.0 - tick, ROUTE_M[:2])
    return Observation(stamp_s, frames, load_rig('sim'), ego(tick), navigation)


def write_drive(path: Path, ticks: int = 12, leave_out: tuple[str, ...] = ()) -> Path:
    """Write a drive of `ticks`; leave_out: 'route', 'turn_command', 'odom' or cameras."""
    with BagWriter(path, load_rig('sim')) as bag:
        if 'route' not in leave_out:
            bag.write_route(T0_S, ROUTE_M)
        for tick in range(ticks):
            seen = observation(tick)
            if 'odom' not in leave_out:
                bag.write_odometry(seen.ego)
            if 'turn_command' not in leave_out:
                bag.write_turn_command(seen.stamp_s, seen.navigation.command, seen.navigation.distance_m)
            for name, frame in seen.frames.items():
                if name not in leave_out:
                    bag.write_camera(name, frame.stamp_s, frame.image)
            bag.write_agents(seen.stamp_s, [car(tick)])
            bag.write_expert(seen.stamp_s, expert())
            bag.write_semantic('front', seen.stamp_s, np.full((48, 80), tick, np.uint8))
    return path


@pytest.fixture(scope='session')
def sample() -> SimpleNamespace:
    """The functions and numbers above (tests are imported one by one, so they cannot import this file)."""
    return SimpleNamespace(
        T0_S=T0_S,
        STEP_S=STEP_S,
        SPEED_MPS=SPEED_MPS,
        YAW_RATE_RPS=YAW_RATE_RPS,
        ROUTE_M=ROUTE_M,
        picture=picture,
        ego=ego,
        car=car,
        expert=expert,
        observation=observation,
        write_drive=write_drive,
    )


@pytest.fixture(scope='session')
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bag."""
    return write_drive(tmp_path_factory.mktemp('bags') / 'drive')
