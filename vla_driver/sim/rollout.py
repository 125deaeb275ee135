# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Drive one route in the simulator, synchronously: observe, plan, guard, follow, step.

This is the core that `drive` and `evaluate closed-loop` share.  It waits for the policy, so the result
does not depend on how fast the machine is: the same scenario and policy give the same route.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vla_driver.observation.ready import Observed
from vla_driver.planning.collision import CollisionLimits
from vla_driver.planning.continuity import jump_m
from vla_driver.planning.control import ControlCommand, TrajectoryController
from vla_driver.planning.intent import PresentIntent
from vla_driver.planning.tick import Planner, TickLimits
from vla_driver.settings.guarding import GuardingParameters
from vla_driver.sim.slow_half import SlowHalf
from vla_driver.types import InvalidInput, Observation, Plan, PlanSource, Policy

if TYPE_CHECKING:  # the simulator needs SUMO and GL; this module's users may bring their own
    from vla_driver.sim.scoring import RouteResult
    from vla_driver.sim.simulation import Simulation

#: The controller's rate is the simulator's: one command per step, of 0.1 s, or of 0.05 s where plans come so often.
CONTROL_HZ: Final = 10
FAST_HZ: Final = 20
#: What may be asked for.
PLAN_RATES: Final = 'plans per second: 20, 10, 5, 2 or 1'
#: Plans are compared with those before them over so much of the way ahead.
JUMP_S: Final = 1.0


@dataclass(frozen=True)
class Tick:
    """One control tick, for whoever watches.  `observation` is None between two plans; told: the plan's intent."""

    time_s: float
    plan: Plan
    command: ControlCommand
    observation: Observation | None
    told: PresentIntent | None = None


@dataclass
class RolloutStatistics:
    """What the planner did on a route: how many plans from which source, how long everything took (wall clock).

    observe_ms, plan_ms: of every plan, the pictures and what was made of them; control_ms, step_ms: of every tick, the
    controller (with whoever watches) and the simulator (traffic, scorer).  told: how many plans were told an intent;
    agreement: how well each of them does what was wanted; intent_age_s: of each; uncertainty: of each plan that says.
    jumps_m: how far each plan lies from the one before it, over the next second.  said, silent: what the slow half
    said, by meta-action, and why it said nothing; dropped: why intents were dropped.
    """

    plans: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    observe_ms: list[float] = field(default_factory=list)
    plan_ms: list[float] = field(default_factory=list)
    control_ms: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    intent_age_s: list[float] = field(default_factory=list)
    uncertainty: list[float] = field(default_factory=list)
    jumps_m: list[float] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)
    dropped: Mapping[str, int] = field(default_factory=dict)

    def words(self) -> dict[str, Any]:
        """Return what the slow half said and what became of it, for JSON; means are None where there is nothing."""

        def mean(values: list[float]) -> float | None:
            return statistics.fmean(values) if values else None

        return {
            'told': self.told,
            'agreement': mean(self.agreement),
            'intent_age_s': mean(self.intent_age_s),
            'uncertainty': mean(self.uncertainty),
            'said': dict(self.said),
            'silent': dict(self.silent),
            'dropped': dict(self.dropped),
        }

    @property
    def told(self) -> int:
        """How many plans were told an intent."""
        return len(self.agreement)

    @property
    def ticks(self) -> int:
        """How many ticks were driven."""
        return len(self.step_ms)

    def medians_ms(self) -> dict[str, float]:
        """Return stage -> median time; 0 where it never ran."""
        stages = {
            'observe': self.observe_ms, 'plan': self.plan_ms, 'control': self.control_ms, 'step': self.step_ms,
        }  # fmt: skip
        return {name: statistics.median(times) if times else 0.0 for name, times in stages.items()}

    def note(self, plan: Plan, before: Plan | None = None) -> None:
        """Take note of a plan that is driven, after another one."""
        if before is not None and plan.source is before.source is PlanSource.POLICY:
            self.jumps_m.append(jump_m(before, plan, JUMP_S))
        self.plans[plan.source.value] += 1
        if plan.reason:
            # Numbers differ from tick to tick; what counts is the kind of objection.
            self.reasons[' '.join(plan.reason.split()[:2])] += 1
        if plan.heeded is not None:
            self.agreement.append(plan.heeded.agreement)
            self.intent_age_s.append(plan.heeded.age_s)
        if not math.isnan(plan.uncertainty):
            self.uncertainty.append(plan.uncertainty)


