# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The plan guard admits what a car can drive and names why it refuses the rest."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from vla_driver.geometry import se2, unicycle
from vla_driver.planning.guard import GuardLimits, PlanGuard, infeasibility
from vla_driver.types import EgoState, InvalidInput, Plan, PlanSource, Trajectory

LIMITS = GuardLimits()


def ego_at(stamp_s: float = 10.0, speed: float = 8.0, pose: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> EgoState:
    return EgoState(stamp_s, *pose, speed_mps=speed)


def plan_of(
    acceleration: float = 0.0, curvature: float = 0.0, speed: float = 8.0, stamp_s: float = 10.0, **kwargs: object
) -> Plan:
    trajectory = unicycle.integrate(speed, np.full(20, acceleration), np.full(20, curvature))
    return Plan(stamp_s, trajectory, ego_at(stamp_s, speed), 'model', **kwargs)  # type: ignore[arg-type]


def tampered(plan: Plan, **arrays: np.ndarray) -> Plan:
    return replace(plan, trajectory=replace(plan.trajectory, **arrays))


@pytest.mark.parametrize(
    ('acceleration', 'curvature', 'speed'),
    [(0, 0, 0), (0, 0, 30), (3, 0, 0), (-8, 0, 15), (0, 0.25, 5), (0, -0.25, 5), (-3, 0.05, 10), (2, 0.2, 0)],
)
def test_what_a_car_can_drive_is_admitted(acceleration: float, curvature: float, speed: float) -> None:
    plan = plan_of(acceleration, curvature, speed) if not (acceleration > 0 and curvature) else None
    if plan is None:  # a start into a bend: the lateral limit ends the acceleration
        controls = np.where(np.arange(20) < 8, acceleration, 0.0)
        plan = Plan(10.0, unicycle.integrate(speed, controls, np.full(20, curvature)), ego_at(speed=speed), 'model')
    guard = PlanGuard()
    assert guard.admit(plan, ego_at(speed=speed), 10.1) is plan
    assert guard.admitted == 1
    assert not guard.refused


@pytest.mark.parametrize(
    ('plan', 'word'),
    [
        (plan_of(acceleration=6.0), 'acceleration 6.0'),
        (plan_of(acceleration=-12.0, speed=20.0), 'deceleration 12.0'),
        (plan_of(curvature=0.4, speed=2.0), 'curvature 0.40'),
        (plan_of(curvature=0.1, speed=15.0), 'lateral acceleration 22.5'),
        (plan_of(speed=50.0), 'speed 50.0'),
    ],
)
def test_dynamics_beyond_the_limits_are_refused_with_the_value(plan: Plan, word: str) -> None:
    assert word in infeasibility(plan, LIMITS)


def test_a_speed_step_hidden_from_the_stated_accelerations_is_refused() -> None:
    plan = plan_of()
    assert 'acceleration' in infeasibility(tampered(plan, speed_mps=plan.trajectory.speed_mps + 3.0), LIMITS)


def test_reversing_is_refused() -> None:
    plan = plan_of(speed=0.0)
    assert 'reverse' in infeasibility(tampered(plan, speed_mps=np.full(20, -1.0)), LIMITS)


def test_the_first_point_must_follow_from_the_speed() -> None:
    plan = plan_of()
    moved = tampered(plan, positions_m=plan.trajectory.positions_m + [0.0, 1.0])
    assert 'first point is 1.00 m' in infeasibility(moved, LIMITS)


def test_points_and_speeds_must_agree() -> None:
    plan = plan_of()
    positions = plan.trajectory.positions_m.copy()
    positions[10:] += [3.0, 0.0]
    assert 'points 10 and 11' in infeasibility(tampered(plan, positions_m=positions), LIMITS)


def test_heading_and_curvature_must_agree() -> None:
    plan = plan_of()
    yaw = plan.trajectory.yaw_rad.copy()
    yaw[5:] += 0.5
    assert 'heading turns by 0.50' in infeasibility(tampered(plan, yaw_rad=yaw), LIMITS)


def test_without_an_earlier_plan_the_fallback_is_a_stop_stamped_as_asked() -> None:
    guard = PlanGuard()
    fallback = guard.admit(None, ego_at(10.02), 10.1, stamp_s=10.0, problem='cameras missing: back')
    assert fallback.source is PlanSource.STOP
    assert fallback.stamp_s == 10.0
    assert 'cameras missing: back' in fallback.reason
    assert 'no earlier plan' in fallback.reason
    assert fallback.trajectory.speed_mps[-1] == 0.0
    # 8 m/s at 4 m/s2: 8 m.
    assert fallback.trajectory.positions_m[-1, 0] == pytest.approx(8.0, abs=0.1)
    assert not infeasibility(fallback, LIMITS)


def test_a_stop_in_a_bend_keeps_the_bend() -> None:
    turning = EgoState(10.0, 0.0, 0.0, 0.0, speed_mps=5.0, yaw_rate_rps=0.5)
    fallback = PlanGuard().admit(None, turning, 10.0)
    assert fallback.trajectory.curvature_per_m[0] == pytest.approx(0.1)
    spinning = EgoState(10.0, 0.0, 0.0, 0.0, speed_mps=20.0, yaw_rate_rps=3.0)
    assert not infeasibility(PlanGuard().admit(None, spinning, 10.0), LIMITS)


@pytest.mark.parametrize('elapsed', [0.1, 0.25, 0.6])
def test_the_previous_plan_is_moved_by_odometry(elapsed: float) -> None:
    """On a circle driven exactly, the moved plan's points lie on the old plan's circle."""
    curvature, speed = 0.05, 8.0
    guard = PlanGuard()
    good = plan_of(curvature=curvature, speed=speed)
    guard.admit(good, ego_at(), 10.0)
    angle = curvature * speed * elapsed
    pose = (math.sin(angle) / curvature, (1 - math.cos(angle)) / curvature, angle)
    ego = ego_at(10.0 + elapsed, speed, pose)
    fallback = guard.admit(plan_of(curvature=0.4, stamp_s=10.0 + elapsed), ego, 10.0 + elapsed)
    assert fallback.source is PlanSource.SHIFTED
    assert 'infeasible: curvature' in fallback.reason
    assert fallback.stamp_s == pytest.approx(10.0 + elapsed)
    world = se2.points_to_global(pose, fallback.trajectory.positions_m)
    radius = np.hypot(world[:, 0], world[:, 1] - 1 / curvature)
    kept = fallback.trajectory.times_s + elapsed <= 5.0
    # Chords of the old polygon lie inside the circle by at most 0.05 * 2^2 / 8 = 0.025 m.
    np.testing.assert_allclose(radius[kept], 1 / curvature, atol=0.06)
    # The same number of points, ending in a slow-down; still something a car can drive.
    assert len(fallback.trajectory) == 20
    assert fallback.trajectory.speed_mps[-1] < speed
    assert not infeasibility(fallback, LIMITS)


def test_the_previous_plan_ages() -> None:
    guard = PlanGuard()
    guard.admit(plan_of(), ego_at(), 10.0)
    sources = []
    for elapsed in (0.5, 0.7, 0.9, 1.5):
        ego = ego_at(10.0 + elapsed, pose=(8.0 * elapsed, 0.0, 0.0))
        sources.append(guard.admit(None, ego, 10.0 + elapsed).source)
    assert sources == [PlanSource.SHIFTED, PlanSource.SHIFTED, PlanSource.STOP, PlanSource.STOP]
    assert guard.refused == {'shifted_previous': 2, 'stop': 2}


def test_a_car_that_left_the_previous_plan_stops() -> None:
    guard = PlanGuard()
    guard.admit(plan_of(), ego_at(), 10.0)
    astray = guard.admit(None, ego_at(10.5, pose=(4.0, 3.0, 0.0)), 10.5)
    assert astray.source is PlanSource.STOP
    assert '3.0 m away' in astray.reason


@pytest.mark.parametrize('curvature', [0.0, 0.1])
def test_a_car_that_looks_elsewhere_than_the_previous_plan_stops(curvature: float) -> None:
    """A localiser that finds its heading anew: moved by it, the plan begins sideways, which no car drives."""
    guard = PlanGuard()
    guard.admit(plan_of(curvature=curvature), ego_at(), 10.0)
    driven = plan_of(curvature=curvature).trajectory
    x, y = driven.positions_m[1]
    there = (float(x), float(y), float(driven.yaw_rad[1]))
    near = guard.admit(None, ego_at(10.5, pose=there), 10.5)
    assert near.source is PlanSource.SHIFTED
    turned = guard.admit(None, ego_at(10.5, pose=(*there[:2], there[2] + math.radians(60.0))), 10.5)
    assert turned.source is PlanSource.STOP
    assert 'turned 60 degrees away from the earlier plan, limit 17' in turned.reason


def test_a_stale_plan_is_refused_although_drivable() -> None:
    guard = PlanGuard()
    fallback = guard.admit(plan_of(ttl_s=0.3), ego_at(10.5), 10.5)
    assert fallback.source is PlanSource.STOP
    assert 'stale: 0.50 s old' in fallback.reason
    assert guard.admitted == 0


def test_after_a_reset_or_a_clock_that_went_back_the_previous_plan_is_not_used() -> None:
    guard = PlanGuard()
    guard.admit(plan_of(), ego_at(), 10.0)
    assert guard.admit(None, ego_at(9.0), 9.0).source is PlanSource.STOP
    guard.admit(plan_of(), ego_at(), 10.0)
    guard.reset()
    assert guard.admit(None, ego_at(10.1, pose=(0.8, 0, 0)), 10.1).source is PlanSource.STOP


def test_limits_must_be_positive() -> None:
    with pytest.raises(InvalidInput, match='lateral_mps2 is -1'):
        GuardLimits(lateral_mps2=-1.0)


def test_a_trajectory_with_nan_cannot_even_be_made() -> None:
    t = plan_of().trajectory
    with pytest.raises(InvalidInput, match='not finite'):
        Trajectory(t.positions_m * np.nan, t.yaw_rad, t.speed_mps, t.acceleration_mps2, t.curvature_per_m)
