# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Fast, slow and broken halves in closed loop, and what the slow one costs the fast one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_driver.evaluate.closed_loop import Job
from vla_driver.evaluate.cost.worker_process import write_observation
from vla_driver.evaluate.fast_slow.arms import EXPERT, SlowArm, arms
from vla_driver.evaluate.fast_slow.driving import drive_arms, report
from vla_driver.evaluate.fast_slow.interference import Rounds, interference
from vla_driver.evaluate.fast_slow.slow_process import SlowJob, SlowProcess
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.native import NativePolicy
from vla_driver.sim.slow_half import Pace
from vla_driver.sim.world.scenario import Scenario
from vla_driver.types import Observation, VlaDriverError

Row = dict[str, Any]


def row(town: str, score: float, **changes: Any) -> Row:
    words = {'told': 5, 'agreement': 0.8, 'said': {'stop': 2}, 'silent': {}, 'dropped': {'too old': 1}}
    return {
        'town': town,
        'driving_score': score,
        'success': score == 100.0,
        'route_completion': 1.0,
        'red_lights': 0,
        'collisions': {},
        'plans': {'policy': 10},
        'words': words,
        **changes,
    }


def test_arms_differ_from_the_slow_half_in_one_thing_each() -> None:
    slow = SlowArm('somebody', Pace(3.0, 0.2), device='cpu')
    made = arms(slow, stops_s=15.0)
    assert list(made) == ['fast', 'fast_slow', 'stopped', 'late', 'nonsense']
    assert made['fast'] is None and made['fast_slow'] == slow
    assert made['stopped'] == SlowArm('somebody', Pace(3.0, 0.2, 15.0), device='cpu')
    assert made['late'] == SlowArm('somebody', Pace(3.0, 5.0), device='cpu')
    assert made['nonsense'] == SlowArm('nonsense', Pace(3.0, 0.2), device='cpu')


def test_differences_are_paired_and_hard_routes_have_their_own() -> None:
    alone = [row('test_web', 40.0), row('test_ladder', 100.0), row('test_web', 60.0), row('test_ladder', 80.0)]
    better = [row('test_web', 70.0), row('test_ladder', 100.0), row('test_web', 90.0), row('test_ladder', 80.0)]
    found = report({'fast': alone, 'fast_slow': better})
    assert found['fast']['driving_score'] == 70.0 and found['fast']['driving_score_difference'] == 0.0
    slow = found['fast_slow']
    assert (slow['driving_score'], slow['driving_score_difference']) == (85.0, 15.0)
    assert (slow['hard']['driving_score_difference'], slow['rest']['driving_score_difference']) == (30.0, 0.0)
    assert slow['hard']['driving_score_difference_ci'] == [30.0, 30.0]  # alike on every route
    assert slow['hard']['routes'] == 2 and slow['routes'] == 4
    low, high = slow['driving_score_difference_ci']
    assert low < 15.0 < high
    assert slow['told_share'] == 0.5 and slow['agreement'] == pytest.approx(0.8)
    assert slow['said'] == {'stop': 8} and slow['dropped'] == {'too old': 4}


def test_arms_are_driven_alike_wherever_they_run(tmp_path: Path, small_model: Callable[..., VlaModel]) -> None:
    """A blind random model, so that nothing is drawn: what is late costs nothing, what is dead is heard no more."""
    folder = tmp_path / 'blind'
    small_model(blind=True, intent=True).save_pretrained(folder)
    routes = [Scenario('val_rand', seed, 300.0) for seed in (4, 5)]
    seen: list[str] = []
    job = Job(0, None, 'blind', str(folder), 5.0, engine='torch', max_seconds=8.0)
    driven = drive_arms(routes, arms(SlowArm(EXPERT), stops_s=2.0), job, on_row=lambda arm, _: seen.append(arm))
    assert seen == [name for name in driven for _ in routes]
    found = report(driven, hard_towns=('val_rand',))
    assert 'rest' not in found['fast'] and found['fast']['hard']['routes'] == 2
    told = {name: figures['told_share'] for name, figures in found.items()}
    assert told['fast'] == told['late'] == 0.0
    # Who contradicts himself is heard at first, then believed less, and in the end no more.
    assert told['fast_slow'] > 0.7 and 0.1 < told['nonsense'] < told['fast_slow']
    assert 0.0 < told['stopped'] <= told['fast_slow']
    assert found['late']['dropped'] == {} or set(found['late']['dropped']) == {'too old'}
    for alone, late in zip(driven['fast'], driven['late'], strict=True):
        assert {key: alone[key] for key in ('driving_score', 'distance_m', 'plans')} == {
            key: late[key] for key in ('driving_score', 'distance_m', 'plans')
        }
    # The same again, in another order and number of processes.
    again = drive_arms(routes, {'nonsense': arms(SlowArm(EXPERT), 2.0)['nonsense']}, job, jobs=2)
    for first, second in zip(driven['nonsense'], again['nonsense'], strict=True):
        assert (first['distance_m'], first['words']) == (second['distance_m'], second['words'])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.clock  # beside others at work it would hardly get to think
def test_the_slow_half_thinks_beside_the_fast_one_and_gives_way(
    tmp_path: Path, small_model: Callable[..., VlaModel], observe: Callable[..., Observation]
) -> None:
    folder = tmp_path / 'both'
    small_model(intent=True, words_config={'grammar': 1}).save_pretrained(folder)
    observation, file = observe(0), tmp_path / 'seen.npz'
    write_observation(file, observation)
    policy = NativePolicy(small_model(intent=True))
    job = SlowJob(str(folder), None, 'cpu', str(file), rate_hz=20.0, nice=3, threads=1)
    with SlowProcess(job) as slow:
        assert slow.intent is not None and slow.intent.text
        found = interference(policy, observation, slow, Rounds(blocks=2, ticks=5, tick_hz=20.0))
    assert found['ticks'] == 10 and found['thoughts'] >= 2 and found['thought_ms'] > 0.0
    assert found['niceness'] >= 3
    for share in (50, 99):
        ratio = found[f'tick_p{share}_ms'] / found[f'tick_p{share}_alone_ms']
        assert found[f'tick_p{share}_ratio'] == pytest.approx(ratio)
        low, high = found[f'tick_p{share}_ratio_ci']
        assert low <= high


def test_a_slow_half_that_cannot_think_says_why(
    tmp_path: Path, observe: Callable[..., Observation], small_checkpoint: Path
) -> None:
    file = tmp_path / 'seen.npz'
    write_observation(file, observe(0))
    with (
        pytest.raises(VlaDriverError, match='has no words'),
        SlowProcess(SlowJob(str(small_checkpoint), None, 'cpu', str(file), rate_hz=2.0, nice=0, threads=1)),
    ):
        raise AssertionError('it must not start')
