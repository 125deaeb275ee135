# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`train collect`: every option goes where it belongs; the test towns stay unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_driver.cli import main
from vla_driver.commands.train import collect as command
from vla_driver.data.collection import CollectionRun


def test_every_option_goes_where_it_belongs(calls_of: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runs = calls_of(command, 'collect', 17)
    words = '--out c --split val --episodes 4 --seconds 5.5 --seed 6 --jobs 3 --model m --learner 0.25 --engine onnx'
    assert main(['train', 'collect', *words.split()]) == 0
    assert main(['train', 'collect', '--out', 'c']) == 0
    assert runs == [
        CollectionRun(
            Path('c'), split='val', episodes=4, seconds=5.5, seed=6, jobs=3, model='m', learner=0.25, engine='onnx'
        ),
        CollectionRun(Path('c')),
    ]
    assert capsys.readouterr().out == '17 new ticks in c\n' * 2


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--split', 'test'], '--split test: nothing is trained on the test towns; allowed: train, val'),
        (['--learner', '1.5'], '--learner 1.5: expected a share between 0 and 1'),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, tmp_path: Path, one_error: Any) -> None:
    assert one_error(['train', 'collect', '--out', str(tmp_path), *words]) == message
