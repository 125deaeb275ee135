# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from vla_driver.geometry import se2, unicycle
from vla_driver.observation.ready import Observed
from vla_driver.planning.continuity import continued, jump_m, pull
from vla_driver.planning.tick import Planner, TickLimits
from vla_driver.types import NO_ENGINE, NO_PICTURES, EgoState, Intent, Observation, Plan, PlanSource


def plan_of(stamp_s: float, ego: EgoState, acceleration: float, curvature: float) -> Plan:
    trajectory = unicycle.integrate(ego.speed_mps, np.full(20, acceleration), np.full(20, curvature))
    return Plan(stamp_s, trajectory, ego, 'model')


def after(plan: Plan, seconds: float) -> EgoState:
    """Return where the ego is that has followed a plan for some whole steps."""
    k, t = round(seconds / plan.trajectory.dt_s) - 1, plan.trajectory
    x, y, yaw = se2.compose(plan.ego.pose, [*t.positions_m[k], t.yaw_rad[k]])
    return EgoState(plan.stamp_s + seconds, x, y, yaw, float(t.speed_mps[k]))


FIRST = plan_of(10.0, EgoState(10.0, 3.0, 2.0, 0.7, 8.0), 1.0, 0.02)


def test_the_pull_is_whole_and_then_fades() -> None:
    weight = pull(0.25 * np.arange(1, 21), 0.5)
    assert weight[:4].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert (weight[4:] == 0.0).all()
    # Less than a step is kept by its part.
    assert pull(0.25 * np.arange(1, 21), 0.1)[:2].tolist() == pytest.approx([0.4, 0.0])


def test_the_beginning_is_the_previous_plans_and_the_rest_its_own() -> None:
    second = plan_of(10.5, after(FIRST, 0.5), -3.0, -0.02)
    kept = continued(second, FIRST, 0.5)
    assert jump_m(FIRST, kept, 0.5) < 0.01
    assert jump_m(FIRST, kept, 1.5) < 0.4 * jump_m(FIRST, second, 1.5)
    np.testing.assert_allclose(kept.trajectory.acceleration_mps2[6:], second.trajectory.acceleration_mps2[6:])
    np.testing.assert_allclose(kept.trajectory.curvature_per_m[6:], second.trajectory.curvature_per_m[6:])


def test_between_steps_it_takes_of_both() -> None:
    controls = np.where(np.arange(20) % 2 == 0, 2.0, 0.0)
    old = dataclasses.replace(FIRST, trajectory=unicycle.integrate(8.0, controls, np.zeros(20)))
    ego = EgoState(10.3, 3.0, 2.0, 0.7, 8.2)
    kept = continued(plan_of(10.3, ego, 0.0, 0.0), old, 0.25)
    # From 0.3 to 0.55 s: 0.2 s of the second step, 0.05 s of the third.
    assert kept.trajectory.acceleration_mps2[:2] == pytest.approx([0.4, 0.0])


def test_no_more_is_kept_than_was_driven_since() -> None:
    """Else every plan would keep what the one before had kept, and what is seen would never be driven."""
    ego = after(FIRST, 0.25)
    second = plan_of(10.25, ego, -3.0, -0.02)
    long, short = (continued(second, FIRST, seconds) for seconds in (2.0, 0.25))
    np.testing.assert_array_equal(long.trajectory.positions_m, short.trajectory.positions_m)
    np.testing.assert_allclose(long.trajectory.acceleration_mps2[1:8], -3.0)


def test_the_path_begins_where_the_vehicle_is() -> None:
    """The vehicle is off the previous plan and slower than it: what is kept starts from there."""
    ego = EgoState(10.5, 20.0, -4.0, 2.0, 3.0)
    kept = continued(plan_of(10.5, ego, 0.0, 0.0), FIRST, 0.5)
    assert kept.trajectory.speed_mps[0] == pytest.approx(3.25)
    assert np.hypot(*kept.trajectory.positions_m[0]) == pytest.approx(0.78, abs=0.01)


@pytest.mark.parametrize(
    ('previous', 'stamp_s', 'frozen_s'),
    [
        (None, 10.5, 0.5),
        (FIRST, 10.5, 0.0),
        (FIRST, 10.0, 0.5),  # the same pictures
        (FIRST, 9.5, 0.5),  # from later
        (FIRST, 14.8, 0.5),  # ends before the frozen part
        (dataclasses.replace(FIRST, source=PlanSource.BRAKED), 10.5, 0.5),
    ],
)
def test_what_cannot_be_kept_is_left(previous: Plan | None, stamp_s: float, frozen_s: float) -> None:
    plan = plan_of(stamp_s, after(FIRST, 0.5), -3.0, 0.0)
    assert continued(plan, previous, frozen_s) is plan


class Undecided:
    """Speeds up at one tick and brakes at the next."""

    name, needs, engine = 'undecided', NO_PICTURES, NO_ENGINE

    def __init__(self) -> None:
        self.count = 0

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        self.count += 1
        return plan_of(observation.stamp_s, observation.ego, 2.0 if self.count % 2 else -3.0, 0.0)

    def reset(self) -> None:
        """Keep counting."""


def _jumps(observe: Callable[..., Observation], freeze_s: float) -> list[float]:
    """Return how far each plan of an undecided policy lies from the one before it."""
    planner = Planner(Undecided(), limits=TickLimits(freeze_s=freeze_s))
    plans = []
    for index in range(6):
        ego = EgoState(100 + 0.5 * index, 4.0 * index, 0.0, 0.0, 8.0)
        observation = dataclasses.replace(observe(index, stamp_s=ego.stamp_s), ego=ego)
        result = planner.answer(Observed(observation))
        assert result.plan is not None
        assert result.plan.source is PlanSource.POLICY
        plans.append(result.plan)
    return [jump_m(old, new, 1.0) for old, new in itertools.pairwise(plans)]


def test_plans_of_the_planner_jump_less(observe: Callable[..., Observation]) -> None:
    free, kept = (np.mean(_jumps(observe, freeze_s)) for freeze_s in (0.0, 0.5))
    assert kept < 0.6 * free
