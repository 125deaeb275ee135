# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The slow half beside a simulated drive, at its own pace in simulated time.

A world that waits for its driver would wait for a slow thinker, too, and nothing would be late.  So the slow half looks
at a set rate, and what it says is heard after a set delay: the same drive on every machine.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_driver.types import (
    CAMERA_NAMES,
    HazardKind,
    InputNeeds,
    Intent,
    InvalidInput,
    MetaAction,
    Observation,
    Reasoner,
    VlaDriverError,
)

_ACTIONS: Final = tuple(MetaAction)
_HAZARDS: Final = tuple(HazardKind)


@dataclass(frozen=True)
class Pace:
    """rate_hz: how often it looks; latency_s: how much later it is heard; stops_s: when it dies."""

    rate_hz: float = 2.0
    latency_s: float = 0.3
    stops_s: float = math.inf

    def __post_init__(self) -> None:
        for name in ('rate_hz', 'stops_s'):
            if not getattr(self, name) > 0:
                raise InvalidInput(f'slow half: {name} is {getattr(self, name)}, expected a positive number')
        if not (self.latency_s >= 0 and math.isfinite(self.latency_s)):
            raise InvalidInput(f'slow half: latency_s is {self.latency_s}, expected 0 or more')


class SlowHalf:
    """A reasoner with a pace.  `said`: what it has said so far, by meta-action; `silent`: why it said nothing."""

    def __init__(self, reasoner: Reasoner, pace: Pace | None = None) -> None:
        self.reasoner, self.pace = reasoner, pace or Pace()
        self.said: Counter[str] = Counter()
        self.silent: Counter[str] = Counter()
        self._next_s = -math.inf
        self._under_way: deque[tuple[float, Intent]] = deque()

    def reset(self) -> None:
        """Begin another drive."""
        self.reasoner.reset()
        self.said, self.silent = Counter(), Counter()
        self._next_s = -math.inf
        self._under_way.clear()

    def hear(self, observation: Observation) -> list[Intent]:
        """Let it look at an observation, if its time has come; return what is heard of it by now, oldest first."""
        now_s, pace = observation.stamp_s, self.pace
        if now_s < pace.stops_s and now_s >= self._next_s - 1e-6:
            # On a fixed beat, whatever the rate of the observations is.
            beat_s = 1.0 / pace.rate_hz
            self._next_s = (
                now_s + beat_s if math.isinf(self._next_s) else max(self._next_s + beat_s, now_s + 0.5 * beat_s)
            )
            try:
                intent = self.reasoner.reason(observation)
            except VlaDriverError as error:  # a model that writes may write nonsense: then it has said nothing
                self.silent[str(error)] += 1
            else:
                self.said[intent.meta_action.value] += 1
                self._under_way.append((now_s + pace.latency_s, intent))
        heard = []
        while self._under_way and self._under_way[0][0] <= now_s + 1e-6:
            due_s, intent = self._under_way.popleft()
            if due_s < pace.stops_s:
                heard.append(intent)
        return heard


class NonsenseReasoner:
    """Says something at random, as confidently as any other: what a broken slow half costs.

    Of the pictures' time and place, so that nothing but its content is wrong.  The same seed, the same nonsense.
    """

    name = 'nonsense'

    def __init__(self, seed: int = 0, ttl_s: float = 2.0) -> None:
        self._seed, self._ttl_s = seed, ttl_s
        self._rng = np.random.default_rng(seed)

    @property
    def needs(self) -> InputNeeds:
        """It looks at nothing."""
        return InputNeeds(cameras=())

    def reset(self) -> None:
        """Begin the same nonsense again."""
        self._rng = np.random.default_rng(self._seed)

    def reason(self, observation: Observation) -> Intent:
        """Return an intent drawn at random."""
        rng = self._rng
        hazard = _HAZARDS[rng.integers(len(_HAZARDS))]
        return Intent(
            observation.stamp_s,
            _ACTIONS[rng.integers(len(_ACTIONS))],
            self._ttl_s,
            observation.ego.pose,
            float(rng.uniform(0.0, 10.0)),
            hazard,
            CAMERA_NAMES[rng.integers(len(CAMERA_NAMES))] if hazard is not HazardKind.NONE else '',
            float(rng.uniform(2.0, 50.0)) if hazard is not HazardKind.NONE else math.nan,
            float(rng.uniform(0.5, 1.0)),
            'nonsense',
        )
