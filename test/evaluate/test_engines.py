# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plans of engines are compared drive by drive, with lost cameras and pruners, against limits that can be broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_driver.bag.read import BagReader
from vla_driver.cli import main
from vla_driver.evaluate.engines import (
    IN_TURN,
    NONE_LOST,
    PRUNERS,
    REFERENCE,
    Drive,
    Driven,
    Job,
    compare,
    drive_all,
    drives_of,
    losing,
    rows_of,
    run_jobs,
)
from vla_driver.types import CAMERA_NAMES, InvalidInput


def driven(
    offset_m: float = 0.0,
    kept: tuple[str, ...] = (),
    engine: str = 'onnx',
    refused: str = '',
    precision: str = 'float32',
) -> Driven:
    """Return a drive of three ticks of two positions, the second of the last one `offset_m` to the left."""
    positions = np.zeros((3, 2, 2))
    positions[2, 1, 1] = offset_m
    report = {'engine': engine, 'provider': '', 'precision': precision, 'threads': 1, 'note': ''}
    choices = tuple(np.array([letter == '1' for letter in one]) for one in kept)
    return Driven(report, positions, choices, refused)


def results(own: Driven, reference: Driven | None = None, precision: str = 'float32') -> dict[Any, list[Driven]]:
    """Return the results of one drive in one precision."""
    torch = reference or driven(engine='torch')
    return {REFERENCE: [torch], ('torch', precision): [torch], ('onnx', precision): [own]}


def test_drives_lose_each_camera_and_run_every_pruner() -> None:
    drives = drives_of(['none', 'recon', 'sparsevlm@0.5'], 0.75, ('front', 'back'))
    assert [(drive.pruner, drive.ratio, drive.lost) for drive in drives] == [
        ('none', 0.0, NONE_LOST),
        ('none', 0.0, 'front'),
        ('none', 0.0, 'back'),
        ('none', 0.0, IN_TURN),
        ('recon', 0.75, NONE_LOST),
        ('recon', 0.75, IN_TURN),
        ('sparsevlm', 0.5, NONE_LOST),
        ('sparsevlm', 0.5, IN_TURN),
    ]
    assert len(drives_of(PRUNERS, 0.75, CAMERA_NAMES, full=True)) == len(PRUNERS) * 8
    for wrong in ('recon@1.5', 'recon@half', '@'):
        with pytest.raises(InvalidInput, match='NAME@RATIO'):
            drives_of([wrong], 0.75, ())


def test_a_lost_camera_has_no_picture_and_is_named(labelled_bag: Path) -> None:
    def ticks(lost: str) -> list[tuple[str, ...]]:
        with BagReader(labelled_bag) as bag:
            found = list(losing(bag.observations(), lost))
        assert all(set(one.frames) == set(one.rig.names) - set(one.missing) for one in found)
        return [one.missing for one in found]

    assert set(ticks(NONE_LOST)) == {()}
    assert set(ticks('back')) == {('back',)}
    assert ticks(IN_TURN)[:7] == [(name,) for name in (*CAMERA_NAMES, CAMERA_NAMES[0])]


def test_the_farthest_position_and_the_choice_of_tokens() -> None:
    same = compare(driven(0.002), driven())
    assert same['largest_m'] == pytest.approx(0.002) and same['largest_tick'] == 2 and same['median_m'] == 0.0
    assert same['kept_shared_min'] == 1.0 and same['same_choice_ticks'] == 3
    found = compare(driven(0.3, ('1100', '1100', '1010')), driven(0.0, ('1100', '1100', '1100')))
    assert found['kept_shared_min'] == 0.5 and found['kept_shared_mean'] == pytest.approx(2.5 / 3)
    assert found['same_choice_ticks'] == 2 and found['largest_m_same_choice'] == 0.0
    assert compare(driven(0.3, ('10', '10', '10')), driven(0.0, ('01', '01', '01')))['largest_m_same_choice'] is None
    with pytest.raises(InvalidInput, match='expected the same'):
        compare(driven(0.0, ('1',)), driven())


@pytest.mark.parametrize(
    ('precision', 'apart_m', 'ok'),
    [('float32', 0.0009, True), ('float32', 0.0011, False), ('bfloat16', 0.059, True), ('bfloat16', 0.061, False)],
)
def test_a_limit_can_be_broken(precision: str, apart_m: float, ok: bool) -> None:
    (row,) = rows_of(
        [Drive('none', 0.0, '')], results(driven(apart_m, precision=precision), precision=precision), ['onnx']
    )
    assert row['ok'] is ok and row['judged'] and row['lost'] == 'none'
    assert row['to_reference']['largest_m'] == pytest.approx(apart_m)


