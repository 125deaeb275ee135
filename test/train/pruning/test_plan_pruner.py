# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`train plan-pruner` measures a checkpoint and writes a pruner that drives it; `train policy --prune` uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vla_driver.cli import main
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.trained.plan import load_plan_pruner
from vla_driver.train.record import read_log


@pytest.fixture
def checkpoint(episode_model: Callable[..., VlaModel], tmp_path: Path) -> Path:
    """A small checkpoint that reads kept tokens alone."""
    episode_model(view_config={'reads': 'kept', 'coverage': True, 'hidden_size': 48}).save_pretrained(tmp_path / 'm')
    return tmp_path / 'm'


def test_a_pruner_is_measured_and_drops_tokens_in_training(
    checkpoint: Path, episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = checkpoint / 'plan'
    sizes = ['--batches', '2', '--batch', '4', '--validate', '8', '--directions', '8']
    data = ['--data', str(episodes), '--features', str(tmp_path / 'features')]
    assert main(['train', 'plan-pruner', '--model', str(checkpoint), '--out', str(out), *data, *sizes]) == 0
    said = capsys.readouterr().out
    assert 'plan_read_50: ' in said and 'random_votes_75: ' in said
    assert load_plan_pruner(out).notes['ticks'] == 8
    run = ['train', 'policy', '--out', str(tmp_path / 'run'), '--init', str(checkpoint), '--freeze-vision', *data]
    run += ['--steps', '6', '--batch', '2', '--ticks', '2', '--stage', 'policy', '--device', 'cpu']
    assert main([*run, '--prune', 'plan', 'random', '--recon', str(checkpoint / 'pruner')]) == 0
    (means,) = read_log(tmp_path / 'run', 'train')
    assert means['itself'] > 0


def test_models_that_read_dropped_tokens_are_refused(
    episode_checkpoint: Callable[..., Path], episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = str(episode_checkpoint()), ['--data', str(episodes)]
    assert main(['train', 'plan-pruner', '--model', model, '--out', str(tmp_path / 'p'), *data]) != 0
    assert 'reads dropped tokens' in capsys.readouterr().err
    run = ['train', 'policy', '--out', str(tmp_path / 'r'), '--init', model, '--steps', '1', '--prune', 'random', *data]
    assert main(run) != 0
    assert 'reads dropped tokens' in capsys.readouterr().err
