# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`train early-head`: every option goes where it belongs, figures are printed, mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_driver.cli import main
from vla_driver.commands.train import early_head as command
from vla_driver.train.pruning.early_head import EarlyHeadRun


@pytest.fixture
def asked_for(calls_of: Any) -> list[EarlyHeadRun]:
    """The runs that the command starts, none of which is trained."""
    return calls_of(command, 'train_early_head', {'score': 0.5, 'agreement_50': 0.75})


def test_every_option_goes_where_it_belongs(asked_for: list[EarlyHeadRun], capsys: pytest.CaptureFixture[str]) -> None:
    words = '--data a b --model m --teacher t --block 3 --out c --hidden 9 --steps 7 --batch 6 --learning-rate 0.01'
    words += ' --seed 8 --validate 11 --picture-size 320x160 --threads 12 --device cuda:1'
    assert main(['train', 'early-head', *words.split()]) == 0
    assert asked_for == [
        EarlyHeadRun(
            [Path('a'), Path('b')],
            'm',
            3,
            Path('c'),
            teacher=Path('t'),
            hidden=9,
            steps=7,
            batch=6,
            learning_rate=0.01,
            seed=8,
            validate=11,
            picture_size=(320, 160),
            threads=12,
            device='cuda:1',
        )
    ]
    assert capsys.readouterr().out == 'agreement_50: 0.7500\nscore: 0.5000\n'


def test_the_defaults_are_those_of_the_settings(asked_for: list[EarlyHeadRun]) -> None:
    assert main(['train', 'early-head', '--data', 'a', '--model', 'm', '--out', 'c', '--block', '2']) == 0
    assert asked_for == [EarlyHeadRun([Path('a')], 'm', 2, Path('c'))]


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('--steps 0', '--steps is 0, expected a positive number'),
        ('--threads -1', '--threads is -1, expected 0 (the library decides) or more'),
        ('--picture-size 3', "--picture-size '3', expected WIDTHxHEIGHT such as 672x392"),
        ('--teacher nowhere', 'pruner nowhere is no folder'),
    ],
)
def test_mistakes_are_one_line(
    words: str, message: str, native_checkpoint: Path, episodes: Path, tmp_path: Path, one_error: Any
) -> None:
    data = ['--data', str(episodes), '--model', str(native_checkpoint), '--out', str(tmp_path / 'head'), '--block', '1']
    assert message in one_error(['train', 'early-head', *data, *words.split()])
