# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Open-loop figures of one plan and their averages, in the two protocols the literature uses.

Both look at waypoints every 0.5 s up to 3 s.  They differ in what "at T seconds" means, which alone moves the same
checkpoint from 0.72 to 1.22 m (PARA-Drive, CVPR 2024), so every figure carries its protocol's name:

- `UniAD`: the error at T.
- `ST-P3/VAD`: the mean error of all steps up to T.

A planned step counts as a collision if the ego's box, at the planned pose and heading, overlaps another
agent's box at that time, unless the driven ego's own box does, too (then the labels are at fault).
Unlike the published tables this uses exact boxes of all agents, not a grid of 0.5 m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.geometry import se2
from vla_driver.sim.world.vehicle import ego_rectangle, rectangle, rectangles_overlap
from vla_driver.statistics import ratio_ci
from vla_driver.types import FloatArray, InvalidInput, Plan

STEP_S: Final = 0.5
HORIZONS_S: Final = (1, 2, 3)
STEPS: Final = round(HORIZONS_S[-1] / STEP_S)
#: Seconds after t0 of every scored step.
STEP_TIMES_S: Final = STEP_S * np.arange(1, STEPS + 1)
PROTOCOLS: Final = ('UniAD', 'ST-P3/VAD')
#: Neighbouring samples are alike; the bootstrap draws stretches of this length whole.
SEGMENT_S: Final = 10.0

#: Other agents at one time: [N, 5] x, y, yaw, length, width of their boxes' centres.
Boxes = FloatArray


@dataclass(frozen=True)
class Sample:
    """One scored plan.  error_m [STEPS]; collides [STEPS] and truth_collides [STEPS] are None without agents."""

    bag: str
    stamp_s: float
    error_m: FloatArray
    collides: npt.NDArray[np.bool_] | None = None
    truth_collides: npt.NDArray[np.bool_] | None = None


def planned_poses(plan: Plan) -> FloatArray:
    """Return [STEPS, 3] the planned poses in base_link at t0 at the scored times."""
    t = plan.trajectory
    if t.times_s[-1] + 1e-9 < STEP_TIMES_S[-1]:
        raise InvalidInput(
            f'open loop: the plan ends after {t.times_s[-1]:.2f} s, expected at least {STEP_TIMES_S[-1]:.1f} s'
        )
    times = np.concatenate([[0.0], t.times_s])
    columns = np.column_stack([np.vstack([[0.0, 0.0], t.positions_m]), np.unwrap(np.concatenate([[0.0], t.yaw_rad]))])
    return np.column_stack([np.interp(STEP_TIMES_S, times, column) for column in columns.T])


def overlaps_any(pose: npt.ArrayLike, boxes: Boxes) -> bool:
    """Whether the ego's footprint at a rear-axle pose [3] overlaps any of the boxes [N, 5] (one common frame)."""
    pose = np.asarray(pose, dtype=np.float64)
    footprint = ego_rectangle(pose)
    for x, y, yaw, length, width in boxes:
        # Only neighbours need the exact test: the ego reaches 3.8 m from its rear axle.
        near = np.hypot(x - pose[0], y - pose[1]) < 5.0 + 0.5 * np.hypot(length, width)
        if near and rectangles_overlap(footprint, rectangle(x, y, yaw, length, width)):
            return True
    return False


def score(
    plan: Plan,
    pose: npt.ArrayLike,
    driven: npt.ArrayLike,
    agents: Sequence[Boxes] | None = None,
    *,
    bag: str = '',
) -> Sample:
    """Return the errors of `plan`, made at `pose` [3], against the `driven` poses [STEPS, 3] (one common frame).

    agents: the other agents' boxes at each scored time, or None where a bag has none.
    """
    origin, truth = np.asarray(pose, dtype=np.float64), np.asarray(driven, dtype=np.float64)
    if truth.shape != (STEPS, 3):
        raise InvalidInput(f'open loop: driven poses of shape {truth.shape}, expected {(STEPS, 3)}')
    planned = se2.compose(origin, planned_poses(plan))
    error = np.hypot(*(planned[:, :2] - truth[:, :2]).T)
    if agents is None:
        return Sample(bag, plan.stamp_s, error)
    if len(agents) != STEPS:
        raise InvalidInput(f'open loop: agents at {len(agents)} times, expected {STEPS}')
    collides = np.array([overlaps_any(p, boxes) for p, boxes in zip(planned, agents, strict=True)])
    fault = np.array([overlaps_any(p, boxes) for p, boxes in zip(truth, agents, strict=True)])
    return Sample(bag, plan.stamp_s, error, collides & ~fault, fault)


def at_horizons(steps: npt.ArrayLike, protocol: str) -> FloatArray:
    """Return [..., 3] the values [..., STEPS] at 1, 2 and 3 s as `protocol` defines it."""
    values = np.asarray(steps, dtype=np.float64)
    last = [round(horizon / STEP_S) for horizon in HORIZONS_S]
    if protocol == 'UniAD':
        return np.stack([values[..., k - 1] for k in last], axis=-1)
    if protocol == 'ST-P3/VAD':
        return np.stack([values[..., :k].mean(axis=-1) for k in last], axis=-1)
    raise InvalidInput(f'protocol {protocol!r}: unknown, expected one of: {", ".join(PROTOCOLS)}')


def summarise(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return N and, for each protocol, L2 (m) and collision rate at 1, 2, 3 s, their mean and 95 % intervals."""
    if not samples:
        raise InvalidInput('open loop: no samples; every plan needs 3 s of driving after it')
    segments: dict[tuple[str, int], list[int]] = {}
    for k, sample in enumerate(samples):
        segments.setdefault((sample.bag, int(sample.stamp_s // SEGMENT_S)), []).append(k)
    labelled = [s for s in samples if s.collides is not None]
    answer: dict[str, Any] = {'samples': len(samples), 'segments': len(segments), 'samples_with_agents': len(labelled)}
    errors = np.stack([s.error_m for s in samples])
    for protocol in PROTOCOLS:
        figures = _named(at_horizons(errors, protocol), list(segments.values()), 'l2_m')
        if labelled:
            hits = np.stack([s.collides for s in labelled if s.collides is not None])
            figures |= _named(at_horizons(hits, protocol), None, 'collision_rate')
            faults = np.stack([s.truth_collides for s in labelled if s.truth_collides is not None])
            figures |= _named(at_horizons(faults, protocol), None, 'driven_collision_rate')
        answer[protocol] = figures
    return answer


def _named(values: FloatArray, segments: Sequence[Sequence[int]] | None, name: str) -> dict[str, Any]:
    """Return the means of values [N, 3] by horizon; with segments, their intervals, too."""
    columns = dict(zip([f'{horizon}s' for horizon in HORIZONS_S], values.T, strict=True))
    columns['mean'] = values.mean(axis=1)
    answer: dict[str, Any] = {name: {key: float(column.mean()) for key, column in columns.items()}}
    if segments is not None:
        answer[f'{name}_ci'] = {
            key: ratio_ci([column[list(s)].sum() for s in segments], [len(s) for s in segments])
            for key, column in columns.items()
        }
    return answer
