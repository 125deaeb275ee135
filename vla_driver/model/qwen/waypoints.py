# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Six waypoints in 3 s to a trajectory of 20 points in 5 s that a car can drive."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

import numpy as np
from scipy.optimize import least_squares

from vla_driver.geometry.unicycle import integrate
from vla_driver.model.qwen.answer import WAYPOINT_DT_S, WAYPOINTS, AnswerFault
from vla_driver.types import PLAN_DT_S, PLAN_STEPS, FloatArray, MalformedAnswer, Trajectory

#: Inside the plan guard's limits (planning/guard.py), so that a fitted trajectory is never refused for its rounding.
_ACCELERATION: Final = 4.8
_DECELERATION: Final = 9.5
_CURVATURE: Final = 0.28
_LATERAL: Final = 6.5
#: How far the fitted path may stay from a waypoint; beyond it the answer is not what a car can do.
MAX_RESIDUAL_M: Final = 1.5
#: Weight, in metres, of a change of 1 m/s^2 in acceleration and of 1 1/m in curvature from one to the next.
_SMOOTHNESS: Final = np.array([0.02, 0.5])
_STRIDE: Final = round(WAYPOINT_DT_S / PLAN_DT_S)
#: After the last waypoint the curvature falls to zero within this many steps (1 s).
_STRAIGHTENING: Final = 4


def fit_trajectory(waypoints_m: FloatArray, speed_mps: float, reference_x_m: float = 0.0) -> Trajectory:
    """Return 20 points at 4 Hz (5 s) whose path passes the waypoints [6, 2] (x forward, y left, every 0.5 s).

    The unicycle's controls over 3 s (an acceleration and a curvature for each waypoint) are fitted by bounded least
    squares, from the car's present speed and heading, with a small weight on their changes.  From 3 s to 5 s, of
    which the model has said nothing, the car goes on at the speed it has reached and straightens out within 1 s.
    reference_x_m: how far before base_link the point lies whose path the waypoints are: 0.94 for nuScenes' LIDAR_TOP,
    with which Impromptu-VLA was trained.
    Raises `MalformedAnswer` (not_drivable) where the fit stays more than 1.5 m from a waypoint.
    """
    begin = max(0.0, speed_mps)
    lower = np.repeat([-_DECELERATION, -_CURVATURE], WAYPOINTS)
    upper = np.repeat([_ACCELERATION, _CURVATURE], WAYPOINTS)
    # As if straight on through the waypoints' distances: a start from which the fit converges in a few steps.
    chords = np.linalg.norm(np.diff(np.vstack([np.zeros(2), waypoints_m]), axis=0), axis=1) / WAYPOINT_DT_S
    guess = np.concatenate([np.diff(np.concatenate([[begin], chords])) / WAYPOINT_DT_S, np.zeros(WAYPOINTS)])
    # Strictly inside the bounds, where least_squares must start.
    guess = np.clip(guess, 0.95 * lower, 0.95 * upper)

    def path(controls: FloatArray) -> FloatArray:
        way = integrate(begin, *_steps(begin, controls))
        ahead = reference_x_m * np.stack([np.cos(way.yaw_rad) - 1.0, np.sin(way.yaw_rad)], axis=1)
        points: FloatArray = (way.positions_m + ahead)[_STRIDE - 1 :: _STRIDE]
        return points

    def residuals(controls: FloatArray) -> FloatArray:
        rough = np.diff(controls.reshape(2, WAYPOINTS), axis=1) * _SMOOTHNESS[:, None]
        return np.concatenate([(path(controls) - waypoints_m).ravel(), rough.ravel()])

    controls = least_squares(residuals, guess, bounds=(lower, upper), max_nfev=30, xtol=1e-6, ftol=1e-6).x
    off = np.linalg.norm(path(controls) - waypoints_m, axis=1)
    if off.max() > MAX_RESIDUAL_M:
        worst = int(off.argmax())
        raise MalformedAnswer(
            AnswerFault.NOT_DRIVABLE,
            f'a car at {begin:.1f} m/s comes no closer than {off[worst]:.1f} m to waypoint {worst + 1} '
            f'({waypoints_m[worst, 0]:.1f}, {waypoints_m[worst, 1]:.1f}); allowed: {MAX_RESIDUAL_M:g} m',
        )
    acceleration, curvature = _steps(begin, controls)
    fade = np.linspace(1.0, 0.0, _STRAIGHTENING + 1)[1:]
    rest = PLAN_STEPS - len(curvature)
    return integrate(
        begin,
        np.concatenate([acceleration, np.zeros(rest)]),
        np.concatenate([curvature, curvature[-1] * fade, np.zeros(rest - _STRAIGHTENING)]),
    )


def _steps(begin: float, controls: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return accelerations and curvatures [12] of each plan step, from one pair for each waypoint, [6] and [6].

    No curvature is sharper than the lateral acceleration at its speed allows.
    """
    acceleration, curvature = np.repeat(controls.reshape(2, WAYPOINTS), _STRIDE, axis=1)
    # As `integrate`: a car that has come to rest goes on from zero.
    speed = np.array(list(accumulate(acceleration, lambda v, a: max(0.0, v + a * PLAN_DT_S), initial=begin)))
    fastest = np.maximum(speed[1:], speed[:-1])
    limit = np.minimum(_CURVATURE, _LATERAL / np.maximum(fastest, 1.0) ** 2)
    return acceleration, np.clip(curvature, -limit, limit)
