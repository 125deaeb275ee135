# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of the emulator of CARLA's bridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vla_driver.settings.knob import parameter
from vla_driver.settings.nodes.simulator import PATIENT_CONTROLLER, PATIENT_PLANNER, SimulatorParameters

#: Whose ways are emulated: the bridge's with its odometry, waypoints and map, or those of the leaderboard's sensors.
WAYS: Final = ('bridge', 'leaderboard')
#: CARLA's leaderboard and Bench2Drive call the vehicle so.
ROLE: Final = 'hero'
#: Where the middle of the vehicle, of which the bridge tells the odometry, is in base_link: half a wheel base ahead.
CENTRE: Final = (1.4, 0.0, 0.0)
#: What planner and controller are given behind the bridge, and what more where its world waits for a command a tick
#: (the leaderboard waits for one second).
PLANNER: Final[dict[str, Any]] = {'turns_from_route': True, 'odometry_mount': CENTRE}
CONTROLLER: Final[dict[str, Any]] = {'odometry_mount': CENTRE}
WAITING_PLANNER: Final[dict[str, Any]] = PATIENT_PLANNER
WAITING_CONTROLLER: Final[dict[str, Any]] = {**PATIENT_CONTROLLER, 'answer_once_s': 0.9}
#: The world's map, of which there is one for all vehicles.
MAP_TOPIC: Final = '/carla/map'
#: Input or output of the driver -> the bridge's name for it; see `topics_of`.
TOPICS: Final = {
    'odom': 'odometry',
    'route': 'waypoints',
    'global_plan': 'global_plan',
    'opendrive_map': MAP_TOPIC,
    'vehicle_control_cmd': 'vehicle_control_cmd',
    'ackermann_cmd': 'ackermann_cmd',
}


def topics_of(vehicle: str) -> dict[str, str]:
    """Return input or output of the driver -> topic for a vehicle whose own begin with e.g. /carla/hero."""
    return {name: theirs if theirs.startswith('/') else f'{vehicle}/{theirs}' for name, theirs in TOPICS.items()}


@dataclass(frozen=True)
class CarlaBridgeParameters(SimulatorParameters):
    """How the vehicle is called, and what of CARLA's world is emulated."""

    role_name: str = parameter(ROLE, 'name of the vehicle in its topics, /carla/<role_name>/...', launch=True)
    synchronous: bool = parameter(
        True, 'each tick waits for one command with its stamp, as the leaderboard does', launch=True
    )
    step_s: float = parameter(
        0.05, "length of a tick in whole ms: the bridge's fixed_delta_seconds", low=0.02, high=0.1, launch=True
    )
    leaderboard: bool = parameter(
        False,
        "the leaderboard's sensors instead of the bridge's: GNSS, IMU, speed and its global plan, no odometry, no map",
        launch=True,
    )
    start_time_s: float = parameter(
        0.0, 'stamp of the first tick: CARLA starts each scenario at 0', low=0.0, high=2.0e9
    )
