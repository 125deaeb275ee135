# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One tick of driving, free of ROS: from matched inputs to the plan that may be driven.

`Planner.answer` is the only way from inputs to a plan.  The planner node, the simulator's rollout and the evaluation
of bags all call it, so that what is measured is what drives:

    begin     a jump of time: policy and guard forget what lies before it
    fresh     images that are too old are dropped, never planned from
    observe   the set is decoded to an Observation, or says what is missing
    plan      the policy answers, told what the slow half said last if that still holds; an error raised on purpose is
              a problem with a name; where asked, the beginning of the previous plan is kept (planning/continuity.py)
    guard     the plan is admitted, or replaced by a named fallback
    overtaken what is from before a jump of time that came meanwhile is dropped

Errors that this package raises on purpose become fallbacks.  A defect (any other exception) is let through, so that an
evaluation does not count it, unless somebody wants to hear of it (`on_defect`), as a node does, which must go on: then
it becomes a fallback as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from vla_driver.observation.ready import NotReady, Ready
from vla_driver.planning.agreement import heeded_in
from vla_driver.planning.continuity import continued
from vla_driver.planning.guard import PlanGuard
from vla_driver.planning.intent import IntentHolder, PresentIntent
from vla_driver.types import (
    CameraFrame,
    CameraRig,
    EgoState,
    FloatArray,
    ForecastingPolicy,
    InputNeeds,
    Intent,
    MalformedAnswer,
    Navigation,
    Observation,
    Plan,
    Policy,
    PrunablePolicy,
    RoutedPolicy,
    Selection,
    TurnCommand,
    VlaDriverError,
)

_OVERTAKEN: Final = 'time has jumped meanwhile'


class Outcome(str, enum.Enum):
    """What became of a set of inputs."""

    POLICY = 'policy'  # the policy's plan may be driven
    REFUSED = 'refused'  # the guard refused the policy's plan
    FAILED = 'failed'  # the policy had no plan
    NOT_READY = 'not_ready'  # an input was missing
    STALE = 'stale'  # the images were too old
    OVERTAKEN = 'overtaken'  # time had jumped by then

    __str__ = str.__str__


@dataclass(frozen=True)
class TickResult:
    """What one tick gave.

    outcome: what became of the inputs; problems: why, in words, where it is not the policy's plan.
    plan: what may be driven, the policy's or a fallback, with the tick's times; None where nothing may be.
    proposed: the policy's own plan, before the guard; proposed_ms: how long it took; error: what the policy raised
    instead of one.  observation: what the policy saw.  unseen: cameras that show nothing.  selection: what the policy's
    pruner kept, where it was asked for.  jumped: whether policy and guard were reset first, because time had jumped
    back.  intent: what the policy was told, as it looked then.  expert_load: `RoutedPolicy.last_load` of this tick.
    """

    outcome: Outcome
    problems: tuple[str, ...] = ()
    plan: Plan | None = None
    proposed: Plan | None = None
    proposed_ms: float = 0.0
    error: VlaDriverError | None = None
    observation: Observation | None = None
    unseen: tuple[str, ...] = ()
    selection: Selection | None = None
    jumped: bool = False
    intent: PresentIntent | None = None
    expert_load: Mapping[int, FloatArray] = field(default_factory=dict)

    @property
    def problem(self) -> str:
        """The problems in one line."""
        return '; '.join(self.problems)


@dataclass(frozen=True)
class TickLimits:
    """Of every tick.

    max_age_s: older images are dropped; plan_ttl_s: every plan's time to live, None: as the policy says; freeze_s: so
    much of the previous plan is kept at the beginning of a new one.
    """

    max_age_s: float = math.inf
    plan_ttl_s: float | None = None
    freeze_s: float = 0.0


