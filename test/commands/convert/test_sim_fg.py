# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`convert sim-fg` on a short episode."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_driver.cli import main
from vla_driver.data.foreground.masks import PairFolder


def test_converts_and_says_how_much(short_episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['convert', 'sim-fg', str(short_episode.parent), '--out', str(tmp_path / 'pairs')]
    assert main(words) == 0
    assert capsys.readouterr().out == f'{tmp_path / "pairs"}: 3 ticks added\n'
    assert len(PairFolder(tmp_path / 'pairs')) == 3
    assert main(words) == 0
    assert '0 ticks added' in capsys.readouterr().out


def test_every_nth_tick(short_episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ['convert', 'sim-fg', str(short_episode.parent), '--out', str(tmp_path / 'x')]
    assert main([*words, '--every', '0']) == 2
    assert '--every 0, expected 1 or more' in capsys.readouterr().err
    assert main([*words, '--every', '2']) == 0
    assert '2 ticks added' in capsys.readouterr().out
