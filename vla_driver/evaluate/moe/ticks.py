# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How long ticks of the trained models take, in torch and as graphs."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from vla_driver.evaluate.moe.rounds import WARM_UP, ratio, turned
from vla_driver.evaluate.moe.run import DENSE, EXPERTS, MoeRun, Trained
from vla_driver.policies.loading import load_policy
from vla_driver.types import FloatArray, Observation, Policy


def tick_times(
    policies: Mapping[str, Policy], observations: Sequence[Observation], rounds: int
) -> dict[str, dict[str, FloatArray]]:
    """Return, for each policy, the milliseconds of whole ticks ('tick') and of the language model alone ('prefill').

    All see the same observations, and take turns.  Only torch says what the language model takes.
    """
    times: dict[str, dict[str, list[float]]] = {name: {'tick': [], 'prefill': []} for name in policies}
    for number, observation in zip(range(WARM_UP + rounds), itertools.cycle(observations), strict=False):
        for name in turned(policies, number):
            if number % len(observations) == 0:
                policies[name].reset()
            timing = policies[name].plan(observation).timing_ms
            times[name]['tick'].append(sum(timing.values()))
            times[name]['prefill'].append(timing.get('prefix', float('nan')))
    return {name: {part: np.array(values[WARM_UP:]) for part, values in parts.items()} for name, parts in times.items()}


def tick_report(
    run: MoeRun, trained: Mapping[str, Trained], observations: Sequence[Observation], tell: Callable[[str], object]
) -> dict[str, Any]:
    """Time ticks in torch and in the engine asked for; tick_ratio is of the latter, where it drives at all."""
    for name in (DENSE, EXPERTS):
        shutil.rmtree(run.work / name, ignore_errors=True)
        trained[name].model.save_pretrained(run.work / name)
    report: dict[str, Any] = {}
    for engine in dict.fromkeys(('torch', run.engine)):
        policies: dict[str, Policy] = {
            name: load_policy(run.work / name, engine=engine, threads=torch.get_num_threads())
            for name in (DENSE, EXPERTS)
        }
        ran = {name: policy.engine for name, policy in policies.items()}
        for name, one in ran.items():
            if one.engine != engine:
                tell(f'{name}: {one.engine} drives in the place of {engine}: {one.note}')
        if len({one.engine for one in ran.values()}) > 1:
            continue  # a ratio of two engines says nothing of experts
        times = tick_times(policies, observations, run.tick_rounds)
        suffix = '_torch' if engine == 'torch' else ''
        report |= ratio(f'tick_ratio{suffix}', times[EXPERTS]['tick'] / times[DENSE]['tick'])
        report[f'tick_ms{suffix}'] = {name: float(np.median(parts['tick'])) for name, parts in times.items()}
        if engine == 'torch':
            report |= ratio('prefill_ratio', times[EXPERTS]['prefill'] / times[DENSE]['prefill'])
            report['prefill_ms'] = {name: float(np.median(parts['prefill'])) for name, parts in times.items()}
        report[f'tick_engine{suffix}'] = dataclasses.asdict(ran[DENSE])
    torchs = {name.replace('_torch', ''): value for name, value in report.items() if '_torch' in name}
    return torchs | report
