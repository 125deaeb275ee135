# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs that nodes share."""

from __future__ import annotations

from dataclasses import dataclass

from vla_driver.settings.knob import parameter


@dataclass(frozen=True)
class NodeParameters:
    """What every node of the package has."""

    autostart: bool = parameter(
        True, 'configure and activate at start; false leaves that to `ros2 lifecycle` or a launch file'
    )
    diagnostics_period_s: float = parameter(1.0, 'time between two reports on /diagnostics', low=0.05, high=60.0)


@dataclass(frozen=True)
class OdometryParameters:
    """How odometry is read."""

    odometry_mount: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0),
        'where the frame of the odometry (child_frame_id) is in base_link: x [m], y [m], yaw [rad]; zeros: as '
        '/tf_static says, else in base_link',
        launch=True,
    )


@dataclass(frozen=True)
class RigParameters:
    """Where the cameras are."""

    rig: str = parameter('sim', 'camera rig: sim, nuscenes, bench2drive, or a YAML file', launch=True, metavar='RIG')
