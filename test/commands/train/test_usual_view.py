# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`train usual-view` writes the copy and says of how much it is; mistakes are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_driver.cli import main
from vla_driver.model.config import VlaConfig


def test_writes_the_copy(
    native_checkpoint: Path, episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / 'copy'
    words = ['train', 'usual-view', '--data', str(episodes), '--model', str(native_checkpoint), '--out', str(copy)]
    assert main([*words, '--moments', '3']) == 0
    assert capsys.readouterr().out == f'{copy}: the usual view of 3 moments\n'
    assert VlaConfig.from_pretrained(copy).view_config.reads == 'usual'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ('--out {here}', '--out {here} exists; name a folder that does not'),
        ('--out {here}/new --moments 0', '--moments is 0, expected 1 or more'),
        ('--out {here}/new --model nano-blind', 'the blind control has no visual tokens'),
    ],
)
def test_mistakes_are_one_line(
    words: str, message: str, native_checkpoint: Path, episodes: Path, tmp_path: Path, one_error: Any
) -> None:
    data = ['--data', str(episodes), '--model', str(native_checkpoint)]
    said = one_error(['train', 'usual-view', *data, *words.format(here=tmp_path).split()])
    assert message.format(here=tmp_path) in said