def test_a_draw_is_not_judged_where_it_fell_otherwise() -> None:
    other = driven(0.5, ('10', '10', '01'))
    reference = driven(0.0, ('10', '10', '10'), 'torch')
    for pruner, judged in (('random', False), ('random:1', False), ('early:1-random', False), ('recon', True)):
        (row,) = rows_of([Drive(pruner, 0.5, '')], results(other, reference), ['onnx'])
        assert row['judged'] is judged and not row['ok']
    # The same draw, another plan: that is the engine's doing.
    alike = driven(0.5, ('10', '10', '10'))
    assert rows_of([Drive('random', 0.5, '')], results(alike, reference), ['onnx'])[0]['judged']


def test_torch_in_place_of_the_engine_proves_nothing() -> None:
    (row,) = rows_of([Drive('fastv', 0.5, '')], results(driven(engine='torch')), ['onnx'])
    assert row['ok'] and not row['judged'] and row['engine'] == 'torch' and row['asked']['engine'] == 'onnx'


def test_what_the_precision_does_is_told_from_what_the_engine_does() -> None:
    given = results(driven(0.2, precision='bfloat16'), precision='bfloat16')
    assert not rows_of([Drive('none', 0.0, '')], given, ['onnx'])[0]['torch_breaks_it']
    given['torch', 'bfloat16'] = [driven(0.3, engine='torch')]
    (row,) = rows_of([Drive('none', 0.0, '')], given, ['onnx'])
    assert not row['ok'] and row['torch_breaks_it']
    assert row['to_torch']['largest_m'] == pytest.approx(0.1)


def test_a_pruner_that_one_engine_alone_refuses_is_a_difference() -> None:
    no = driven(refused='too few')
    assert rows_of([Drive('sparsevlm', 0.75, '')], results(no, no), ['onnx'])[0]['ok']
    assert not rows_of([Drive('sparsevlm', 0.75, '')], results(no), ['onnx'])[0]['ok']
    assert not rows_of([Drive('sparsevlm', 0.75, '')], results(driven(), no), ['onnx'])[0]['ok']


def test_drives_of_real_processes(small_checkpoint: Path, labelled_bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drives = tuple(drives_of(['uniform', 'nonesuch'], 0.5, ('back',)))
    job = Job(str(small_checkpoint), labelled_bag, 'torch', drives, ticks=3, threads=1, device='cpu')
    ((engine, precision, found),) = run_jobs(job, [], ['float32'])
    assert (engine, precision) == REFERENCE
    assert all(one.report['precision'] == 'float32' and one.report['threads'] == 1 for one in found)
    plain, lost, _, pruned, *_, unknown = found
    assert plain.positions_m.shape == (3, 20, 2) and not plain.kept
    assert compare(lost, plain)['largest_m'] > 0
    assert [int(kept.sum()) for kept in pruned.kept] == [9, 9, 9] and pruned.kept[0].shape == (18,)
    assert 'nonesuch' in unknown.refused and not len(unknown.positions_m)
    # A policy forgets between drives: the order of drives changes nothing, and neither does another process.
    monkeypatch.setenv('VLA_DRIVER_PRECISION', 'float32')
    again = drive_all(Job(job.model, job.bag, 'torch', (drives[3], drives[0]), 3, device='cpu'))
    assert compare(again[1], plain)['largest_m'] < 1e-5 and compare(again[0], pruned)['largest_m'] < 1e-5


def test_the_shipped_graphs_plan_what_torch_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['--pruners', 'recon', 'fastv', '--precisions', 'float32', '--ticks', '2', '--threads', '1']
    assert main(['evaluate', 'engines', *words, '--json', str(tmp_path / 'engines.json')]) == 0
    rows = json.loads((tmp_path / 'engines.json').read_text())['rows']
    assert [row['pruner'] for row in rows] == ['none'] * 8 + ['recon'] * 2 + ['fastv'] * 2
    assert all(row['judged'] and row['ok'] and row['engine'] == 'onnx' and row['provider'] for row in rows[:10])
    assert {row['engine'] for row in rows[10:]} == {'torch'} and not any(row['judged'] for row in rows[10:])
    assert '10 of 10 drives (20 ticks) within their limit' in capsys.readouterr().out
