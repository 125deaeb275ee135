# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Unicycle kinematics in numpy: controls (acceleration, curvature) to a trajectory and back.

The discretisation is the one of Alpamayo-R1's action space (arXiv 2511.00088): speed and heading in
closed form over a step, position by the trapezoid rule.  Speed never falls below zero: a braking car
stands still, it does not reverse.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vla_driver.types import PLAN_DT_S, Trajectory


def integrate(
    speed_mps: float, acceleration_mps2: npt.ArrayLike, curvature_per_m: npt.ArrayLike, dt_s: float = PLAN_DT_S
) -> Trajectory:
    """Return the trajectory of T steps from rest pose (0, 0, 0) at `speed_mps` under controls [T], [T].

    v' = max(0, v + a dt),  ds = (v + v') dt / 2,  yaw' = yaw + kappa ds,
    position by the trapezoid rule over v cos(yaw), v sin(yaw).
    """
    acceleration = np.asarray(acceleration_mps2, dtype=np.float64)
    curvature = np.asarray(curvature_per_m, dtype=np.float64)
    speed = np.empty(len(acceleration) + 1)
    speed[0] = max(0.0, speed_mps)
    for k, a in enumerate(acceleration):
        speed[k + 1] = max(0.0, speed[k] + a * dt_s)
    step = 0.5 * (speed[1:] + speed[:-1]) * dt_s
    yaw = np.concatenate([[0.0], np.cumsum(curvature * step)])
    vx, vy = speed * np.cos(yaw), speed * np.sin(yaw)
    x = np.cumsum(0.5 * (vx[1:] + vx[:-1]) * dt_s)
    y = np.cumsum(0.5 * (vy[1:] + vy[:-1]) * dt_s)
    return Trajectory(
        positions_m=np.stack([x, y], axis=-1),
        yaw_rad=yaw[1:],
        speed_mps=speed[1:],
        acceleration_mps2=np.diff(speed) / dt_s,
        curvature_per_m=curvature,
        dt_s=dt_s,
    )
