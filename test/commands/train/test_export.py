# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`train export` on the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_driver.cli import main
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.record import append_log


@pytest.fixture
def run_folder(episode_model: Callable[..., VlaModel], tmp_path: Path) -> Path:
    """The folder of a run, with a log."""
    folder = tmp_path / 'run'
    episode_model().save_pretrained(folder)
    settings = {'seed': 5, 'clips': 4, 'ticks': 6, 'learning_rate': 3e-4}
    append_log(folder, kind='start', episodes=7, ticks=700, device='cpu', threads=2, settings=settings)
    append_log(folder, kind='train', step=40, seconds=120.0)
    return folder


def test_writes_the_checkpoint_and_says_how_large_it_is(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, out = tmp_path / 'closed.json', tmp_path / 'shipped'
    scores.write_text(json.dumps({'success_rate': 0.75}))
    assert main(['train', 'export', '--run', str(run_folder), '--out', str(out), '--scores', str(scores)]) == 0
    size = (out / 'model.safetensors').stat().st_size
    said = capsys.readouterr().out
    assert said.startswith(f'{out}: ') and said.endswith(f' M parameters, {size / 1e6:.1f} MB\n')
    assert '| success_rate | 0.75 |' in (out / 'README.md').read_text()


def test_a_folder_without_a_log_is_refused(run_folder: Path, tmp_path: Path, one_error: Any) -> None:
    (run_folder / 'log.jsonl').unlink()
    said = one_error(['train', 'export', '--run', str(run_folder), '--out', str(tmp_path / 'shipped')])
    assert 'holds no log.jsonl: give the folder of a `vla_driver train policy` run' in said
