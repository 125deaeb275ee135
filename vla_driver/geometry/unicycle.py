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

from vla_driver.types import PLAN_DT_S, FloatArray, Trajectory


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


def integrate_many(
    pose: npt.ArrayLike, speed_mps: npt.ArrayLike, controls: npt.ArrayLike, dt_s: float = PLAN_DT_S
) -> FloatArray:
    """Return [N, T, 3] x, y, yaw of N bodies from pose [N, 3] at speed_mps [N] under controls [N, T, 2].

    As `integrate`, in one go: v' = max(0, v + a dt) is the free sum S reflected at zero, S - min(0, lowest S so far).
    """
    start, controls = np.asarray(pose, dtype=np.float64), np.asarray(controls, dtype=np.float64)
    first = np.maximum(0.0, np.asarray(speed_mps, dtype=np.float64))[:, None]
    free = first + np.cumsum(controls[..., 0] * dt_s, axis=1)
    speed = np.concatenate([first, free - np.minimum(0.0, np.minimum.accumulate(free, axis=1))], axis=1)
    step = 0.5 * (speed[:, 1:] + speed[:, :-1]) * dt_s
    yaw = start[:, 2:] + np.concatenate([np.zeros_like(first), np.cumsum(controls[..., 1] * step, axis=1)], axis=1)
    moved = []
    for axis, part in enumerate((np.cos(yaw), np.sin(yaw))):
        velocity = speed * part
        moved.append(start[:, axis, None] + np.cumsum(0.5 * (velocity[:, 1:] + velocity[:, :-1]) * dt_s, axis=1))
    return np.stack([*moved, yaw[:, 1:]], axis=-1)
