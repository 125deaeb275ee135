# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate latency` through its real processes, for some seconds, with a pruner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_driver.cli import main


def test_figures_of_a_pruned_run(tmp_path: Path) -> None:
    file = tmp_path / 'latency.json'
    # One thread: beside other load, two would wait for each other at every operation.
    words = [
        '--seconds',
        '6',
        '--rate',
        '4',
        '--threads',
        '1',
        '--pruner',
        'early:1-head',
        '--prune-ratio',
        '0.75',
        '--json',
        str(file),
    ]
    assert main(['evaluate', 'latency', *words]) == 0
    found = json.loads(file.read_text())
    assert found['pruning']['pruner'] == 'early:1-head' and found['pruning']['ratio'] == 0.75
    assert found['rate_hz'] > 1.0
    assert 0.0 < found['camera_to_path_ms']['p50'] <= found['camera_to_path_ms']['p99']
    # The policy's own stages came through the messages, the pruner's among them.
    assert {'wait', 'decode', 'vision', 'pruner', 'prefix', 'flow'} <= found['stages_ms'].keys()
    assert found['stages_ms']['pruner']['p50'] > 0.0


def test_a_share_without_a_pruner_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'latency', '--seconds', '1', '--prune-ratio', '0.5']) != 0
    assert 'need a pruner: give --pruner, too' in capsys.readouterr().err
