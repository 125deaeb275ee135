# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plans that do not jump: the first part of a new plan is kept as the previous plan had it.

Real-time chunking (arXiv 2506.07339) freezes the actions that are carried out while the next chunk is computed, and
lets the pull of the previous chunk fade out behind them.  Here it is done to the controls of the finished plan, whose
start is the vehicle itself: what is kept is the previous plan's accelerations and curvatures at the same times, so
the path begins where odometry says the vehicle is, and every mixture can be driven.  It costs no pass of a network
and serves every policy; what it gives up is that the flow would choose the rest to fit the kept part.

No more is kept than has been driven since the previous plan came.  What is kept is kept without looking: beyond that,
every plan would keep what the one before had kept, and what cameras see would reach the wheels too late: of four
routes at 5 Hz with 0.5 s kept whatever had been driven, none was finished.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vla_driver.geometry import se2, unicycle
from vla_driver.types import FloatArray, Plan, PlanSource


def pull(times_s: FloatArray, frozen_s: float) -> FloatArray:
    """Return [T] how much of each step (by its end) is the previous plan's: all up to frozen_s, none after its double.

    A step that begins before frozen_s and ends behind it belongs to the previous plan by the part that lies before.
    """
    ends = np.asarray(times_s, dtype=np.float64)
    step = float(ends[0])
    whole = np.clip((frozen_s - (ends - step)) / step, 0.0, 1.0)
    fading = np.clip(2.0 - ends / frozen_s, 0.0, 1.0)
    weights: FloatArray = np.maximum(whole, fading)
    return weights


def continued(plan: Plan, previous: Plan | None, frozen_s: float) -> Plan:
    """Return `plan` with its first `frozen_s` seconds as `previous` had them, and a passage to its own.

    At most as much is kept as lies between the two plans.  The plan itself, where nothing is to be frozen, there is no
    previous plan, or it is of no use: a fallback, of other steps, from later, or ending before the frozen part does.
    """
    if previous is None or frozen_s <= 0 or previous.source is not PlanSource.POLICY:
        return plan
    new, old = plan.trajectory, previous.trajectory
    elapsed = plan.stamp_s - previous.stamp_s
    frozen_s = min(frozen_s, elapsed)
    if old.dt_s != new.dt_s or elapsed <= 0.0 or elapsed + frozen_s > float(old.times_s[-1]):
        return plan
    weight = pull(new.times_s, frozen_s)
    # Controls are held over steps: a step of the new plan lies across two of the old one, and takes of both.
    edges = elapsed + new.dt_s * np.arange(len(new) + 1)
    known = np.concatenate([[0.0], old.times_s])
    kept = []
    for values in (old.acceleration_mps2, old.curvature_per_m):
        whole = np.concatenate([[0.0], np.cumsum(values * old.dt_s)])
        kept.append(np.diff(np.interp(edges, known, whole)) / old.dt_s)
    # Behind the old plan's horizon there is nothing to keep.
    weight = np.where(edges[1:] <= known[-1] + 1e-9, weight, 0.0)
    acceleration = weight * kept[0] + (1.0 - weight) * new.acceleration_mps2
    curvature = weight * kept[1] + (1.0 - weight) * new.curvature_per_m
    trajectory = unicycle.integrate(plan.ego.speed_mps, acceleration, curvature, new.dt_s)
    return dataclasses.replace(plan, trajectory=trajectory)


def jump_m(previous: Plan, plan: Plan, seconds: float) -> float:
    """Return how far apart the two plans are on average, at the same times, over the next `seconds` of the new one.

    Both in one odometry frame.  Raises nothing: times that the previous plan does not reach are left out, and the
    answer is NaN where none is left.
    """
    elapsed = plan.stamp_s - previous.stamp_s
    times = plan.trajectory.times_s[plan.trajectory.times_s <= seconds + 1e-9]
    times = times[(times + elapsed <= previous.trajectory.times_s[-1] + 1e-9) & (times + elapsed >= 0.0)]
    if not len(times):
        return float('nan')
    apart = _places(plan, times) - _places(previous, times + elapsed)
    return float(np.hypot(*apart.T).mean())


def _places(plan: Plan, times_s: FloatArray) -> FloatArray:
    """Return [K, 2] where the plan is at times after its own stamp, in the odometry frame."""
    known = np.concatenate([[0.0], plan.trajectory.times_s])
    points = np.vstack([[0.0, 0.0], plan.trajectory.positions_m])
    local = np.column_stack([np.interp(times_s, known, column) for column in points.T])
    return se2.points_to_global(plan.ego.pose, local)
