# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate latency` through its real processes, for some seconds, with a pruner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_driver.cli import main


def test_figures_of_a_pruned_run_alone_and_beside_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'latency.json'
    # One thread: beside other load, two would wait for each other at every operation.
    words = ['--seconds', '6', '--rate', '4', '--threads', '1', '--load', '0', '1', '--precisions', 'float32']
    words += ['--pruner', 'early:1-head', '--prune-ratio', '0.75', '--json', str(file)]
    assert main(['evaluate', 'latency', *words]) == 0
    found = json.loads(file.read_text())
    assert found['pruning']['pruner'] == 'early:1-head' and found['pruning']['ratio'] == 0.75
    quiet, busy = found['rows']
    assert (quiet['load'], busy['load']) == (0, 1)
    for row in found['rows']:
        assert (row['pictures'], row['camera_rate_hz'], row['pruner'], row['prune_ratio']) == (
            'jpeg',
            4.0,
            'early:1-head',
            0.75,
        )
        assert row['rate_hz'] > 1.0 and row['sets_sent'] == 24
        assert row['sets']['sets'] > 0
        assert 0.0 < row['median_ms'] <= row['p99_ms'] == row['camera_to_path_ms']['p99']
        assert row['rate_held'] or row['limit']
        assert row['planner_processors'] > 0 and row['planner_resident_mb'] > 50
        # The policy's own stages came through the messages, the pruner's among them.
        assert {'wait', 'decode', 'vision', 'pruner', 'prefix', 'flow'} <= row['stages_ms'].keys()
        assert row['stages_ms']['pruner']['p50'] > 0.0
    assert 'beside 1 busy processes the median is x' in capsys.readouterr().out


def test_a_share_without_a_pruner_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'latency', '--seconds', '1', '--prune-ratio', '0.5']) != 0
    assert 'need a pruner: give --pruner, too' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'said'), [(['--load', '-1'], '0 to 64 busy processes'), (['--engines', 'nonesuch'], '--engines nonesuch')]
)
def test_a_condition_that_cannot_be_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'latency', '--seconds', '1', *words]) == 2
    assert said in capsys.readouterr().err