class Planner:
    """A policy behind its guard, tick by tick.

    limits: may be replaced between two ticks.  between_ticks: hold it to change the policy while another thread calls
    `answer`.  One thread at a time may call `answer`.  on_defect: told of every defect in decoding and in the policy,
    from within its handling; None lets them through.  intents: put there what the slow half says, from any thread; a
    policy that takes none is told none.
    """

    def __init__(
        self,
        policy: Policy,
        guard: PlanGuard | None = None,
        limits: TickLimits | None = None,
        on_defect: Callable[[Exception], None] | None = None,
        intents: IntentHolder | None = None,
    ) -> None:
        self.policy = policy
        # Asked once: to ask is to compute what it is asked for.
        self._routed = policy if isinstance(policy, RoutedPolicy) else None
        self._forecaster = policy if isinstance(policy, ForecastingPolicy) else None
        self.intents = intents or IntentHolder()
        self._on_defect = on_defect
        self.guard = guard or PlanGuard()
        self.limits = limits or TickLimits()
        self.between_ticks = threading.Lock()
        self._epoch: int | None = None

    def reset(self) -> None:
        """Forget earlier ticks, in the policy and in the guard, and what the slow half said."""
        self.policy.reset()
        self.guard.reset()
        self.intents.reset()
        self._epoch = None

    def warm_up(self, rig: CameraRig) -> None:
        """Plan once from black pictures and forget it: the first plan of a neural network is its slowest."""
        # A model that writes its plan may have nothing sensible to say about black pictures: that is no fault.
        with contextlib.suppress(MalformedAnswer):
            self.policy.plan(black_observation(rig, self.policy.needs))
        self.policy.reset()

    def answer(
        self,
        ready: Ready,
        now: Callable[[], float] | None = None,
        *,
        select: bool = False,
        forecast: bool = True,
    ) -> TickResult:
        """Return what one set of inputs gives.

        now: the present time by the clock of the images' stamps, asked before and after planning; None where the world
        waits for the plan, and nothing grows old.  select: whether `TickResult.selection` is wanted; forecast: whether
        `Plan.forecasts` are, for which a guard that brakes on them asks in any case.
        """
        tick = _Tick(ready, now)
        forecast = forecast or self.guard.collision.horizon_s > 0.0
        jumped = self._begin(ready)
        if ready.overtaken:  # known already: no work for what is dropped
            return TickResult(Outcome.OVERTAKEN, (_OVERTAKEN,), jumped=jumped)
        if (age_s := tick.age_s()) > self.limits.max_age_s:
            problem = f'images published {age_s:.2f} s ago, limit {self.limits.max_age_s:g} s: dropped'
            return TickResult(Outcome.STALE, (problem,), jumped=jumped)
        tick.begin()
        observation: Observation | NotReady | TickResult
        try:
            observation = ready.observe()
        except Exception as error:
            observation = dataclasses.replace(self._defect('decoding', error), unseen=ready.missing, jumped=jumped)
        tick.decoded()
        if isinstance(observation, TickResult):
            result = observation
        elif isinstance(observation, NotReady):
            result = TickResult(Outcome.NOT_READY, observation.problems, unseen=ready.missing, jumped=jumped)
        else:
            told = self.intents.at(observation) if self.policy.needs.intents else None
            result = self._plan(observation, None if told is None else told.intent, select, forecast)
            result = dataclasses.replace(result, jumped=jumped, unseen=observation.unseen, observation=observation)
            result = dataclasses.replace(result, intent=told)
        return self._guarded(result, tick)

    def _begin(self, ready: Ready) -> bool:
        """Forget what lies before a jump of time; return whether there was one."""
        if ready.epoch == self._epoch:
            return False
        jumped = self._epoch is not None
        self.policy.reset()
        self.guard.reset()
        if jumped:  # at the first tick nothing lies before a jump
            self.intents.reset()
        self._epoch = ready.epoch
        return jumped

    def _plan(self, observation: Observation, intent: Intent | None, select: bool, forecast: bool) -> TickResult:
        selection = None
        try:
            with self.between_ticks:
                if self._forecaster is not None:
                    self._forecaster.forecasting = forecast
                began_s = time.perf_counter()
                proposed = self.policy.plan(observation, intent)
                took_ms = 1e3 * (time.perf_counter() - began_s)
                if select and isinstance(self.policy, PrunablePolicy):
                    selection = self.policy.last_selection
                load = {} if self._routed is None else self._routed.last_load
        except VlaDriverError as error:
            return TickResult(Outcome.FAILED, (f'policy failed: {error}',), error=error)
        except Exception as error:
            return self._defect('the policy', error)
        if self.limits.plan_ttl_s is not None:
            proposed = dataclasses.replace(proposed, ttl_s=self.limits.plan_ttl_s)
        proposed = continued(proposed, self.guard.previous, self.limits.freeze_s)
        return TickResult(Outcome.POLICY, proposed=proposed, proposed_ms=took_ms, selection=selection, expert_load=load)

    def _defect(self, where: str, error: Exception) -> TickResult:
        """Return what a defect leaves of a tick; raise the error where nobody wants to hear of it."""
        if self._on_defect is None:
            raise error
        self._on_defect(error)
        return TickResult(Outcome.FAILED, (f'{where} failed by a defect: {error!r}',))

    def _guarded(self, result: TickResult, tick: _Tick) -> TickResult:
        """Return the result with the plan that may be driven."""
        ready = tick.ready
        if ready.ego is None:
            return result  # without odometry there is nothing a fallback could start from
        now_s = ready.stamp_s + tick.age_s()
        plan = self.guard.admit(result.proposed, ready.ego, now_s, stamp_s=ready.stamp_s, problem=result.problem)
        timing_ms = tick.timing_ms(plan)
        if ready.overtaken:
            return dataclasses.replace(result, outcome=Outcome.OVERTAKEN, problems=(_OVERTAKEN,))
        if plan is not result.proposed and result.outcome is Outcome.POLICY:
            result = dataclasses.replace(result, outcome=Outcome.REFUSED, problems=(plan.reason,))
        heeded = None if result.intent is None else heeded_in(plan, result.intent)
        return dataclasses.replace(result, plan=dataclasses.replace(plan, timing_ms=timing_ms, heeded=heeded))


