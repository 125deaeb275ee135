# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The ego: a kinematic bicycle, and its footprint.

Model: P. Polack et al., "The kinematic bicycle model", IV 2017, with the rear axle as the reference point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_driver.types import FloatArray

WHEELBASE_M = 2.8
LENGTH_M = 4.6
WIDTH_M = 1.85
HEIGHT_M = 1.5
#: base_link lies on the ground below the rear axle.
REAR_OVERHANG_M = 0.9
FRONT_M = LENGTH_M - REAR_OVERHANG_M
CENTRE_M = LENGTH_M / 2 - REAR_OVERHANG_M
MAX_STEERING_RAD = 0.6
MAX_STEERING_RATE_RPS = 0.9
MAX_ACCELERATION_MPS2 = 2.5
MAX_BRAKING_MPS2 = 8.0


@dataclass
class Bicycle:
    """A kinematic bicycle with limits on steering angle, its rate and the acceleration; it never reverses."""

    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float = 0.0
    steering_rad: float = 0.0
    acceleration_mps2: float = 0.0

    @property
    def pose(self) -> FloatArray:
        """[3]: x, y, yaw of the rear axle."""
        return np.array([self.x_m, self.y_m, self.yaw_rad])

    @property
    def yaw_rate_rps(self) -> float:
        """Speed times tan(steering) over the wheelbase."""
        return self.speed_mps * float(np.tan(self.steering_rad)) / WHEELBASE_M

    def step(self, steering_rad: float, acceleration_mps2: float, duration_s: float, substeps: int = 4) -> None:
        """Advance by `duration_s` under a constant command."""
        dt = duration_s / substeps
        before = self.speed_mps
        wanted = float(np.clip(steering_rad, -MAX_STEERING_RAD, MAX_STEERING_RAD))
        acceleration = float(np.clip(acceleration_mps2, -MAX_BRAKING_MPS2, MAX_ACCELERATION_MPS2))
        for _ in range(substeps):
            change = MAX_STEERING_RATE_RPS * dt
            self.steering_rad += float(np.clip(wanted - self.steering_rad, -change, change))
            speed = max(0.0, self.speed_mps + acceleration * dt)
            mean = 0.5 * (self.speed_mps + speed)
            yaw_rate = mean * float(np.tan(self.steering_rad)) / WHEELBASE_M
            middle = self.yaw_rad + 0.5 * yaw_rate * dt
            self.x_m += mean * float(np.cos(middle)) * dt
            self.y_m += mean * float(np.sin(middle)) * dt
            self.yaw_rad += yaw_rate * dt
            self.speed_mps = speed
        self.yaw_rad = float((self.yaw_rad + np.pi) % (2 * np.pi) - np.pi)
        self.acceleration_mps2 = (self.speed_mps - before) / duration_s


def rectangle(x_m: float, y_m: float, yaw_rad: float, length_m: float, width_m: float) -> FloatArray:
    """Return [4, 2] the corners of a box by its centre: front left, front right, rear right, rear left."""
    local = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]]) * [length_m, width_m]
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    corners: FloatArray = local @ np.array([[cos, sin], [-sin, cos]]) + [x_m, y_m]
    return corners


def ego_rectangle(pose: FloatArray) -> FloatArray:
    """Return [4, 2] the ego's footprint for a rear-axle pose [3]."""
    x = pose[0] + CENTRE_M * np.cos(pose[2])
    y = pose[1] + CENTRE_M * np.sin(pose[2])
    return rectangle(x, y, pose[2], LENGTH_M, WIDTH_M)


def rectangles_overlap(a: FloatArray, b: FloatArray) -> bool:
    """Whether two convex quadrilaterals [4, 2] overlap (separating axis theorem)."""
    for quad in (a, b):
        edges = np.roll(quad, -1, axis=0) - quad
        normals = np.stack([-edges[:, 1], edges[:, 0]], axis=-1)
        pa, pb = a @ normals.T, b @ normals.T
        if ((pa.max(axis=0) < pb.min(axis=0)) | (pb.max(axis=0) < pa.min(axis=0))).any():
            return False
    return True
