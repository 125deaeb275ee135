# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from vla_driver.settings.knob import parameter
from vla_driver.settings.scenario import ScenarioParameters
from vla_driver.settings.shared import NodeParameters, RigParameters


@dataclass(frozen=True)
class SimulatorParameters(RigParameters, ScenarioParameters, NodeParameters):
    """How the drive is published, and when it ends."""

    render: bool = parameter(True, 'draw the cameras; false: odometry, route and commands only')
    image_transport: str = parameter(
        'compressed', 'how images go out', choices=('compressed', 'raw', 'both'), launch=True
    )
    jpeg_quality: int = parameter(90, 'quality of compressed images', low=1, high=100, metavar='Q')
    step_s: float = parameter(0.1, 'length of a tick in whole ms', low=0.02, high=0.1, launch=True)
    camera_every: int = parameter(1, 'images on every n-th tick', low=1, high=50)
    ground_truth: bool = parameter(True, 'publish /ground_truth/agents')
    rate: float = parameter(
        1.0, 'speed against the wall clock, when not `synchronous`', low=0.01, high=20.0, launch=True
    )
    synchronous: bool = parameter(False, 'the world waits for the command that answers each tick', launch=True)
    synchronous_timeout_s: float = parameter(
        10.0, 'how long to wait for it before the vehicle is braked for one tick', low=0.1, high=600.0
    )
    start_time_s: float = parameter(100.0, 'stamp of the first tick', low=0.0, high=2.0e9)
    max_seconds: float = parameter(
        0.0,
        'end the drive after this much simulated time',
        low=0.0,
        unset='when it is decided',
        flag='--seconds',
        metavar='S',
    )
    wait_for_driver_s: float = parameter(
        30.0, 'at most this long, the first tick waits for a listener to images and a sender of control', low=0.0
    )
    result_file: str = parameter('', 'write the verdict as JSON to this file', unset='do not', launch=True)
    exit_at_end: bool = parameter(True, 'end the process when the drive is over')


#: What planner and controller are given where the world waits for them: its own clock makes nothing stale, the one on
#: the wall must not; and all pictures of a tick have one stamp, so that those of the tick before belong to no other.
PATIENT_PLANNER: Final[dict[str, Any]] = {'max_age_s': 10.0, 'plan_ttl_s': 5.0, 'max_skew_s': 0.01}
PATIENT_CONTROLLER: Final[dict[str, Any]] = {'odometry_timeout_s': 10.0}
