# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A slow half in simulated time: when it looks, when it is heard, how it fails; and the expert as one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from vla_driver.geometry.rig import load_rig
from vla_driver.sim.expert_reasoner import ExpertReasoner, showing
from vla_driver.sim.rollout import drive_route
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.slow_half import NonsenseReasoner, Pace, SlowHalf
from vla_driver.sim.world.scenario import Scenario
from vla_driver.types import (
    NO_PICTURES,
    HazardKind,
    InputNeeds,
    Intent,
    InvalidInput,
    MalformedAnswer,
    MetaAction,
    Observation,
    Plan,
    Reasoner,
)

Observe = Callable[..., Observation]


class Counting:
    """Says what time it is; every third time, something that is no intent."""

    name, needs = 'counting', NO_PICTURES

    def __init__(self, stutters: bool = False) -> None:
        self.looks: list[float] = []
        self.stutters = stutters

    def reset(self) -> None:
        self.looks = []

    def reason(self, observation: Observation) -> Intent:
        self.looks.append(observation.stamp_s)
        if self.stutters and len(self.looks) % 3 == 0:
            raise MalformedAnswer('empty', 'the model wrote nothing')
        return Intent(observation.stamp_s, MetaAction.KEEP, 2.0, text=f'{observation.stamp_s:.1f}')


def heard_at(slow: SlowHalf, observation_at: Observe, plan_hz: float, seconds: float) -> dict[float, list[float]]:
    """Return when something was heard -> the stamps of the pictures that it was said of."""
    heard = {}
    for tick in range(round(seconds * plan_hz) + 1):
        now = slow.hear(observation_at(tick / plan_hz))
        if now:
            heard[round(tick / plan_hz, 3)] = [round(intent.stamp_s, 3) for intent in now]
    return heard


def test_it_looks_at_its_rate_and_is_heard_later(observation_at: Observe) -> None:
    counting = Counting()
    assert isinstance(counting, Reasoner)
    slow = SlowHalf(counting, Pace(rate_hz=2.0, latency_s=0.3))
    assert heard_at(slow, observation_at, 10.0, 2.0) == {0.3: [0.0], 0.8: [0.5], 1.3: [1.0], 1.8: [1.5]}
    assert slow.said == {'keep': 5}
    # Another rate of plans: it looks at those pictures that there are, as often on average.
    slow.reset()
    assert heard_at(slow, observation_at, 5.0, 4.0) == {
        0.4: [0.0], 1.0: [0.6], 1.4: [1.0], 2.0: [1.6], 2.4: [2.0], 3.0: [2.6], 3.4: [3.0], 4.0: [3.6],
    }  # fmt: skip
    # One that is later than its own pace is heard of all it looked at, all of it late.
    late = SlowHalf(Counting(), Pace(rate_hz=1.0, latency_s=5.0))
    assert heard_at(late, observation_at, 10.0, 7.0) == {5.0: [0.0], 6.0: [1.0], 7.0: [2.0]}


def test_it_dies_and_says_nothing_more(observation_at: Observe) -> None:
    slow = SlowHalf(Counting(), Pace(rate_hz=2.0, latency_s=0.3, stops_s=1.2))
    assert heard_at(slow, observation_at, 10.0, 4.0) == {0.3: [0.0], 0.8: [0.5]}  # in the middle of its third thought
    assert slow.reasoner.looks == pytest.approx([0.0, 0.5, 1.0])  # type: ignore[attr-defined]


def test_what_is_no_intent_is_silence(observation_at: Observe) -> None:
    slow = SlowHalf(Counting(stutters=True), Pace(rate_hz=2.0, latency_s=0.0))
    heard_at(slow, observation_at, 10.0, 2.9)
    assert (sum(slow.said.values()), sum(slow.silent.values())) == (4, 2)


def test_a_pace_that_is_none_is_refused() -> None:
    for values, message in (({'rate_hz': 0.0}, 'rate_hz is 0.0'), ({'latency_s': -1.0}, 'latency_s is -1.0')):
        with pytest.raises(InvalidInput, match=message):
            Pace(**values)


def test_nonsense_is_the_same_each_time_and_of_every_kind(observation_at: Observe) -> None:
    nonsense = NonsenseReasoner(3)
    first = [nonsense.reason(observation_at(0.1 * k)) for k in range(80)]
    nonsense.reset()
    again = [nonsense.reason(observation_at(0.1 * k)) for k in range(80)]
    assert [vars(one)['meta_action'] for one in first] == [vars(one)['meta_action'] for one in again]
    assert {one.meta_action for one in first} == set(MetaAction)
    assert {one.hazard for one in first} == set(HazardKind)
    assert all((one.hazard is HazardKind.NONE) == math.isnan(one.hazard_m) for one in first)
    assert first[5].stamp_s == 0.5 and first[5].pose is not None


def test_cameras_show_what_is_before_them() -> None:
    rig = load_rig('sim')
    assert showing(rig, (20.0, 0.0)) == 'front'
    assert showing(rig, (10.0, 14.0)) == 'front_left'
    assert showing(rig, (-15.0, 0.0)) == 'back'
    assert showing(rig, (0.1, 0.0)) in ('', *rig.names)


class Heeding:
    """Drives as the expert does, and remembers what it was told."""

    name = 'heeding'
    needs = InputNeeds(cameras=(), intents=True)

    def __init__(self, simulation: Simulation) -> None:
        self._expert = simulation.expert()
        self.engine = self._expert.engine
        self.told: list[tuple[float, Intent | None]] = []

    def reset(self) -> None:
        self.told = []

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        self.told.append((observation.stamp_s, intent))
        return self._expert.plan(observation)


def test_the_expert_speaks_of_what_it_does_beside_a_drive() -> None:
    """In traffic, without pictures: plans that do what it says agree with it, and what is told is fresh."""
    with Simulation(Scenario('train_blocks', 5, density_per_km=14.0, people_per_km=15.0), render=False) as simulation:
        policy = Heeding(simulation)
        slow = SlowHalf(ExpertReasoner(simulation.world_state), Pace(2.0, 0.3))
        _, seen = drive_route(simulation, policy, plan_hz=5.0, max_seconds=20.0, slow=slow)
    told = [(stamp_s, intent) for stamp_s, intent in policy.told if intent is not None]
    assert seen.told == len(told) > 0.9 * len(policy.told)
    ages = [stamp_s - intent.stamp_s for stamp_s, intent in told]
    assert min(ages) >= 0.3 - 1e-6 and max(ages) <= 1.2
    words = seen.words()
    assert words['told'] == len(told) and words['agreement'] > 0.75
    assert words['intent_age_s'] == pytest.approx(np.mean(ages))
    assert sum(words['said'].values()) == pytest.approx(40, abs=1)
    hazards = {intent.hazard for _, intent in told}
    assert len(hazards - {HazardKind.NONE}) >= 1
    for _, intent in told:
        assert (intent.hazard is HazardKind.NONE) == math.isnan(intent.hazard_m)
        assert intent.pose is not None and intent.target_speed_mps >= 0.0
