# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The plan guard: no plan leaves the planner unless it is fresh and a car can drive it.

Finite numbers are ensured by the types. Here a plan is checked against a car's dynamics, against its own bookkeeping
(points, speeds and headings must tell one story) and against the clock. What fails is replaced, in this order, by the
previous plan moved by odometry (for a bounded time, and while the vehicle is where that plan wanted it), then by a
stop. The replacement is named in `Plan.source` and the failure in `Plan.reason`.

A plan that can be driven, but would meet somebody whom the policy itself forecasts, is braked on its own path
(planning/collision.py), where that is asked for and helps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from vla_driver.geometry import se2
from vla_driver.planning.collision import CollisionLimits, braked_if_it_helps
from vla_driver.planning.fallback import heading_error_rad, shifted_plan, stop_plan, tracking_error_m
from vla_driver.types import EgoState, InvalidInput, Plan

#: Chord and heading of one step may differ this much from what speed and curvature say: the
#: trapezoid rule itself is off by less than half of it at the sharpest turn a car can drive.
_STEP_TOLERANCE_M: Final = 0.15
_STEP_TOLERANCE_RATIO: Final = 0.15
_YAW_TOLERANCE_RAD: Final = 0.15


@dataclass(frozen=True)
class GuardLimits:
    """What a road car can do, with a margin: the guard catches nonsense, it does not tune comfort.

    first_point_m / first_point_ratio: how far the first point may be from speed * dt, as in the
    check Autoware's Alpamayo node makes on its ego history (0.5 m + 10 %).
    """

    acceleration_mps2: float = 5.0
    deceleration_mps2: float = 10.0
    lateral_mps2: float = 7.0
    curvature_per_m: float = 0.3
    speed_mps: float = 45.0
    first_point_m: float = 0.5
    first_point_ratio: float = 0.1
    shift_age_s: float = 0.8
    shift_error_m: float = 1.5
    shift_error_rad: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value > 0):
                raise InvalidInput(f'guard limit {field.name} is {value}, expected a positive number')


def infeasibility(plan: Plan, limits: GuardLimits) -> str:
    """Return why no car can drive `plan`, or '' if one can.  Names the quantity, its value and the limit."""
    t = plan.trajectory
    start_speed = max(0.0, plan.ego.speed_mps)
    speed = np.concatenate([[start_speed], t.speed_mps])
    if speed[1:].min() < -1e-3:
        return f'speed {speed[1:].min():.1f} m/s: a plan may not reverse'
    if speed[1:].max() > limits.speed_mps:
        return f'speed {speed[1:].max():.1f} m/s, limit {limits.speed_mps:g}'
    change = np.diff(speed) / t.dt_s
    # Stated accelerations count too: a follower may use them as feed-forward.
    for values in (change, t.acceleration_mps2):
        if values.max() > limits.acceleration_mps2:
            return f'acceleration {values.max():.1f} m/s2, limit {limits.acceleration_mps2:g}'
        if values.min() < -limits.deceleration_mps2:
            return f'deceleration {-values.min():.1f} m/s2, limit {limits.deceleration_mps2:g}'
    curvature = np.abs(t.curvature_per_m)
    if curvature.max() > limits.curvature_per_m:
        return f'curvature {curvature.max():.2f} 1/m, limit {limits.curvature_per_m:g}'
    mean_speed = 0.5 * (speed[1:] + speed[:-1])
    lateral = curvature * mean_speed**2
    if lateral.max() > limits.lateral_mps2:
        return f'lateral acceleration {lateral.max():.1f} m/s2, limit {limits.lateral_mps2:g}'

    positions = np.vstack([[0.0, 0.0], t.positions_m])
    expected = start_speed * t.dt_s
    gap = float(np.hypot(positions[1, 0] - expected, positions[1, 1]))
    allowed = limits.first_point_m + limits.first_point_ratio * expected
    if gap > allowed:
        return f'first point is {gap:.2f} m from where {start_speed:.1f} m/s leads, limit {allowed:.2f} m'
    arc = mean_speed * t.dt_s
    chord = np.hypot(*np.diff(positions, axis=0).T)
    excess = np.abs(chord - arc) - (_STEP_TOLERANCE_M + _STEP_TOLERANCE_RATIO * arc)
    if excess.max() > 0:
        k = int(excess.argmax())
        return f'points {k} and {k + 1} are {chord[k]:.2f} m apart, but the speeds say {arc[k]:.2f} m'
    turn = se2.wrap(np.diff(np.concatenate([[0.0], t.yaw_rad])))
    slip = np.abs(turn - t.curvature_per_m * arc)
    if slip.max() > _YAW_TOLERANCE_RAD:
        k = int(slip.argmax())
        return f'heading turns by {turn[k]:.2f} rad before point {k}, but the curvature says {turn[k] - slip[k]:.2f}'
    return ''


