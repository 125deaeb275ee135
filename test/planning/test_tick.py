# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One tick without processes: what becomes of a set of inputs, and what may be driven."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vla_driver.geometry import unicycle
from vla_driver.observation.ready import NotReady, Observed
from vla_driver.planning.collision import CollisionLimits
from vla_driver.planning.tick import Outcome, Planner, TickLimits
from vla_driver.types import (
    NO_ENGINE,
    NO_PICTURES,
    PLAN_STEPS,
    CameraSelection,
    EgoState,
    InputNeeds,
    Intent,
    InvalidInput,
    MalformedAnswer,
    MetaAction,
    Observation,
    Plan,
    PlanSource,
    Policy,
    Selection,
)

Observe = Callable[..., Observation]


class StraightOn:
    """Drives straight on; counts, and fails on request."""

    name = 'straight-on'
    needs = NO_PICTURES
    engine = NO_ENGINE

    def __init__(self, error: Exception | None = None, acceleration: float = 0.0) -> None:
        self.error, self.acceleration = error, acceleration
        self.resets, self.plans = 0, 0
        self.intents: list[Intent | None] = []

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        self.plans += 1
        self.intents.append(intent)
        if self.error is not None:
            raise self.error
        controls = np.full(PLAN_STEPS, self.acceleration)
        trajectory = unicycle.integrate(observation.ego.speed_mps, controls, np.zeros(PLAN_STEPS))
        return Plan(observation.stamp_s, trajectory, observation.ego, self.name, timing_ms={'thinking': 1.0})

    def reset(self) -> None:
        self.resets += 1


class Pruned(StraightOn):
    """Has visual tokens."""

    def own_pruner(self, spec: str) -> None:
        del spec

    def set_pruning(self, pruner: object, budget: object = None) -> None:
        raise AssertionError('the tick prunes nothing itself')

    @property
    def last_selection(self) -> Selection | None:
        return Selection('half', float(self.plans), {'front': CameraSelection(np.array([[True, False]]), None)})


@dataclasses.dataclass(frozen=True)
class Incomplete:
    """Inputs of which some are missing."""

    stamp_s: float
    ego: EgoState | None
    epoch: int = 0
    missing: tuple[str, ...] = ('back',)
    arrival_s: float | None = None
    overtaken: bool = False

    def observe(self) -> NotReady:
        return NotReady(self.stamp_s, ('camera back: no frame', 'route: none received'))


def clock(*times_s: float) -> Callable[[], float]:
    """Return a clock that shows one time after the other, then stands still."""
    shown: Iterator[float] = iter(times_s)
    last = times_s[-1]
    return lambda: next(shown, last)


def test_a_plan_of_the_policy_may_be_driven(observation_at: Observe) -> None:
    policy = StraightOn()
    assert isinstance(policy, Policy)
    result = Planner(policy).answer(Observed(observation_at(3.0)))
    assert (result.outcome, result.problem, result.error, result.selection) == (Outcome.POLICY, '', None, None)
    assert result.plan is not None and result.proposed is not None
    assert (result.plan.source, result.plan.stamp_s, result.plan.policy) == (PlanSource.POLICY, 3.0, 'straight-on')
    assert np.array_equal(result.plan.trajectory.positions_m, result.proposed.trajectory.positions_m)
    assert list(result.plan.timing_ms) == ['wait', 'decode', 'thinking', 'total']
    assert result.plan.timing_ms['total'] >= 0.0 and result.proposed_ms > 0.0
    assert result.unseen == ('front',)  # the only camera, without a picture
    assert policy.intents == [None] and result.intent is None and result.plan.heeded is None


class Told(StraightOn):
    """Can be told an intent."""

    needs = InputNeeds(cameras=(), intents=True)


def test_a_policy_is_told_what_the_slow_half_said_while_it_holds(observation_at: Observe) -> None:
    policy, deaf = Told(), StraightOn()
    planner = Planner(policy)
    assert planner.answer(Observed(observation_at(3.0))).intent is None
    intent = Intent(3.0, MetaAction.STOP, 1.0, np.zeros(3))
    planner.intents.put(intent)
    result = planner.answer(Observed(observation_at(3.4)))
    assert policy.intents == [None, intent]
    assert result.intent is not None and result.plan is not None and result.plan.heeded is not None
    heeded = result.plan.heeded
    assert (heeded.meta_action, heeded.agreement) == (MetaAction.STOP, 0.0)  # it drives on all the same
    assert (heeded.age_s, heeded.weight) == pytest.approx((0.4, 0.6))
    # Of a fallback, too, one learns how well it agrees: this one stops.
    policy.error = InvalidInput('no plan')
    stopped = Planner(policy)
    stopped.intents.put(intent)
    failed = stopped.answer(Observed(observation_at(3.4)))
    assert failed.outcome is Outcome.FAILED and failed.plan is not None and failed.plan.heeded is not None
    assert (failed.plan.source, failed.plan.heeded.agreement) == (PlanSource.STOP, 1.0)
    policy.error = None
    assert planner.answer(Observed(observation_at(4.0))).intent is None  # its time to live is over
    assert policy.intents[-1] is None
    planner.intents.put(intent)
    planner.answer(dataclasses.replace(Observed(observation_at(3.1)), epoch=1))
    assert policy.intents[-1] is None  # time has jumped
    unasked = Planner(deaf)
    unasked.intents.put(intent)
    unasked.answer(Observed(observation_at(3.4)))
    assert deaf.intents == [None]


