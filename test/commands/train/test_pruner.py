# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`train pruner`: every option goes where it belongs, figures are printed, mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_driver.cli import main
from vla_driver.commands.train import pruner as command
from vla_driver.model.pruning.trained.recon import load_recon_pruner
from vla_driver.train.pruning.pruner import PrunerRun
from vla_driver.train.pruning.pruner_trainer import PrunerConfig


@pytest.fixture
def asked_for(calls_of: Any) -> list[PrunerRun]:
    """The runs that the command starts, none of which is trained."""
    return calls_of(command, 'train_pruner', {'loss': 0.5, 'kept': 0.12345})


def test_every_option_goes_where_it_belongs(asked_for: list[PrunerRun], capsys: pytest.CaptureFixture[str]) -> None:
    words = '--data a b --model m --out c --steps 7 --batch 6 --learning-rate 0.01 --decoder-steps 5 --pruner-rate 0.2'
    words += ' --score-limit 4 --object-weight 3 --guide 0.3 --guide-road 0.4 --no-centre --warmup 2 --decoder-layers 1'
    words += ' --cell 9 --alpha 0.6 --pixels-only --seed 8 --resume --features e --picture-size 320x160'
    words += ' --save-minutes 0.5 --validate 11 --threads 12 --device cuda:1'
    assert main(['train', 'pruner', *words.split()]) == 0
    config = PrunerConfig(
        steps=7,
        batch=6,
        objective='pixels-only',
        alpha=0.6,
        decoder_layers=1,
        cell=9,
        decoder_steps=5,
        learning_rate=0.01,
        pruner_rate=0.2,
        score_limit=4.0,
        object_weight=3.0,
        centre=False,
        guide=0.3,
        guide_road=0.4,
        warmup=2,
        seed=8,
    )
    assert asked_for == [
        PrunerRun(
            [Path('a'), Path('b')],
            'm',
            Path('c'),
            config,
            cell=9,
            resume=True,
            features=Path('e'),
            picture_size=(320, 160),
            save_minutes=0.5,
            validate=11,
            threads=12,
            device='cuda:1',
        )
    ]
    assert capsys.readouterr().out == 'kept: 0.1235\nloss: 0.5000\n'


def test_the_defaults_are_those_of_the_settings(asked_for: list[PrunerRun]) -> None:
    for words, objective in ((), 'both'), (('--adversarial-only',), 'adversarial-only'):
        assert main(['train', 'pruner', '--data', 'a', '--model', 'm', '--out', 'c', *words]) == 0
        assert asked_for[-1] == PrunerRun([Path('a')], 'm', Path('c'), PrunerConfig(objective=objective))


def test_a_run_leaves_a_pruner(
    native_checkpoint: Path, episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f'--data {episodes} --model {native_checkpoint} --out {tmp_path / "run"} --steps 2 --batch 2 --cell 4'
    words += ' --decoder-layers 1 --decoder-steps 1 --validate 4 --device cpu --threads 1'
    assert main(['train', 'pruner', *words.split()]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith('step 2: kept ') and said[1].startswith('back: ')
    assert load_recon_pruner(tmp_path / 'run').notes['trained_for'] == str(native_checkpoint)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('--steps 0', '--steps is 0, expected a positive number'),
        ('--cell 0', '--cell is 0, expected a positive number'),
        ('--picture-size 10x10', '--picture-size is for Qwen-VL checkpoints'),
        ('--picture-size big', "--picture-size 'big', expected WIDTHxHEIGHT such as 672x392"),
        ('--resume', 'holds no training state to resume'),
    ],
)
def test_mistakes_are_one_line(
    words: str, message: str, native_checkpoint: Path, episodes: Path, tmp_path: Path, one_error: Any
) -> None:
    data = ['--data', str(episodes), '--model', str(native_checkpoint), '--out', str(tmp_path / 'run')]
    assert message in one_error(['train', 'pruner', *data, *words.split()])
