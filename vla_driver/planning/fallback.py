# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is driven when a policy's plan cannot be: the previous plan moved by odometry, or a stop.

Both are pure functions of plans and ego states.  Which of them is used, and when, is the plan
guard's business (`planning/guard.py`).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vla_driver.geometry import se2, unicycle
from vla_driver.types import PLAN_DT_S, PLAN_STEPS, EgoState, InvalidInput, Plan, PlanSource, Trajectory

#: Braking of the stop trajectory: firm, yet below what tyres hold on a wet road.
STOP_DECELERATION_MPS2: Final = 4.0
#: Braking beyond the end of a shifted plan, whose horizon has grown shorter than a new plan's.
TAIL_DECELERATION_MPS2: Final = 2.0
#: A stop in a bend keeps the bend, as long as the lateral acceleration stays below this.
STOP_LATERAL_MPS2: Final = 4.0
STOP_CURVATURE_PER_M: Final = 0.2


def shifted_plan(previous: Plan, ego: EgoState, stamp_s: float, reason: str) -> Plan:
    """Return `previous` as it looks from `ego` at `stamp_s`: later in time, moved by odometry.

    Both ego states must be of one odometry frame.  The part that lies in the past is cut off, the
    same length is added at the end under comfortable braking.  Raises InvalidInput if `stamp_s`
    is earlier than the previous plan or later than its horizon.
    """
    old = previous.trajectory
    elapsed = stamp_s - previous.stamp_s
    horizon = float(old.times_s[-1])
    if not 0.0 <= elapsed < horizon:
        raise InvalidInput(
            f'shifted plan: {elapsed:.3f} s after the previous plan, expected 0 to {horizon:.2f} s (its horizon)'
        )
    # The trajectory leaves t0 out; interpolation needs it.
    times = np.concatenate([[0.0], old.times_s])
    states = np.column_stack(
        [
            np.vstack([[0.0, 0.0], old.positions_m]),
            np.unwrap(np.concatenate([[0.0], old.yaw_rad])),
            np.concatenate([[previous.ego.speed_mps], old.speed_mps]),
        ]
    )
    wanted = elapsed + old.times_s
    kept = wanted <= horizon + 1e-9
    rows = np.column_stack([np.interp(wanted[kept], times, column) for column in states.T])
    # The control of the step to point k is the one the old plan held in the middle of that step.
    step = np.clip(((wanted[kept] - 0.5 * old.dt_s) / old.dt_s).astype(int), 0, len(old) - 1)
    acceleration, curvature = old.acceleration_mps2[step], old.curvature_per_m[step]

    missing = len(old) - len(rows)
    if missing:
        last = rows[-1] if len(rows) else states[-1]
        tail = unicycle.integrate(last[3], np.full(missing, -TAIL_DECELERATION_MPS2), np.zeros(missing), old.dt_s)
        poses = se2.compose(last[:3], np.column_stack([tail.positions_m, tail.yaw_rad]))
        rows = np.vstack([rows, np.column_stack([poses, tail.speed_mps])])
        acceleration = np.concatenate([acceleration, tail.acceleration_mps2])
        curvature = np.concatenate([curvature, tail.curvature_per_m])

    now_in_previous = se2.relative(previous.ego.pose, ego.pose)
    local = se2.relative(now_in_previous, rows[:, :3])
    trajectory = Trajectory(
        positions_m=local[:, :2],
        yaw_rad=local[:, 2],
        speed_mps=rows[:, 3],
        acceleration_mps2=acceleration,
        curvature_per_m=curvature,
        dt_s=old.dt_s,
    )
    return Plan(
        stamp_s=stamp_s,
        trajectory=trajectory,
        ego=ego,
        policy=previous.policy,
        source=PlanSource.SHIFTED,
        reason=reason,
        ttl_s=previous.ttl_s,
    )


def tracking_error_m(previous: Plan, ego: EgoState, stamp_s: float) -> float:
    """Return how far `ego` is at `stamp_s` from where `previous` wanted it to be then."""
    old = previous.trajectory
    times = np.concatenate([[0.0], old.times_s])
    positions = np.vstack([[0.0, 0.0], old.positions_m])
    elapsed = stamp_s - previous.stamp_s
    wanted = np.array([np.interp(elapsed, times, positions[:, axis]) for axis in range(2)])
    return float(np.hypot(*(se2.relative(previous.ego.pose, ego.pose)[:2] - wanted)))


def heading_error_rad(previous: Plan, ego: EgoState, stamp_s: float) -> float:
    """Return how far `ego` is turned at `stamp_s` from where `previous` wanted it to look then."""
    old = previous.trajectory
    times, headings = np.concatenate([[0.0], old.times_s]), np.unwrap(np.concatenate([[0.0], old.yaw_rad]))
    wanted = float(np.interp(stamp_s - previous.stamp_s, times, headings))
    return abs(float(se2.wrap(ego.yaw_rad - previous.ego.yaw_rad - wanted)))


def stop_plan(ego: EgoState, stamp_s: float, policy: str, reason: str, ttl_s: float = 1.0) -> Plan:
    """Return a firm stop from the ego's own speed, along the bend it is in."""
    speed = max(0.0, ego.speed_mps)
    bound = min(STOP_CURVATURE_PER_M, STOP_LATERAL_MPS2 / max(speed, 1.0) ** 2)
    # At walking pace the quotient is noise: a car that stands still has no bend to keep.
    bend = ego.yaw_rate_rps / speed if speed > 1.0 else 0.0
    trajectory = unicycle.integrate(
        speed,
        np.full(PLAN_STEPS, -STOP_DECELERATION_MPS2),
        np.full(PLAN_STEPS, float(np.clip(bend, -bound, bound))),
        PLAN_DT_S,
    )
    return Plan(stamp_s, trajectory, ego, policy, PlanSource.STOP, reason, ttl_s)