class Broken(Incomplete):
    """Inputs whose decoding meets a defect, as with a cv_bridge built for another numpy."""

    def observe(self) -> NotReady:
        raise AttributeError('_ARRAY_API not found')


def test_a_defect_is_let_through_unless_somebody_wants_to_hear_of_it(observation_at: Observe) -> None:
    good, ego = Observed(observation_at(3.0)), observation_at(3.1).ego
    for broken, ready in ((StraightOn(), Broken(3.1, ego)), (StraightOn(), Observed(observation_at(3.1)))):
        heard: list[Exception] = []
        strict, tolerant = Planner(broken), Planner(broken, on_defect=heard.append)
        assert strict.answer(good).outcome == tolerant.answer(good).outcome == Outcome.POLICY
        broken.error = ZeroDivisionError('no such layer')
        with pytest.raises((AttributeError, ZeroDivisionError)):
            strict.answer(ready)
        result = tolerant.answer(ready)
        assert len(heard) == 1 and heard[0].__traceback__ is not None
        assert result.outcome is Outcome.FAILED and 'failed by a defect' in result.problem
        assert result.plan is not None and result.plan.source is PlanSource.SHIFTED
        assert 'failed by a defect' in result.plan.reason
    nowhere = Planner(StraightOn(), on_defect=heard.append).answer(Broken(3.1, None))
    assert nowhere.plan is None and 'decoding failed by a defect' in nowhere.problem


def test_what_the_policy_cannot_plan_becomes_a_stop_with_its_cause(observation_at: Observe) -> None:
    result = Planner(StraightOn(InvalidInput('no front image'))).answer(Observed(observation_at(3.0)))
    assert (result.outcome, result.problem) == (Outcome.FAILED, 'policy failed: no front image')
    assert result.proposed is None and result.plan is not None
    assert (result.plan.source, result.plan.stamp_s) == (PlanSource.STOP, 3.0)
    assert 'no front image' in result.plan.reason
    words = Planner(StraightOn(MalformedAnswer('empty', 'nothing was said'))).answer(Observed(observation_at(3.0)))
    assert isinstance(words.error, MalformedAnswer) and words.error.fault == 'empty'


def test_a_defect_stays_a_defect(observation_at: Observe) -> None:
    planner = Planner(StraightOn(ZeroDivisionError('a bug')))
    with pytest.raises(ZeroDivisionError):
        planner.answer(Observed(observation_at(3.0)))
    assert not planner.between_ticks.locked()


def test_what_no_car_can_drive_is_refused(observation_at: Observe) -> None:
    result = Planner(StraightOn(acceleration=7.0)).answer(Observed(observation_at(3.0)))
    assert result.outcome is Outcome.REFUSED
    assert result.proposed is not None and result.plan is not None and result.plan.source is PlanSource.STOP
    assert 'acceleration 7.0 m/s2, limit 5' in result.problem


def test_stale_images_are_dropped_and_nothing_is_decoded(observation_at: Observe) -> None:
    policy = StraightOn()
    planner = Planner(policy, limits=TickLimits(max_age_s=0.5))
    result = planner.answer(Observed(observation_at(3.0)), clock(3.6))
    assert (result.outcome, result.plan, result.observation, policy.plans) == (Outcome.STALE, None, None, 0)
    assert result.problem == 'images published 0.60 s ago, limit 0.5 s: dropped'
    assert planner.answer(Observed(observation_at(3.0)), clock(3.4)).outcome is Outcome.POLICY
    # A clock that lags behind the images makes nothing younger than new.
    assert planner.answer(Observed(observation_at(3.0)), clock(2.0)).outcome is Outcome.POLICY
    planner.limits = TickLimits(max_age_s=1.0)
    assert planner.answer(Observed(observation_at(3.0)), clock(3.6)).outcome is Outcome.POLICY


def test_a_plan_that_took_too_long_is_not_driven(observation_at: Observe) -> None:
    planner = Planner(StraightOn(), limits=TickLimits(plan_ttl_s=0.3))
    result = planner.answer(Observed(observation_at(3.0)), clock(3.0, 3.5))
    assert result.outcome is Outcome.REFUSED and 'stale: 0.50 s old, time to live 0.3 s' in result.problem
    assert result.proposed is not None and result.proposed.ttl_s == 0.3
    in_time = planner.answer(Observed(observation_at(3.1)), clock(3.1, 3.2))
    assert in_time.outcome is Outcome.POLICY and in_time.plan is not None and in_time.plan.ttl_s == 0.3


