# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A served rollout: every question gets one answer in time, and says what it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from carla_driver_interface.testing import FakeCamera

from vla_driver.observation.decode import encode_jpeg
from vla_driver.planning.tick import Planner, TickLimits
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.serve.cameras import choose_cameras
from vla_driver.serve.session import Answered, DrivingSession
from vla_driver.settings.serving import ServingParameters
from vla_driver.types import CAMERA_NAMES, InputNeeds, Intent, InvalidInput, Observation, Plan, PlanSource, TurnCommand

GREY = encode_jpeg(np.full((48, 80, 3), 90, np.uint8))
STRAIGHT = np.column_stack([np.arange(0.0, 100.0, 2.0), np.zeros(50)])


class Waiting(ConstantVelocityPolicy):
    """Plans at once until told to wait."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.seen: list[Observation] = []

    @property
    def needs(self) -> InputNeeds:
        return InputNeeds()

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        self.go.wait(20.0)
        self.seen.append(observation)
        return super().plan(observation, intent)


class Rollout:
    """One session at 8 m/s along x, and what a simulator would tell it."""

    def __init__(self, answer_within_s: float = 5.0, names: tuple[str, ...] = ('front', 'rear')) -> None:
        self.policy = Waiting()
        cameras = [FakeCamera(n, 80, 48, yaw_left_deg=180.0 if n == 'rear' else 0.0).available_camera() for n in names]
        wanted = ServingParameters(answer_within_s=answer_within_s)
        planner = Planner(self.policy, limits=TickLimits(max_age_s=wanted.max_age_s))
        self.session = DrivingSession('s', planner, choose_cameras(cameras, CAMERA_NAMES), wanted)
        self.names = names

    def moves(self, now_us: int, speed_mps: float = 8.0) -> None:
        self.session.egomotion(now_us, [speed_mps * now_us * 1e-6, 0.0, 0.0], (speed_mps, 0.0))

    def sees(self, now_us: int, *names: str) -> None:
        for name in names or self.names:
            self.session.picture(name, now_us, GREY)

    def step(self, now_us: int) -> None:
        self.moves(now_us)
        self.session.route(STRAIGHT)
        self.sees(now_us)


@pytest.fixture
def rollout() -> Iterator[Rollout]:
    made = Rollout()
    yield made
    made.policy.go.set()
    made.session.close()


def test_every_question_is_planned_from_its_own_pictures(rollout: Rollout) -> None:
    for now_us in range(0, 1_000_000, 100_000):  # the clock begins at 0
        rollout.step(now_us)
        answer = rollout.session.drive(now_us)
        assert answer is not None
        assert (answer.kind, answer.reason) == (Answered.PLANNED, '')
        assert answer.plan.stamp_s == pytest.approx(now_us * 1e-6)
    assert len(rollout.policy.seen) == 10


def test_the_policy_is_told_route_speed_and_missing_cameras(rollout: Rollout) -> None:
    rollout.step(0)
    rollout.session.drive(0)
    seen = rollout.policy.seen[-1]
    assert seen.ego.speed_mps == pytest.approx(8.0)
    assert seen.navigation.target_points_m[:, 0].tolist() == [35.0, 70.0]
    assert seen.navigation.command is TurnCommand.FOLLOW
    assert set(seen.frames) == {'front', 'back'}


def test_cameras_slower_than_the_questions_keep_the_plan(rollout: Rollout) -> None:
    kinds = []
    for step in range(10):  # pictures at 2 Hz, questions at 10
        now_us = 100_000 * step
        rollout.moves(now_us)
        rollout.session.route(STRAIGHT)
        if step % 5 == 0:
            rollout.sees(now_us)
        answer = rollout.session.drive(now_us)
        assert answer is not None
        kinds.append(answer.kind)
        assert answer.plan.stamp_s == pytest.approx(0.5 * (step // 5))
    assert kinds == ([Answered.PLANNED] + 4 * [Answered.KEPT]) * 2


def test_a_camera_that_lags_is_taken_with_its_own_stamp(rollout: Rollout) -> None:
    rollout.sees(0, 'rear')
    rollout.moves(0)
    rollout.moves(100_000)
    rollout.session.route(STRAIGHT)
    rollout.sees(100_000, 'front')
    answer = rollout.session.drive(100_000)
    assert answer is not None
    assert answer.missing == ()
    assert rollout.policy.seen[-1].frames['back'].stamp_s == 0.0


def test_a_camera_that_is_lost_is_said_and_the_drive_goes_on(rollout: Rollout) -> None:
    rollout.step(0)
    rollout.session.drive(0)
    rollout.moves(500_000)
    rollout.sees(500_000, 'front')
    answer = rollout.session.drive(500_000)
    assert answer is not None
    assert (answer.kind, answer.missing) == (Answered.PLANNED, ('back',))


def test_no_pictures_end_in_a_stop_that_says_why(rollout: Rollout) -> None:
    rollout.step(0)
    rollout.session.drive(0)
    answer = None
    for now_us in range(100_000, 1_600_000, 100_000):
        rollout.moves(now_us)
        answer = rollout.session.drive(now_us)
    assert answer is not None
    assert (answer.kind, answer.plan.source) == (Answered.STOP, PlanSource.STOP)
    assert answer.plan.trajectory.speed_mps[-1] == 0.0
    assert answer.reason


def test_pictures_that_cannot_be_read_are_named(rollout: Rollout) -> None:
    rollout.moves(0)
    rollout.session.route(STRAIGHT)
    rollout.session.picture('front', 0, b'\xff\xd8\xff no picture')
    answer = rollout.session.drive(0)
    assert answer is not None
    assert answer.kind is Answered.FALLBACK
    assert 'camera front: JPEG' in answer.reason


def test_without_a_route_nothing_is_planned_and_that_is_said(rollout: Rollout) -> None:
    rollout.moves(0)
    rollout.sees(0)
    answer = rollout.session.drive(0)
    assert answer is not None
    assert answer.kind is Answered.FALLBACK
    assert 'route: none received' in answer.reason


def test_before_the_first_egomotion_there_is_no_answer(rollout: Rollout) -> None:
    rollout.sees(0)
    rollout.session.route(STRAIGHT)
    assert rollout.session.drive(0) is None
    rollout.step(100_000)
    answer = rollout.session.drive(100_000)
    assert answer is not None
    assert answer.kind is Answered.PLANNED


def test_a_route_that_comes_before_the_first_egomotion_counts_from_there(rollout: Rollout) -> None:
    rollout.session.route(STRAIGHT)
    rollout.moves(0)
    rollout.sees(0)
    answer = rollout.session.drive(0)
    assert answer is not None
    assert answer.kind is Answered.PLANNED
    assert rollout.policy.seen[-1].navigation.target_points_m[:, 0].tolist() == [35.0, 70.0]


def test_a_route_is_seen_from_where_the_vehicle_was_at_its_stamp(rollout: Rollout) -> None:
    rollout.moves(0)
    rollout.session.route(STRAIGHT, 500_000)  # half a second, 4 m, later
    rollout.sees(0)
    rollout.session.drive(0)
    assert rollout.policy.seen[-1].navigation.target_points_m[0, 0] == pytest.approx(39.0, abs=1.01)


def test_a_late_plan_is_answered_in_time_with_the_one_before() -> None:
    rollout = Rollout(answer_within_s=1.0)
    rollout.step(0)
    rollout.session.drive(0)
    rollout.policy.go.clear()
    rollout.step(100_000)
    began_s = time.monotonic()
    late = rollout.session.drive(100_000)
    took_s = time.monotonic() - began_s
    assert late is not None
    assert (late.kind, late.plan.stamp_s) == (Answered.LATE, 0.0)
    assert 'took longer than 1 s' in late.reason
    assert 1.0 <= took_s < 10.0
    rollout.policy.go.set()
    rollout.step(200_000)
    time.sleep(0.1)
    answer = rollout.session.drive(200_000)
    assert answer is not None
    assert (answer.kind, answer.plan.stamp_s) == (Answered.PLANNED, pytest.approx(0.2))
    rollout.session.close()


def test_a_first_plan_that_is_late_is_a_stop() -> None:
    rollout = Rollout(answer_within_s=0.05)
    rollout.policy.go.clear()
    rollout.step(0)
    answer = rollout.session.drive(0)
    assert answer is not None
    assert answer.kind is Answered.STOP
    rollout.policy.go.set()
    rollout.session.close()


def test_speed_is_made_of_poses_where_nobody_says_it(rollout: Rollout) -> None:
    for now_us in range(0, 400_000, 100_000):
        rollout.session.egomotion(now_us, [6.0 * now_us * 1e-6, 0.0, 0.0])
        rollout.session.route(STRAIGHT)
        rollout.sees(now_us)
        rollout.session.drive(now_us)
    assert rollout.policy.seen[-1].ego.speed_mps == pytest.approx(6.0, abs=0.01)


def test_a_turn_of_the_route_becomes_a_command(rollout: Rollout) -> None:
    bend = np.linspace(0.0, np.pi / 2, 9)[1:]
    corner = np.column_stack([40.0 + 10.0 * np.sin(bend), 10.0 - 10.0 * np.cos(bend)])
    after = np.column_stack([np.full(20, 50.0), 10.0 + np.arange(1.0, 41.0, 2.0)])
    rollout.moves(0)
    rollout.session.route(np.vstack([STRAIGHT[:21], corner, after]))
    rollout.sees(0)
    answer = rollout.session.drive(0)
    assert answer is not None
    assert answer.command is TurnCommand.LEFT
    assert answer.distance_m == pytest.approx(40.0, abs=4.0)
    told = rollout.policy.seen[-1].navigation
    assert (told.command, told.distance_m) == (TurnCommand.LEFT, pytest.approx(answer.distance_m))


def test_a_plan_that_is_too_old_when_it_comes_is_not_driven() -> None:
    rollout = Rollout(answer_within_s=0.05)
    try:
        rollout.policy.go.clear()
        rollout.step(1_000_000)
        late = rollout.session.drive(1_000_000)
        assert late is not None and late.kind is Answered.STOP
        rollout.policy.go.set()
        while not rollout.policy.seen:
            time.sleep(0.01)
        time.sleep(0.1)
        rollout.moves(6_000_000)
        answer = rollout.session.drive(6_000_000)
        assert answer is not None
        assert (answer.kind, answer.reason) == (
            Answered.STOP,
            'the newest plan is of 5.0 s ago, and good for 1 s',
        )
    finally:
        rollout.policy.go.set()
        rollout.session.close()


def test_egomotion_that_is_said_again_or_late_changes_nothing(rollout: Rollout) -> None:
    for step in range(4):
        rollout.session.egomotion(100_000 * step, [step, 0.0, 0.0])
    before = rollout.session._ego
    assert before is not None and before.speed_mps == pytest.approx(10.0)
    for stamp_us, x_m in ((300_000, 3.0), (100_000, 1.0), (0, 0.0)):
        rollout.session.egomotion(stamp_us, [x_m, 0.0, 0.0])
    assert rollout.session._ego is before
    rollout.session.egomotion(400_000, [4.0, 0.0, 0.0])
    rollout.session.route(STRAIGHT)
    rollout.sees(400_000)
    rollout.session.drive(400_000)
    seen = rollout.policy.seen[-1]
    assert seen.ego.speed_mps == pytest.approx(10.0)
    assert rollout.session._assembler.epoch == 0


def test_numbers_that_are_none_are_named_and_those_behind_them_count(rollout: Rollout) -> None:
    torn = STRAIGHT.copy()
    torn[1] = np.nan
    with pytest.raises(InvalidInput, match=r'route: point 1 is \[nan, nan\]'):
        rollout.session.route(torn)
    with pytest.raises(InvalidInput, match=r'egomotion at 0\.000000 s: pose \(x, y, yaw\) \[nan, 0\.0, 0\.0\]'):
        rollout.session.egomotion(0, [np.nan, 0.0, 0.0], (8.0, 0.0))
    with pytest.raises(InvalidInput, match=r'speed and yaw rate \(inf, 0\.0\); expected finite'):
        rollout.session.egomotion(0, [0.0, 0.0, 0.0], (np.inf, 0.0))
    rollout.session.route(STRAIGHT)
    rollout.step(100_000)
    answer = rollout.session.drive(100_000)
    assert answer is not None and answer.kind is Answered.PLANNED


def test_a_routes_stamp_that_cannot_be_its_own_is_named_once(
    rollout: Rollout, caplog: pytest.LogCaptureFixture
) -> None:
    for now_us in (20_000_000, 20_100_000):
        rollout.moves(now_us)
        rollout.session.route(STRAIGHT, 0)  # nobody filled it in
        rollout.sees(now_us)
        rollout.session.drive(now_us)
    assert rollout.policy.seen[0].navigation.target_points_m[:, 0].tolist() == [35.0, 70.0]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert told[0].startswith('session s: a route is stamped 0.000 s, the newest egomotion 20.000 s: such routes are')