class PlanGuard:
    """Admits fresh, drivable plans and answers the rest with a named fallback.

    Remembers the last plan it admitted (`reset` forgets it: after a clock jump odometry has jumped, too).
    `admitted` and `refused` count what happened, for diagnostics.
    """

    def __init__(self, limits: GuardLimits | None = None, collision: CollisionLimits | None = None) -> None:
        """`limits` and `collision` may be replaced between two plans."""
        self.limits = limits or GuardLimits()
        self.collision = collision or CollisionLimits()
        self.admitted = 0
        self.refused: Counter[str] = Counter()
        self._previous: Plan | None = None

    @property
    def previous(self) -> Plan | None:
        """The last plan of the policy that may be driven, as it was admitted or braked."""
        return self._previous

    def reset(self) -> None:
        """Forget the previous plan; counters stay."""
        self._previous = None

    def admit(
        self, plan: Plan | None, ego: EgoState, now_s: float, *, stamp_s: float | None = None, problem: str = ''
    ) -> Plan:
        """Return `plan` itself if it may be driven at `now_s`, otherwise a fallback that starts at `ego`.

        A plan that would meet somebody is braked on its own path.

        plan: the policy's answer, or None with `problem` saying why there is none.
        stamp_s: the stamp a fallback gets (the images' t0); the ego state's own when left out.
        """
        reason = self._objection(plan, now_s) if plan is not None else (problem or 'no plan')
        if plan is not None and not reason:
            slower = braked_if_it_helps(plan, self.collision)
            self._previous = slower or plan
            if slower is not None:
                self.refused[slower.source.value] += 1
                return slower
            self.admitted += 1
            return plan
        stamp = ego.stamp_s if stamp_s is None else stamp_s
        fallback = self._fallback(ego, stamp, now_s, plan.policy if plan is not None else '', reason)
        self.refused[fallback.source.value] += 1
        return fallback

    def _objection(self, plan: Plan, now_s: float) -> str:
        if not plan.is_fresh(now_s):
            return f'stale: {now_s - plan.stamp_s:.2f} s old, time to live {plan.ttl_s:g} s'
        flaw = infeasibility(plan, self.limits)
        return f'infeasible: {flaw}' if flaw else ''

    def _fallback(self, ego: EgoState, stamp_s: float, now_s: float, policy: str, reason: str) -> Plan:
        previous = self._previous
        if previous is None:
            return stop_plan(ego, stamp_s, policy, f'{reason}; no earlier plan')
        policy = policy or previous.policy
        # Both ages count: the shifted plan must be young where it starts and young now.
        age = max(stamp_s, now_s) - previous.stamp_s
        # A short horizon lowers the limit: half of what is driven must still come from the policy.
        limit = min(self.limits.shift_age_s, 0.5 * float(previous.trajectory.times_s[-1]))
        if stamp_s < previous.stamp_s or age > limit:
            return stop_plan(ego, stamp_s, policy, f'{reason}; earlier plan {age:.2f} s old, limit {limit:g} s')
        error = tracking_error_m(previous, ego, stamp_s)
        if error > self.limits.shift_error_m:
            return stop_plan(
                ego,
                stamp_s,
                policy,
                f'{reason}; {error:.1f} m away from the earlier plan, limit {self.limits.shift_error_m:g} m',
            )
        turned = heading_error_rad(previous, ego, stamp_s)
        if turned > self.limits.shift_error_rad:
            return stop_plan(
                ego,
                stamp_s,
                policy,
                f'{reason}; turned {np.degrees(turned):.0f} degrees away from the earlier plan, limit '
                f'{np.degrees(self.limits.shift_error_rad):.0f}',
            )
        return shifted_plan(previous, ego, stamp_s, reason)
