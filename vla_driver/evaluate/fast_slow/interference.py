# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How much the slow half slows the fast one: ticks beside a slow half that thinks, and beside one that waits, in turns.

Blocks of ticks with and without it alternate within one run, so that whatever else the machine does falls on both.
The fast half ticks at its rate, as it does behind cameras; it is told an intent in both kinds of blocks.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vla_driver.evaluate.fast_slow.slow_process import SlowProcess
from vla_driver.statistics import LEAST_UNITS
from vla_driver.types import Intent, Observation, Policy

#: How long a slow half that has just begun is left alone before ticks count.
_SETTLE_S: Final = 0.2


@dataclass(frozen=True)
class Rounds:
    """blocks: pairs of blocks, with and without the slow half; ticks: in each; tick_hz: of the fast half."""

    blocks: int = 10
    ticks: int = 40
    tick_hz: float = 10.0


def interference(
    policy: Policy,
    observation: Observation,
    slow: SlowProcess,
    rounds: Rounds,
    on_block: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Return p50, p99 of the fast tick (ms) with and without the slow half, and with over without.

    *_ci: 95 % bootstrap intervals over the pairs of blocks, drawn whole; None of one pair.
    """
    ticker = _Ticker(policy, observation, slow.intent, rounds)
    ticker.block()  # warm
    pairs: list[tuple[list[float], list[float]]] = []
    for number in range(rounds.blocks):
        timed: dict[bool, list[float]] = {}
        # Which comes first changes, so that a machine that grows slower favours neither.
        for thinking in (True, False) if number % 2 == 0 else (False, True):
            if thinking:
                slow.think()
                time.sleep(_SETTLE_S)
            timed[thinking] = ticker.block()
            if thinking:
                slow.wait()
        pairs.append((timed[True], timed[False]))
        if on_block is not None:
            on_block()
    return {
        'ticks': rounds.blocks * rounds.ticks,
        'tick_hz': rounds.tick_hz,
        **_figures(pairs),
        'thoughts': len(slow.thoughts_ms),
        'thought_ms': float(np.median(slow.thoughts_ms)) if slow.thoughts_ms else None,
        'niceness': slow.niceness,
    }


def _figures(pairs: Sequence[tuple[list[float], list[float]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    thinking, alone = (np.array(each) for each in zip(*pairs, strict=True))  # [blocks, ticks]
    rng = np.random.default_rng(20_26)
    draws = rng.integers(0, len(thinking), size=(2000, len(thinking)))
    for share in (50, 99):
        ours, theirs = np.percentile(thinking, share), np.percentile(alone, share)
        found[f'tick_p{share}_ms'], found[f'tick_p{share}_alone_ms'] = float(ours), float(theirs)
        found[f'tick_p{share}_ratio'] = float(ours / theirs)
        drawn = [np.percentile(thinking[draw], share) / np.percentile(alone[draw], share) for draw in draws]
        bounds = [float(bound) for bound in np.percentile(drawn, [2.5, 97.5])]
        found[f'tick_p{share}_ratio_ci'] = bounds if len(pairs) >= LEAST_UNITS else None
    return found


class _Ticker:
    """The fast half, tick by tick at its rate."""

    def __init__(self, policy: Policy, observation: Observation, intent: Intent | None, rounds: Rounds) -> None:
        self._policy, self._observation, self._rounds = policy, observation, rounds
        self._intent = intent if policy.needs.intents else None
        self._number = 0

    def block(self) -> list[float]:
        """Make a block of ticks; return how long each took, in ms."""
        period_s, took_ms = 1.0 / self._rounds.tick_hz, []
        for _ in range(self._rounds.ticks):
            began_s = time.perf_counter()
            self._tick(period_s)
            took_s = time.perf_counter() - began_s
            took_ms.append(1e3 * took_s)
            time.sleep(max(0.0, period_s - took_s))
        return took_ms

    def _tick(self, period_s: float) -> None:
        self._number += 1
        stamp_s = self._observation.stamp_s + period_s * self._number
        ego = dataclasses.replace(self._observation.ego, stamp_s=stamp_s)
        intent = None if self._intent is None else dataclasses.replace(self._intent, stamp_s=stamp_s - 0.5)
        self._policy.plan(dataclasses.replace(self._observation, stamp_s=stamp_s, ego=ego), intent)
