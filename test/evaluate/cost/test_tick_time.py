# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The paired tick benchmark: every case a process, every case in every round, ratios to the right partner."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import vla_driver
from vla_driver.bag.read import BagReader
from vla_driver.cli import main
from vla_driver.evaluate.cost.tick_time import AGAINST, THIS, Bench, Case, cases_of, note_of, rows_of, tick_times
from vla_driver.evaluate.cost.tick_worker import read_observation
from vla_driver.evaluate.cost.worker_process import write_observation
from vla_driver.types import InvalidInput, Observation


@pytest.fixture(scope='module')
def seen(labelled_bag: Path) -> Observation:
    """Return a bag's first observation."""
    with BagReader(labelled_bag) as bag:
        return next(iter(bag.observations()))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout beside this one: its own copy of the code, and a Python that runs it."""
    ours = Path(vla_driver.__file__).parent
    folder = tmp_path / 'other'
    shutil.copytree(ours, folder / 'vla_driver', ignore=shutil.ignore_patterns('__pycache__', 'towns', 'nuscenes*'))
    python = folder / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n', encoding='utf-8')
    python.chmod(0o755)
    return folder


def test_every_case_ticks_in_a_process_of_its_own(
    small_checkpoint: Path, seen: Observation, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = cases_of(['torch'], ['float32'], [1], [('uniform', 0.5)], against=True)
    assert [(case.build, case.pruner) for case in cases] == [
        (AGAINST, 'none'),
        (THIS, 'none'),
        (AGAINST, 'uniform'),
        (THIS, 'uniform'),
    ]
    ticks: list[int] = []
    bench = Bench(str(small_checkpoint), seen, 3, 'cpu', checkout)
    # Too little memory for all at once: one group after the other.
    monkeypatch.setattr('vla_driver.evaluate.cost.tick_time._available_mb', lambda: 600.0)
    told: list[str] = []
    two = dataclasses.replace(cases[3], threads=2)
    rows = tick_times(bench, [cases[0], two], on_tick=lambda: ticks.append(1), tell=told.append)
    assert len(ticks) == 6 and told and 'measured in 2 parts' in told[0]
    assert [(row['build'], row['pruner'], row['tokens']) for row in rows] == [
        ('against', 'none', None),
        ('this', 'uniform', 9),
    ]
    plain, pruned = rows
    assert 'pruner' in pruned['stages_ms'] and 'pruner' not in plain['stages_ms']
    for row, threads in zip(rows, (1, 2), strict=True):
        assert (row['engine'], row['precision'], row['threads'], row['note']) == ('torch', 'float32', threads, '')
        assert 0.0 < row['median_ms'] <= row['p99_ms']
        assert sum(stage['p50'] for stage in row['stages_ms'].values()) < 2.0 * row['tick_ms']['max']
        assert 0.1 < row['start_to_first_plan_s'] < 300 and row['resident_mb'] > 50


def test_what_cannot_run_is_named(small_checkpoint: Path, seen: Observation, tmp_path: Path, checkout: Path) -> None:
    bench = Bench(str(small_checkpoint), seen, 1)
    one = Case(THIS, 'torch', 'auto', 1)
    with pytest.raises(InvalidInput, match='1 rounds'):
        tick_times(bench, [one])
    unknown = Case(THIS, 'torch', 'auto', 1, 'nonesuch', 0.5)
    with pytest.raises(InvalidInput, match=r'torch, auto, 1 threads, nonesuch 50%: pruner .*nonesuch'):
        tick_times(Bench(bench.model, seen, 2), [unknown])
    with pytest.raises(InvalidInput, match='make setup'):
        tick_times(Bench(bench.model, seen, 2, against=tmp_path), [one])
    other = Case(AGAINST, 'torch', 'auto', 1)
    python = checkout / '.venv' / 'bin' / 'python'
    python.write_text('#!/bin/sh\necho no module named torch >&2\nexit 3\n', encoding='utf-8')
    with pytest.raises(InvalidInput, match=r'does not start: .*status 3; its last words:\nno module named torch'):
        tick_times(Bench(bench.model, seen, 2, against=checkout), [other])
    # A Python that finds this build's package would compare it with itself.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding='utf-8')
    with pytest.raises(InvalidInput, match='its Python runs the package in'):
        tick_times(Bench(bench.model, seen, 2, against=checkout), [other])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"engine 'tensor': unknown, expected one of: torch, onnx"):
        cases_of(['tensor'], ['auto'], [0], [], against=False)
    with pytest.raises(InvalidInput, match="precision 'int8'"):
        cases_of(['onnx'], ['int8'], [0], [], against=False)


def test_ratios_are_paired_with_the_right_partner() -> None:
    cases = cases_of(['onnx'], ['float32'], [2], [('recon', 0.75)], against=True)
    report = {'engine': 'torch', 'provider': 'torch-cpu', 'precision': 'float32', 'threads': 2, 'note': ''}
    report |= {'start_to_first_plan_s': 1.0, 'resident_mb': 1.0}
    reports = [{**report, 'engine': case.engine} for case in cases]
    # The machine's speed changes from round to round; ratios do not see it.
    speeds = {(AGAINST, 'torch'): 60.0, (THIS, 'torch'): 50.0, (THIS, 'onnx'): 20.0}
    own = np.array([speeds[case.build, case.engine] * (0.5 if case.prune_ratio else 1.0) for case in cases])
    ticks = own * np.array([[1.0], [3.0], [0.7], [10.0]])
    answers = [[{'ms': 0.0, 'stages_ms': {}, 'tokens': 7}]] * len(cases)
    rows = {(row['build'], row['engine'], row['pruner']): row for row in rows_of(cases, reports, ticks, answers)}
    for pruner in ('none', 'recon'):
        row = rows[THIS, 'onnx', pruner]
        assert row['ratio_to_torch'] == pytest.approx(2.5) and row['ratio_to_build'] == pytest.approx(3.0)
        assert row['ratio_to_torch_ci'] == pytest.approx([2.5, 2.5])
        assert rows[THIS, 'torch', pruner]['ratio_to_build'] == pytest.approx(1.2)
        assert rows[THIS, 'torch', pruner]['ratio_to_torch'] is None
        assert rows[AGAINST, 'torch', pruner]['ratio_to_torch'] is None
    assert rows[THIS, 'onnx', 'recon']['ratio_to_unpruned'] == pytest.approx(2.0)
    assert rows[THIS, 'onnx', 'none']['ratio_to_unpruned'] is None
    assert rows[THIS, 'onnx', 'none']['median_ms'] == pytest.approx(40.0)


def test_a_row_says_what_ran_in_place_of_what_was_asked() -> None:
    case = Case(THIS, 'onnx', 'bfloat16', 2)
    ran = {'engine': 'onnx', 'precision': 'bfloat16', 'threads': 2, 'note': ''}
    assert note_of(case, ran) == ''
    instead = {**ran, 'engine': 'torch', 'precision': 'float32', 'note': 'no graph for this checkpoint'}
    assert note_of(case, instead) == 'torch ran, not onnx; float32, not bfloat16; no graph for this checkpoint'
    assert note_of(Case(THIS, 'onnx', 'auto', 0), ran) == ''


def test_an_observation_comes_back_as_it_was_written(seen: Observation, tmp_path: Path) -> None:
    frames = {name: frame for name, frame in seen.frames.items() if name != 'back'}
    without = dataclasses.replace(seen, frames=frames, missing=('back',))
    write_observation(tmp_path / 'seen.npz', without)
    again = read_observation(str(tmp_path / 'seen.npz'))
    assert (again.stamp_s, again.ego, again.missing) == (without.stamp_s, without.ego, ('back',))
    assert again.navigation.command == without.navigation.command
    assert again.rig.names == without.rig.names and set(again.frames) == set(frames)
    np.testing.assert_array_equal(again.navigation.target_points_m, without.navigation.target_points_m)
    for name, frame in frames.items():
        np.testing.assert_array_equal(again.frames[name].image, frame.image)
        np.testing.assert_array_equal(again.rig[name].base_from_camera, without.rig[name].base_from_camera)


def test_the_shipped_graphs_beside_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['--engines', 'onnx', '--threads', '1', '--precisions', 'float32', '--rounds', '2']
    assert main(['evaluate', 'tick-time', *words, '--json', str(tmp_path / 'tick.json')]) == 0
    torch, onnx = json.loads((tmp_path / 'tick.json').read_text())['rows']
    assert (torch['engine'], torch['provider'], onnx['engine']) == ('torch', 'torch-cpu', 'onnx')
    assert onnx['provider'] and onnx['precision'] == 'float32' and onnx['threads'] == 1
    assert onnx['ratio_to_torch'] > 0 and len(onnx['ratio_to_torch_ci']) == 2
    assert 'to torch: against torch with the same precision' in capsys.readouterr().out
    assert main(['evaluate', 'tick-time', '--threads', '-1']) == 2


def test_another_model_has_its_ticks_in_the_same_rounds(small_checkpoint: Path, seen: Observation) -> None:
    cases = cases_of(['torch'], ['float32'], [1], [], against=False, other=True)
    assert [case.other for case in cases] == [False, True]
    missing = Bench(str(small_checkpoint), seen, 3, other_model=str(small_checkpoint / 'nowhere'))
    with pytest.raises(InvalidInput, match=r'the other model, torch, float32, 1 threads: .*nowhere'):
        tick_times(missing, cases)
    ours, theirs = tick_times(dataclasses.replace(missing, other_model=str(small_checkpoint)), cases)
    assert (ours['other_model'], theirs['other_model']) == (False, True)
    assert ours['ratio_to_other'] > 0 and theirs['ratio_to_other'] is None
    assert ours['ratio_to_torch'] is None


def test_ratios_to_another_model_are_of_the_same_engine_and_pruner() -> None:
    cases = cases_of(['onnx'], ['float32'], [2], [('recon', 0.75)], against=True, other=True)
    assert not any(case.other for case in cases if case.build == AGAINST)
    report = {'engine': 'torch', 'provider': 'torch-cpu', 'precision': 'float32', 'threads': 2, 'note': ''}
    reports = [{**report, 'engine': case.engine, 'start_to_first_plan_s': 1.0, 'resident_mb': 1.0} for case in cases]
    own = np.array([(20.0 if case.engine == 'onnx' else 50.0) * (0.8 if case.other else 1.0) for case in cases])
    answers = [[{'ms': 0.0, 'stages_ms': {}, 'tokens': None}]] * len(cases)
    rows = rows_of(cases, reports, own * np.array([[1.0], [3.0], [0.7]]), answers)
    for case, row in zip(cases, rows, strict=True):
        if case.build == THIS and not case.other:
            assert row['ratio_to_other'] == pytest.approx(0.8)
        else:
            assert row['ratio_to_other'] is None
        if case.build == THIS and case.engine == 'onnx':
            assert row['ratio_to_torch'] == pytest.approx(2.5)  # each to the torch of its own model
