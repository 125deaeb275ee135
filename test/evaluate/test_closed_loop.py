# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Closed-loop evaluation on the real simulator: same figures however it is run, and honest arithmetic."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from vla_driver.commands.evaluate.closed_loop import _not_the_policys
from vla_driver.evaluate.closed_loop import compare, engine_of, run_scenarios, summarise, throughput
from vla_driver.sim.rollout import step_for, ticks_per_plan
from vla_driver.sim.world.scenario import Scenario, scenarios
from vla_driver.types import EngineReport, InvalidInput

WALL_CLOCK = ('plan_ms', 'stages_ms', 'start_s', 'wall_s')


def row(seed: int, **changes: Any) -> dict[str, Any]:
    base = {
        'town': 'a',
        'seed': seed,
        'success': True,
        'route_completion': 1.0,
        'driving_score': 100.0,
        'distance_m': 500.0,
        'collisions': {},
        'off_road_events': 0,
        'red_lights': 0,
        'timed_out': False,
        'comfort': 0.9,
        'plans': {'policy': 10},
    }
    return {**base, **changes}


@pytest.fixture(scope='module')
def expert_rows() -> list[dict[str, Any]]:
    return run_scenarios(scenarios('val', 2), 'expert', jobs=2)


def test_the_expert_drives_and_figures_do_not_depend_on_the_number_of_jobs(expert_rows: list[dict[str, Any]]) -> None:
    alone = run_scenarios(scenarios('val', 2), 'expert', jobs=1)
    for ours, theirs in zip(expert_rows, alone, strict=True):
        assert {k: v for k, v in ours.items() if k not in WALL_CLOCK} == {
            k: v for k, v in theirs.items() if k not in WALL_CLOCK
        }
    assert [r['index'] for r in expert_rows] == [0, 1]
    assert all(r['distance_m'] > 100.0 for r in expert_rows)
    assert all(r['plans'].get('policy', 0) > 50 for r in expert_rows)


def test_the_expert_drives_better_than_constant_velocity(expert_rows: list[dict[str, Any]]) -> None:
    control = run_scenarios(scenarios('val', 2), 'constant-velocity', jobs=2)
    difference = compare({'policy': 'e', 'rows': expert_rows}, {'policy': 'c', 'rows': control})
    assert difference['routes'] == 2
    assert difference['route_completion'] > 0.2


def test_a_worker_that_drove_another_route_before_drives_the_next_one_the_same() -> None:
    """One process drives both routes with one model; alone, the second gives the same figures."""
    both = [Scenario('val_rand', seed, length_m=60.0) for seed in (2_000_003, 2_000_004)]
    rows = run_scenarios(both, 'model', jobs=1, plan_hz=1.0, engine='onnx')
    alone = run_scenarios(both[1:], 'model', jobs=1, plan_hz=1.0, engine='onnx')
    skipped = (*WALL_CLOCK, 'index')
    assert {k: v for k, v in rows[1].items() if k not in skipped} == {
        k: v for k, v in alone[0].items() if k not in skipped
    }
    assert rows[1]['ticks'] == round(rows[1]['duration_s'] / 0.1)
    report = engine_of(rows)
    assert (report.engine, report.threads) == ('onnx', 1)
    assert report.provider and report.precision


def test_engines_that_differ_among_workers_are_all_named() -> None:
    reports = [
        EngineReport('onnx', 'OpenVINO', 'bfloat16', 1),
        EngineReport('torch', 'torch-cpu', 'bfloat16', 1, 'why'),
    ]
    rows = [{'engine': asdict(report)} for report in reports]
    assert engine_of(rows) == EngineReport('onnx / torch', 'OpenVINO / torch-cpu', 'bfloat16', 1, 'why')


def test_throughput_counts_simulated_ticks_and_names_where_the_time_went(expert_rows: list[dict[str, Any]]) -> None:
    speed = throughput(expert_rows, 10.0)
    assert speed['ticks'] == sum(r['ticks'] for r in expert_rows)
    assert speed['ticks_per_s'] == speed['ticks'] / 10.0
    assert list(speed['stages_ms']) == ['observe', 'plan', 'control', 'step']
    assert all(median > 0 for median in speed['stages_ms'].values())


