# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate pruning` from the command line on a bag, and what the pruning arguments refuse."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from vla_driver.cli import main
from vla_driver.commands.pruning_arguments import add_pruning_arguments, planner_parameters, pruning_settings
from vla_driver.policies.pruning_settings import PruningSettings


def test_a_bag_gives_rows_and_a_report(
    small_checkpoint: Path, labelled_bag: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / 'rows.json', tmp_path / 'report'
    words = [
        'evaluate',
        'pruning',
        '--model',
        str(small_checkpoint),
        '--bags',
        str(labelled_bag),
        '--scenarios',
        '0',
    ]
    words += ['--pruners', 'uniform', 'fastv:9', '--ratios', '0.5', '--jobs', '1']
    assert main([*words, '--json', str(file), '--report', str(folder)]) == 0
    content = json.loads(file.read_text(encoding='utf-8'))
    assert [(row['pruner'], row['ratio'], row['refused'] is None) for row in content['rows']] == [
        ('none', 0.0, True),
        ('uniform', 0.5, True),
        ('fastv:9', 0.5, False),
    ]
    uniform = content['rows'][1]
    assert (uniform['ticks'], uniform['tokens']) == (4, 9.0)
    assert 0.0 < uniform['foreground_recall'] < 1.0
    assert set(uniform['l2_m']) == {'UniAD', 'ST-P3/VAD'}
    assert 'driving_score' not in uniform
    out, err = capfd.readouterr()
    assert 'uniform' in out
    assert 'fastv:9 at 50% is left out' in err
    assert 'What was kept: labelled' in (folder / 'report.html').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['evaluate', 'pruning', '--ticks', '0', '--scenarios', '0'], 'nothing to evaluate'),
        (['evaluate', 'pruning', '--ticks', '0', '--report', 'out'], '--report shows recorded ticks'),
        (['evaluate', 'pruning', '--plan-hz', '3'], 'plan rate 3.0 Hz'),
        (['replay', 'bag', '--prune-ratio', '0.5'], 'need a pruner'),
        (['drive', '--pruner', 'uniform', '--prune-ratio', '1.5'], 'ratio 1.5'),
        (['drive', '--pruner', 'uniform', '--policy', 'constant-velocity', '--ros', '--video', 'a.mp4'], '--video'),
        (['demo', '--pruner', 'unifrom'], "pruner 'unifrom' is neither known nor a folder"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_arguments_become_settings_and_the_nodes_parameters() -> None:
    parser = argparse.ArgumentParser()
    add_pruning_arguments(parser)
    assert pruning_settings(parser.parse_args([])) == PruningSettings()
    words = [
        '--pruner',
        'random:1',
        '--prune-count',
        '40',
        '--prune-scope',
        'camera',
        '--prune-camera-weight',
        'front=2',
    ]
    settings = pruning_settings(parser.parse_args(words))
    assert settings == PruningSettings('random:1', 0.5, 40, 'camera', 1, {'front': 2.0})
    assert planner_parameters(settings) == {
        'pruner': 'random:1',
        'prune_ratio': 0.5,
        'prune_count': 40,
        'prune_scope': 'camera',
        'prune_floor': 1,
        'prune_camera_weights': ['front=2.0'],
    }
    assert planner_parameters(PruningSettings())['prune_camera_weights'] == ['']
