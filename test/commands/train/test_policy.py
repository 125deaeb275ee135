# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`train policy`: every option goes where it belongs, a run leaves a policy that drives, mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_driver.cli import main
from vla_driver.commands.train import policy as command
from vla_driver.policies.loading import load_policy
from vla_driver.train.policy import PolicyRun
from vla_driver.train.policy_trainer import PolicyConfig


@pytest.fixture
def asked_for(calls_of: Any) -> list[PolicyRun]:
    """The runs that the command starts, none of which is trained."""
    return calls_of(command, 'train_policy')


def test_every_option_goes_where_it_belongs(asked_for: list[PolicyRun]) -> None:
    words = '--data a b --out c --stage policy --steps 7 --batch 6 --ticks 5 --seed 4 --learning-rate 0.01 --resume'
    words += ' --init d --refit-anchors --blind --freeze-vision --features e --config f --save-minutes 3'
    words += ' --validate-clips 2 --processes 3 --threads 8 --device cuda:1'
    assert main(['train', 'policy', *words.split()]) == 0
    config = PolicyConfig(stage='policy', steps=7, clips=6, ticks=5, seed=4, learning_rate=0.01)
    assert asked_for == [
        PolicyRun(
            [Path('a'), Path('b')],
            Path('c'),
            config,
            resume=True,
            init='d',
            refit_anchors=True,
            blind=True,
            freeze_vision=True,
            features=Path('e'),
            architecture=Path('f'),
            save_minutes=3.0,
            validate_clips=2,
            threads=8,
            device='cuda:1',
            processes=3,
        )
    ]


@pytest.mark.parametrize(
    ('words', 'steps', 'minutes'), [([], None, 60.0), (['--minutes', '2'], None, 2.0), (['--steps', '9'], 9, None)]
)
def test_a_run_takes_an_hour_unless_told_otherwise(
    asked_for: list[PolicyRun], words: list[str], steps: int | None, minutes: float | None
) -> None:
    assert main(['train', 'policy', '--data', 'a', '--out', 'b', *words]) == 0
    assert asked_for == [PolicyRun([Path('a')], Path('b'), PolicyConfig(steps=steps, minutes=minutes))]


def test_a_run_leaves_a_policy_that_drives(
    episodes: Path, small_model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f'--data {episodes} --out {tmp_path / "run"} --config {small_model_file} --steps 1 --batch 1 --ticks 3'
    words += ' --validate-clips 2 --threads 1 --device cpu'
    assert main(['train', 'policy', *words.split()]) == 0
    assert capsys.readouterr().out.startswith('step 1: ade_1s ')
    assert load_policy(tmp_path / 'run').needs.pictures


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('--steps 0', '--steps is 0, expected a positive number'),
        ('--steps 1 --processes 2 --batch 3', '--batch 3 does not divide among --processes 2'),
        ('--freeze-vision', 'give --init CKPT of a model that sees'),
        ('--config nowhere.json', "--config nowhere.json: [Errno 2] No such file or directory: 'nowhere.json'"),
        ('--processes 2 --shares 3 --batch 6', '--shares 3 do not divide among --processes 2'),
    ],
)
def test_mistakes_are_one_line(words: str, message: str, episodes: Path, tmp_path: Path, one_error: Any) -> None:
    data = ['--data', str(episodes), '--out', str(tmp_path / 'run')]
    assert message in one_error(['train', 'policy', *data, *words.split()])


def test_steps_and_minutes_exclude_each_other(asked_for: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['train', 'policy', '--data', 'a', '--out', 'b', '--steps', '1', '--minutes', '2'])
    assert '--minutes: not allowed with argument --steps' in capsys.readouterr().err
    assert not asked_for