def test_missing_inputs_are_named_and_the_earlier_plan_goes_on(observation_at: Observe) -> None:
    policy = StraightOn()
    planner = Planner(policy)
    ego = observation_at(3.0).ego
    first = planner.answer(Incomplete(3.0, ego))
    assert (first.outcome, first.problem) == (Outcome.NOT_READY, 'camera back: no frame; route: none received')
    assert first.problems == ('camera back: no frame', 'route: none received')
    assert first.plan is not None and first.plan.source is PlanSource.STOP and first.unseen == ('back',)
    planner.answer(Observed(observation_at(3.1)))
    moved = dataclasses.replace(observation_at(3.2).ego, x_m=0.5)
    shifted = planner.answer(Incomplete(3.2, moved))
    assert shifted.plan is not None and shifted.plan.source is PlanSource.SHIFTED
    assert policy.plans == 1


def test_without_odometry_there_is_nothing_to_drive() -> None:
    result = Planner(StraightOn()).answer(Incomplete(3.0, None))
    assert (result.outcome, result.plan) == (Outcome.NOT_READY, None)


def test_a_jump_of_time_resets_policy_and_guard(observation_at: Observe) -> None:
    policy = StraightOn()
    planner = Planner(policy)
    assert not planner.answer(Observed(observation_at(8.0))).jumped
    assert not planner.answer(Observed(observation_at(8.1))).jumped
    assert policy.resets == 1  # before the first tick
    assert planner.answer(Observed(observation_at(1.0), epoch=1)).jumped
    assert policy.resets == 2
    # The guard has forgotten the plans from before the jump, too.
    planner.answer(Observed(observation_at(8.2), epoch=2))
    policy.error = InvalidInput('nothing')
    after = planner.answer(Observed(observation_at(8.3), epoch=3))
    assert after.plan is not None and after.plan.source is PlanSource.STOP and 'no earlier plan' in after.plan.reason


def test_a_plan_from_before_a_jump_is_not_driven(observation_at: Observe) -> None:
    result = Planner(StraightOn()).answer(Observed(observation_at(3.0), overtaken=True))
    assert (result.outcome, result.plan) == (Outcome.OVERTAKEN, None)


def test_what_was_kept_is_told_where_it_is_asked_for(observation_at: Observe) -> None:
    planner = Planner(Pruned())
    assert planner.answer(Observed(observation_at(3.0))).selection is None
    selection = planner.answer(Observed(observation_at(3.1)), select=True).selection
    assert selection is not None and (selection.pruner, selection.kept, selection.total) == ('half', 1, 2)
    assert Planner(StraightOn()).answer(Observed(observation_at(3.0)), select=True).selection is None


def test_the_load_of_experts_is_told_of_a_policy_that_has_any(observation_at: Observe) -> None:
    class Routed(StraightOn):
        @property
        def last_load(self) -> dict[int, np.ndarray]:
            return {2: np.array([2.0, float(self.plans)])}

    planner = Planner(Routed())
    for tick in (1, 2):
        load = planner.answer(Observed(observation_at(float(tick)))).expert_load
        assert load[2].tolist() == [2.0, tick]
    failing = Planner(Routed(InvalidInput('no')))
    assert failing.answer(Observed(observation_at(1.0))).expert_load == {}
    assert Planner(StraightOn()).answer(Observed(observation_at(1.0))).expert_load == {}


def test_others_are_forecast_where_somebody_asks(observation_at: Observe) -> None:
    class Foreseeing(StraightOn):
        def __init__(self) -> None:
            super().__init__()
            self.forecasting, self.asked = True, list[bool]()

        def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
            self.asked.append(self.forecasting)
            return super().plan(observation, intent)

    policy = Foreseeing()
    planner = Planner(policy)
    for tick, wanted in enumerate((True, False, True, False)):
        planner.answer(Observed(observation_at(float(tick))), forecast=wanted)
    planner.guard.collision = CollisionLimits(horizon_s=2.0)
    planner.answer(Observed(observation_at(9.0)), forecast=False)
    assert policy.asked == [True, False, True, False, True]


def test_the_policy_may_be_changed_between_two_ticks(observation_at: Observe) -> None:
    policy = StraightOn()
    planner = Planner(policy)
    ticking = threading.Thread(target=planner.answer, args=(Observed(observation_at(3.0)),))
    with planner.between_ticks:
        ticking.start()
        ticking.join(0.2)
        assert ticking.is_alive() and policy.plans == 0
    ticking.join(5.0)
    assert policy.plans == 1


def test_warm_up_leaves_no_trace(observation_at: Observe) -> None:
    policy = StraightOn()
    Planner(policy).warm_up(observation_at(0.0).rig)
    assert (policy.plans, policy.resets) == (1, 1)
    Planner(StraightOn(MalformedAnswer('empty', 'black pictures'))).warm_up(observation_at(0.0).rig)
    with pytest.raises(InvalidInput, match='no such camera'):
        Planner(StraightOn(InvalidInput('no such camera'))).warm_up(observation_at(0.0).rig)