def black_observation(rig: CameraRig, needs: InputNeeds) -> Observation:
    """Return black pictures of a rig at the sizes that somebody works at, standing, straight on: to warm up with."""
    frames = {}
    for camera in rig:
        width, height = needs.image_sizes.get(camera.name, (camera.width, camera.height))
        frames[camera.name] = CameraFrame(camera.name, 0.0, np.zeros((height, width, 3), np.uint8))
    navigation = Navigation(TurnCommand.FOLLOW, 0.0, np.array([[30.0, 0.0], [60.0, 0.0]]))
    return Observation(0.0, frames, rig, EgoState(0.0, 0.0, 0.0, 0.0, 0.0), navigation)


class _Tick:
    """The clocks of one tick."""

    def __init__(self, ready: Ready, now: Callable[[], float] | None) -> None:
        self.ready = ready
        self._now = now
        entered_s = time.monotonic()
        self._sent_s = entered_s if ready.arrival_s is None else ready.arrival_s
        self._began_s = self._decoded_s = entered_s

    def age_s(self) -> float:
        """Return how old the images are; never negative."""
        return 0.0 if self._now is None else max(0.0, self._now() - self.ready.stamp_s)

    def begin(self) -> None:
        """Decoding begins."""
        self._began_s = time.monotonic()

    def decoded(self) -> None:
        """Decoding has ended."""
        self._decoded_s = time.monotonic()

    def timing_ms(self, plan: Plan) -> dict[str, float]:
        """Return the plan's own times with those around it, at the end of the tick."""
        done_s = time.monotonic()
        return {
            'wait': 1e3 * (self._began_s - self._sent_s),
            'decode': 1e3 * (self._decoded_s - self._began_s),
            **plan.timing_ms,
            'total': 1e3 * (done_s - self._sent_s),
        }