def test_summary_of_known_rows() -> None:
    rows = [row(0), row(1, success=False, collisions={'vehicle': 2}, driving_score=30.0, red_lights=1)]
    rows += [row(2, success=False, off_road_events=3, distance_m=250.0), row(3)]
    summary = summarise(rows)
    assert summary['success_rate'] == 0.5
    assert summary['driving_score'] == pytest.approx(82.5)
    assert summary['collisions_per_km'] == pytest.approx(2 / 1.75)
    assert summary['collisions'] == {'vehicle': 2}
    assert summary['off_road_rate'] == summary['red_light_rate'] == 0.25
    assert summary['plans'] == {'policy': 40}
    for key in ('success_rate', 'driving_score', 'collisions_per_km', 'comfort'):
        low, high = summary[f'{key}_ci']
        assert low <= summary[key] <= high


def test_pairing_takes_the_difference_route_by_route() -> None:
    """Both vary from route to route by far more than they differ: only pairs show the difference."""
    better = [row(k, driving_score=10.0 * k + 5.0) for k in range(10)]
    worse = [row(k, driving_score=10.0 * k) for k in reversed(range(10))]
    answer = compare({'policy': 'b', 'rows': better}, {'policy': 'w', 'rows': worse})
    assert answer['driving_score'] == pytest.approx(5.0)
    assert answer['driving_score_ci'] == [pytest.approx(5.0), pytest.approx(5.0)]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidInput, match='different routes'):
        compare({'rows': [row(0)]}, {'rows': [row(1)]})
    with pytest.raises(InvalidInput, match='no rows'):
        compare({'policy': 'x'}, {'rows': [row(1)]})


@pytest.mark.parametrize(('rate', 'ticks'), [(10.0, 1), (5.0, 2), (2.0, 5), (1.0, 10)])
def test_plan_rates_that_divide_the_control_rate(rate: float, ticks: int) -> None:
    assert ticks_per_plan(rate) == ticks


def test_for_twenty_plans_a_second_the_world_steps_as_often() -> None:
    assert [step_for(rate) for rate in (20.0, 10.0, 5.0)] == [0.05, 0.1, 0.1]
    assert ticks_per_plan(20.0, step_for(20.0)) == 1
    for rate in (0.0, -5.0, 3.0, 40.0):
        with pytest.raises(InvalidInput, match='expected 20, 10, 5, 2 or 1'):
            step_for(rate)


@pytest.mark.parametrize('rate', [0.0, -5.0, 3.0, 20.0])
def test_other_plan_rates_are_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match='10, 5, 2 or 1'):
        ticks_per_plan(rate)


def test_bad_requests_are_refused_before_anything_is_driven() -> None:
    chosen = scenarios('val', 1)
    with pytest.raises(InvalidInput, match='unknown, expected one of: model, expert'):
        run_scenarios(chosen, 'random')
    with pytest.raises(InvalidInput, match='loads no checkpoint'):
        run_scenarios(chosen, 'expert', model='models/nano')
    with pytest.raises(InvalidInput, match='jobs is 0'):
        run_scenarios(chosen, 'expert', jobs=0)
    with pytest.raises(InvalidInput, match='no scenarios'):
        run_scenarios([], 'expert')


def test_plans_that_were_not_the_policys_are_told() -> None:
    """A server that refuses every session leaves the guard to drive: its figures are not that server's."""
    assert _not_the_policys({'policy': 90}, [{'refusals': {}}]) == ''
    rows = [{'refusals': {'egodriver: FAILED_PRECONDITION': 30}}, {'refusals': {'late images': 2}}, {}]
    told = _not_the_policys({'policy': 60, 'stop': 30, 'shifted_previous': 2}, rows)
    assert told == (
        "32 of 92 plans were not the policy's: 2 shifted_previous, 30 stop; because of "
        '30 "egodriver: FAILED_PRECONDITION ...", 2 "late images ..."'
    )
    assert _not_the_policys({'policy': 1, 'stop': 1}, [{}]) == "1 of 2 plans were not the policy's: 1 stop"
