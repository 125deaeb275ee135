# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where a vehicle is, for simulators that give it a speedometer, an IMU and a satellite receiver and no odometry.

The way is added up of speed and heading, from a place that is known.  Satellites hold it in place: their positions
are good to half a metre each, but told apart from the first one, whose own error never changes.  So a Kalman filter
has two states for each axis, the place and that error; its covariance is the same for both axes.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.geometry.carla import map_displacement_m
from vla_driver.types import EgoState, FloatArray

#: What adding up loses: so much (one sigma) over one metre, and with the square root of the way over more.
_DRIFT_M: Final = 0.02
#: How well the start is known, one sigma.
_START_M: Final = 0.1
#: After such a gap speed and heading say nothing about the way in between.
_GAP_S: Final = 1.0


class Reckoning:
    """One drive from a known start.

    start_m: [2] where the vehicle's origin is at first, in the map frame (x east, y north, metres); centre_m: how far
    that origin, and the receiver with it, lies before the rear axle.  fix_sigma_m: of each satellite position.
    """

    def __init__(self, start_m: npt.ArrayLike, *, centre_m: float, fix_sigma_m: float) -> None:
        self._start_m = np.asarray(start_m, dtype=np.float64)
        self._centre_m, self._fix_var = centre_m, fix_sigma_m**2
        self._axle_m: FloatArray | None = None  # [2]
        self._error_m = np.zeros(2)  # of the first fix
        self._covariance = np.diag([_START_M**2, self._fix_var])
        self._origin_deg: tuple[float, float] | None = None
        self._last: EgoState | None = None

    def move(self, stamp_s: float, speed_mps: float, yaw_rad: float, yaw_rate_rps: float) -> EgoState:
        """Take speed and heading at a time; return where the rear axle is then."""
        ahead = np.array([math.cos(yaw_rad), math.sin(yaw_rad)])
        if self._axle_m is None:
            self._axle_m = self._start_m - self._centre_m * ahead
        elif self._last is not None and stamp_s - self._last.stamp_s > _GAP_S:
            self._covariance[0, 0] += (self._last.speed_mps * (stamp_s - self._last.stamp_s)) ** 2
        elif self._last is not None and stamp_s > self._last.stamp_s:
            way_m = 0.5 * (speed_mps + self._last.speed_mps) * (stamp_s - self._last.stamp_s)
            middle = self._last.yaw_rad + 0.5 * float(se2.wrap(yaw_rad - self._last.yaw_rad))
            self._axle_m = self._axle_m + way_m * np.array([math.cos(middle), math.sin(middle)])
            self._covariance[0, 0] += _DRIFT_M**2 * abs(way_m)
        x_m, y_m = map(float, self._axle_m)
        self._last = EgoState(stamp_s, x_m, y_m, yaw_rad, speed_mps, yaw_rate_rps)
        return self._last

    def fix(self, stamp_s: float, latitude_deg: float, longitude_deg: float) -> bool:
        """Take a satellite position of the vehicle's origin at a time; return whether it could be used.

        Before the first `move`, and far from the last one in time, none can.
        """
        if self._last is None or abs(stamp_s - self._last.stamp_s) > _GAP_S:
            return False
        centre_m = self._centre(stamp_s)
        if self._origin_deg is None:
            self._origin_deg, self._from_m = (latitude_deg, longitude_deg), centre_m
            # Later ones are told from here: its error is that of the place at this moment, reversed, and its own.
            var = self._covariance[0, 0]
            self._covariance = np.array([[var, -var], [-var, var + self._fix_var]])
            return True
        seen_m = self._from_m + map_displacement_m(latitude_deg, longitude_deg, self._origin_deg)
        # seen = centre + error + noise
        row = np.ones(2)
        gain = self._covariance @ row / (row @ self._covariance @ row + self._fix_var)
        surprise_m = seen_m - centre_m - self._error_m
        self._axle_m = self._axle_m + gain[0] * surprise_m
        self._error_m = self._error_m + gain[1] * surprise_m
        self._covariance -= np.outer(gain, row @ self._covariance)
        return True

    def _centre(self, stamp_s: float) -> FloatArray:
        """Return where the vehicle's origin is at a time near the last one."""
        assert self._axle_m is not None
        assert self._last is not None
        ahead_m = self._centre_m + self._last.speed_mps * (stamp_s - self._last.stamp_s)
        yaw_rad = self._last.yaw_rad
        return self._axle_m + ahead_m * np.array([math.cos(yaw_rad), math.sin(yaw_rad)])
