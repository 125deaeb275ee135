# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How long one tick takes, pruned and not: the same pictures through one model, variants in turn, in one run.

Times of separate runs differ by more than pruning saves (clocks, neighbours), so every round runs each variant once,
beginning with another one each time, and the difference is taken within the round.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from vla_driver.bag.recording import spread
from vla_driver.evaluate.statistics import mean_ci
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.native import NativePolicy
from vla_driver.policies.pruning_settings import PruningSettings, load_pruner
from vla_driver.types import InvalidInput, Observation

#: Between two ticks of one variant by the observation's clock: the memory is as full as on the road.
_TICK_S: Final = 0.1
_WARM_UP_ROUNDS: Final = 12


def tick_times(
    model: VlaModel,
    observation: Observation,
    variants: Sequence[PruningSettings],
    checkpoint: str,
    rounds: int,
    on_round: Callable[[], object] | None = None,
) -> list[dict[str, Any]]:
    """Return a row for each variant; the first one is what the others are compared with.

    tick_ms, stages_ms: p50, p90, p99, max; faster_ms: how much less a tick takes than the first variant's of the same
    round, mean with its 95 % interval; speedup: of the medians; tokens: that the language model reads.
    Raises InvalidInput for a variant that the model cannot run.
    """
    if rounds < 2:
        raise InvalidInput(f'{rounds} rounds, expected at least 2')
    # One policy each, around the same weights: what a policy keeps from tick to tick (memory, rays) is then as full as
    # on the road, where the pruner does not change at every tick.
    policies = []
    for variant in variants:
        policy = NativePolicy(model, model.device)
        if variant.active:
            policy.set_pruning(load_pruner(variant.pruner, checkpoint), variant.budget())
        policies.append(policy)
    ticks = np.zeros((rounds, len(variants)))
    stages: list[dict[str, list[float]]] = [{} for _ in variants]
    tokens: list[int | None] = [None] * len(variants)
    for number in range(-_WARM_UP_ROUNDS, rounds):
        stamp_s = observation.stamp_s + _TICK_S * (number + _WARM_UP_ROUNDS)
        ego = dataclasses.replace(observation.ego, stamp_s=stamp_s)
        seen = dataclasses.replace(observation, stamp_s=stamp_s, ego=ego)
        for place in range(len(variants)):
            index = (place + number) % len(variants)
            began = time.perf_counter()
            plan = policies[index].plan(seen)
            took_ms = 1e3 * (time.perf_counter() - began)
            if number < 0:
                continue
            ticks[number, index] = took_ms
            for stage, ms in plan.timing_ms.items():
                stages[index].setdefault(stage, []).append(ms)
            selection = policies[index].last_selection
            tokens[index] = None if selection is None else selection.kept
        if number >= 0 and on_round is not None:
            on_round()
    rows = []
    for index, variant in enumerate(variants):
        faster = ticks[:, 0] - ticks[:, index]
        rows.append(
            {
                'pruner': variant.pruner,
                'ratio': variant.ratio if variant.active else 0.0,
                'tokens': tokens[index],
                'tick_ms': spread(list(ticks[:, index])),
                'stages_ms': {stage: spread(values) for stage, values in stages[index].items()},
                'faster_ms': float(faster.mean()),
                'faster_ms_ci': list(mean_ci(faster)),
                'speedup': float(np.median(ticks[:, 0]) / np.median(ticks[:, index])),
            }
        )
    return rows
