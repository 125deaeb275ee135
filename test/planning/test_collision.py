# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A plan that would meet somebody is braked on its own path, where that helps and only there."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.geometry import unicycle
from vla_driver.planning.collision import CollisionLimits, braked, braked_if_it_helps, first_contact
from vla_driver.planning.guard import GuardLimits, PlanGuard, infeasibility
from vla_driver.types import AgentKind, EgoState, Forecast, InvalidInput, Plan, PlanSource

LIMITS = CollisionLimits(horizon_s=2.0)


def plan_of(speed: float = 10.0, acceleration: float = 0.0, curvature: float = 0.0, forecasts: tuple = ()) -> Plan:
    trajectory = unicycle.integrate(speed, np.full(20, acceleration), np.full(20, curvature))
    return Plan(10.0, trajectory, EgoState(10.0, 5.0, 5.0, 1.0, speed), 'model', forecasts=forecasts)


def other(
    x: float, y: float = 0.0, yaw: float = 0.0, speed: float = 0.0, existence: float = 0.9, person: bool = False
) -> Forecast:
    path = unicycle.integrate_many([[x, y, yaw]], [speed], np.zeros((1, 20, 2)))[0]
    size = (0.5, 0.5) if person else (4.5, 1.8)
    kind = AgentKind.PERSON if person else AgentKind.VEHICLE
    return Forecast(kind, np.array([x, y, yaw]), speed, *size, path[:, :2], path[:, 2], existence)


@pytest.mark.parametrize(
    ('who', 'time_s'),
    [
        # Bumper to bumper: 12 m minus half a car (2.25 m) and the ego's front, 3.7 m, at 10 m/s.
        (other(12.0), 0.61),
        (other(14.0, speed=4.0), 1.34),
        (other(12.0, y=-7.0, yaw=np.pi / 2, speed=5.0), 0.87),  # crosses from the right
        (other(15.0, person=True), 1.11),
        (other(20.0, y=1.7), 1.41),  # half in the way
    ],
)
def test_when_boxes_first_meet(who: Forecast, time_s: float) -> None:
    contact = first_contact(plan_of(), (who,), LIMITS)
    assert contact is not None
    assert contact.time_s == pytest.approx(time_s, abs=0.13)
    assert contact.speed_mps == pytest.approx(10.0)
    assert contact.other is who


@pytest.mark.parametrize(
    'who',
    [
        other(40.0),  # beyond two seconds
        other(12.0, y=3.2),  # in the next lane
        other(12.0, speed=10.0),  # drives on
        other(12.0, y=-12.0, yaw=np.pi / 2, speed=5.0),  # crosses behind
        other(12.0, existence=0.4),  # probably nobody
        other(-8.0, speed=20.0),  # runs into the ego from behind: braking would not help
        other(2.0),  # where the ego is: no forecast
    ],
)
def test_who_is_no_reason_to_brake(who: Forecast) -> None:
    assert first_contact(plan_of(), (who,), LIMITS) is None


def test_at_walking_pace_it_is_the_controllers_business() -> None:
    assert first_contact(plan_of(speed=0.8), (other(6.5),), LIMITS) is None
    assert first_contact(plan_of(speed=2.0), (other(6.5),), LIMITS) is not None


def test_braking_keeps_the_plans_path() -> None:
    plan = plan_of(speed=8.0, curvature=0.05)
    slower = braked(plan, LIMITS, 'because')
    assert (slower.source, slower.reason) == (PlanSource.BRAKED, 'because')
    assert slower.trajectory.speed_mps[-1] == 0.0
    assert not infeasibility(slower, GuardLimits())
    # On the same circle of 20 m.
    centre = np.array([0.0, 20.0])
    np.testing.assert_allclose(np.linalg.norm(slower.trajectory.positions_m - centre, axis=1), 20.0, atol=0.1)
    assert slower.trajectory.positions_m[-1, 0] == pytest.approx(8.0**2 / 2 / 6.0, abs=0.8)


def test_a_swerve_is_braked_on_the_swerve() -> None:
    controls = np.where(np.arange(20) < 10, 0.04, -0.04)
    trajectory = unicycle.integrate(9.0, np.zeros(20), controls)
    plan = Plan(10.0, trajectory, EgoState(10.0, 0.0, 0.0, 0.0, 9.0), 'model')
    slower = braked(plan, CollisionLimits(horizon_s=2.0, braking_mps2=2.0), '')
    apart = np.linalg.norm(slower.trajectory.positions_m[:, None] - trajectory.positions_m[None], axis=-1).min(axis=1)
    assert apart.max() < 1.2  # the plan's points are 2.25 m apart


def test_the_guard_brakes_where_it_helps() -> None:
    plan = plan_of(forecasts=(other(16.0),))
    guard = PlanGuard(collision=LIMITS)
    answer = guard.admit(plan, plan.ego, 10.1)
    assert answer.source is PlanSource.BRAKED
    assert 'meets a vehicle 16 m away in 1.1 s at 10.0 m/s' in answer.reason
    assert answer.forecasts == plan.forecasts
    assert guard.refused == {'braked': 1}
    assert guard.admitted == 0
    assert first_contact(answer, plan.forecasts, LIMITS) is None
    # Should the next plan fail, it is the braked one that is driven on.
    after = guard.admit(None, EgoState(10.2, 5.0, 6.5, 1.0, 8.8), 10.3, problem='none')
    assert after.source in (PlanSource.SHIFTED, PlanSource.STOP)
    assert after.trajectory.speed_mps[-1] < 1.0


def test_the_guard_lets_a_plan_be_that_braking_does_not_help() -> None:
    weak = CollisionLimits(horizon_s=2.0, braking_mps2=0.5)
    late = plan_of(forecasts=(other(8.0),))
    assert first_contact(late, late.forecasts, weak) is not None
    assert braked_if_it_helps(late, weak) is None
    assert PlanGuard(collision=weak).admit(late, late.ego, 10.1) is late


def test_without_being_asked_the_guard_looks_at_nobody() -> None:
    plan = plan_of(forecasts=(other(12.0),))
    assert PlanGuard().admit(plan, plan.ego, 10.1) is plan


def test_limits_are_checked() -> None:
    with pytest.raises(InvalidInput, match='horizon_s is -1'):
        CollisionLimits(horizon_s=-1.0)
    with pytest.raises(InvalidInput, match='braking_mps2 is 0'):
        CollisionLimits(horizon_s=1.0, braking_mps2=0.0)
