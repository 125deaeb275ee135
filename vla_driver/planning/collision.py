# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Would this plan meet somebody?  Time to collision of the ego's box with the others' forecast ones.

Both futures are sampled finely and compared as oriented boxes.  A plan is only objected to where braking helps: who
is hit from behind, or stands beside somebody already, gains nothing by it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from vla_driver.geometry import boxes, se2, unicycle
from vla_driver.types import FloatArray, Forecast, InvalidInput, Plan, PlanSource, Trajectory

#: Between two points of a plan, boxes that cross one another at right angles could be missed.
_SAMPLE_S = 0.125


@dataclass(frozen=True)
class CollisionLimits:
    """When a plan counts as one that meets somebody.

    horizon_s: how far ahead it is looked, 0: not at all.  existence: who is less likely to be there is not braked for.
    speed_mps: contacts at a lower speed of the ego are the controller's business.  braking_mps2: how hard the plan
    that takes its place brakes.  margin_m: added around the ego; negative: taken away.  length_m, width_m,
    rear_overhang_m: of the ego, whose frame base_link lies below the rear axle.
    """

    horizon_s: float = 0.0
    existence: float = 0.6
    speed_mps: float = 1.0
    braking_mps2: float = 6.0
    margin_m: float = 0.0
    length_m: float = 4.6
    width_m: float = 1.85
    rear_overhang_m: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.isfinite(value) or (value < 0 and field.name != 'margin_m'):
                raise InvalidInput(f'collision limit {field.name} is {value}, expected a number from 0 on')
        if self.horizon_s > 0 and self.braking_mps2 <= 0:
            raise InvalidInput(f'collision limit braking_mps2 is {self.braking_mps2}, expected a positive number')


@dataclass(frozen=True)
class Contact:
    """When (after t0), with whom, and at which speed of the ego, boxes first overlap."""

    time_s: float
    speed_mps: float
    other: Forecast

    def describe(self) -> str:
        """Return it in words."""
        distance = float(np.hypot(*self.other.pose[:2]))
        return (
            f'meets a {self.other.kind} {distance:.0f} m away in {self.time_s:.1f} s at {self.speed_mps:.1f} m/s '
            f'(existence {self.other.existence:.2f})'
        )


def first_contact(plan: Plan, forecasts: tuple[Forecast, ...], limits: CollisionLimits) -> Contact | None:
    """Return the first contact within the horizon at speed, with somebody likely whom the ego runs into.

    Left out: who overlaps the ego at t0 (that forecast cannot be right, or it is too late), and who runs into the ego
    from behind its middle.
    """
    likely = tuple(f for f in forecasts if f.existence >= limits.existence)
    if not likely or limits.horizon_s <= 0:
        return None
    trajectory = plan.trajectory
    times = np.arange(0.0, min(limits.horizon_s, float(trajectory.times_s[-1])) + 1e-9, _SAMPLE_S)
    poses = np.vstack([[0.0, 0.0, 0.0], np.column_stack([trajectory.positions_m, trajectory.yaw_rad])])
    ego = _at(times, trajectory.dt_s, poses)
    speeds = np.interp(
        times,
        np.concatenate([[0.0], trajectory.times_s]),
        np.concatenate([[max(0.0, plan.ego.speed_mps)], trajectory.speed_mps]),
    )
    ahead = 0.5 * limits.length_m - limits.rear_overhang_m
    centre = ego.copy()
    centre[:, :2] += ahead * np.column_stack([np.cos(ego[:, 2]), np.sin(ego[:, 2])])
    size = np.maximum(np.array([limits.length_m, limits.width_m]) + 2 * limits.margin_m, 0.1)
    theirs = np.stack(
        [_at(times, f.dt_s, np.vstack([f.pose, np.column_stack([f.positions_m, f.yaw_rad])])) for f in likely]
    )
    sizes = np.array([[f.length_m, f.width_m] for f in likely])
    meets = boxes.overlap(boxes.corners(centre, size)[None], boxes.corners(theirs, sizes[:, None]))  # [F, K]
    met_already = meets[:, 0]
    in_front = se2.relative(centre[None], theirs)[..., 0] > 0.0
    counts = meets & in_front & (speeds >= limits.speed_mps) & ~met_already[:, None]
    # Whoever was met from behind first is not run into later.
    counts &= np.cumsum(meets, axis=1) - meets.astype(int) == 0
    if not counts.any():
        return None
    k = int(np.flatnonzero(counts.any(axis=0))[0])
    return Contact(float(times[k]), float(speeds[k]), likely[int(np.flatnonzero(counts[:, k])[0])])


def braked(plan: Plan, limits: CollisionLimits, reason: str) -> Plan:
    """Return the plan's own path, braked to a stand on it."""
    old = plan.trajectory
    speed = max(0.0, plan.ego.speed_mps)
    before = np.concatenate([[speed], old.speed_mps])
    reached = np.cumsum(0.5 * (before[1:] + before[:-1]) * old.dt_s)
    slowing = np.full(len(old), -limits.braking_mps2)
    alone = unicycle.integrate(speed, slowing, np.zeros(len(old)), old.dt_s).positions_m[:, 0]
    # The curvature that the plan holds where the braked vehicle is in the middle of each step.
    middle = 0.5 * (alone + np.concatenate([[0.0], alone[:-1]]))
    step = np.clip(np.searchsorted(reached, middle), 0, len(old) - 1)
    trajectory: Trajectory = unicycle.integrate(speed, slowing, old.curvature_per_m[step], old.dt_s)
    return Plan(
        plan.stamp_s,
        trajectory,
        plan.ego,
        plan.policy,
        PlanSource.BRAKED,
        reason,
        plan.ttl_s,
        forecasts=plan.forecasts,
    )


def braked_if_it_helps(plan: Plan, limits: CollisionLimits) -> Plan | None:
    """Return the plan that brakes instead of meeting somebody; None where the plan meets nobody, or braking is in vain.

    Braking helps where the contact does not come, or comes at a clearly lower speed.
    """
    contact = first_contact(plan, plan.forecasts, limits)
    if contact is None:
        return None
    instead = braked(plan, limits, f'collision: {contact.describe()}')
    left = first_contact(instead, plan.forecasts, limits)
    if left is not None and left.speed_mps > contact.speed_mps - 0.5:
        return None
    return instead


def _at(times: FloatArray, dt_s: float, poses: FloatArray) -> FloatArray:
    """Return [K, 3] the poses at `times` of poses [T + 1, 3] every dt_s from 0 on."""
    known = dt_s * np.arange(len(poses))
    yaw = np.unwrap(poses[:, 2])
    return np.column_stack([np.interp(times, known, column) for column in (poses[:, 0], poses[:, 1], yaw)])