def step_for(plan_hz: float) -> float:
    """Return how long the simulator's steps are where plans come at this rate, in s; raise InvalidInput if none fit."""
    if plan_hz == FAST_HZ:
        return 1.0 / FAST_HZ
    if not _whole(CONTROL_HZ, plan_hz):
        raise InvalidInput(
            f'plan rate {plan_hz} Hz: expected {FAST_HZ}, 10, 5, 2 or 1; the controller runs at {CONTROL_HZ} Hz, at '
            f'{FAST_HZ} where as many plans are wanted'
        )
    return 1.0 / CONTROL_HZ


def ticks_per_plan(plan_hz: float, step_s: float = 1.0 / CONTROL_HZ) -> int:
    """Return how many control ticks a plan is followed; raise InvalidInput unless that is a whole number."""
    control_hz = 1.0 / step_s
    ticks = _whole(control_hz, plan_hz)
    if not ticks:
        raise InvalidInput(
            f'plan rate {plan_hz} Hz: the controller runs at {control_hz:g} Hz, so the rate must divide it: '
            '10, 5, 2 or 1'
        )
    return ticks


def _whole(control_hz: float, plan_hz: float) -> int:
    """Return how many ticks there are to a plan; 0 where that is no whole number."""
    ticks = control_hz / plan_hz if plan_hz > 0 else 0.0
    return round(ticks) if abs(ticks - round(ticks)) < 1e-9 else 0


def drive_route(
    simulation: Simulation,
    policy: Policy,
    *,
    plan_hz: float = 5.0,
    max_seconds: float = float('inf'),
    on_tick: Callable[[Tick], None] | None = None,
    slow: SlowHalf | None = None,
    guarding: GuardingParameters | None = None,
    forecast: bool = True,
) -> tuple[RouteResult, RolloutStatistics]:
    """Drive `simulation` until it is done and return the route's result with the planner's statistics.

    max_seconds: of simulated time, after which the drive ends undecided.  The policy is put behind the plan guard and
    reset first.  `on_tick` is called before each step.  slow: a reasoner that speaks to it at its own pace.  guarding:
    what is done to its plans before they are driven, by default nothing.  forecast: whether plans are to say where
    others will be; where they are braked for others they do in any case.
    """
    every = ticks_per_plan(plan_hz, simulation.step_s)
    guarding = guarding or GuardingParameters()
    planner = Planner(policy, limits=TickLimits(freeze_s=guarding.freeze_s))
    planner.guard.collision = CollisionLimits(guarding.collision_horizon_s, guarding.collision_existence)
    planner.reset()
    if slow is not None:
        slow.reset()
    controller = TrajectoryController()
    seen = RolloutStatistics()
    plan: Plan | None = None
    told: PresentIntent | None = None
    before: Plan | None = None
    tick = 0
    while not simulation.done and simulation.time_s < max_seconds:
        observation = None
        clock = _Clock()
        if tick % every == 0:
            observation = simulation.observe()
            clock.lap(seen.observe_ms)
            if slow is not None:
                for intent in slow.hear(observation):
                    planner.intents.put(intent)
                clock = _Clock()  # it would think in a process of its own
            answered = planner.answer(Observed(observation), forecast=forecast)
            plan, told = answered.plan, answered.intent
            assert plan is not None  # an observation has odometry, and the world waits
            clock.lap(seen.plan_ms)
            seen.note(plan, before)
            before = plan
        assert plan is not None  # the first tick plans
        command = controller.command(plan, simulation.ego, simulation.time_s)
        if on_tick is not None:
            on_tick(Tick(simulation.time_s, plan, command, observation, told))
        clock.lap(seen.control_ms)
        simulation.step(command)
        clock.lap(seen.step_ms)
        tick += 1
    if slow is not None:
        seen.said, seen.silent, seen.dropped = slow.said, slow.silent, planner.intents.dropped
    return simulation.result(), seen


class _Clock:
    """A stopwatch that starts anew at every lap."""

    def __init__(self) -> None:
        self._since_s = time.perf_counter()

    def lap(self, times_ms: list[float]) -> None:
        """Append the time since the last lap."""
        now_s = time.perf_counter()
        times_ms.append(1e3 * (now_s - self._since_s))
        self._since_s = now_s
