# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Processes are started by torchrun, agree when one is asked to stop, and say why they end."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from fixtures import ending

from vla_driver.train.distributed.crew import Crew, started_by_torchrun
from vla_driver.train.distributed.launch import launch, require_deepspeed
from vla_driver.types import InvalidInput, VlaDriverError


def test_they_stop_together_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('PYTHONPATH', str(Path(ending.__file__).parents[1]))
    with pytest.raises(InvalidInput, match=r'^--batch 7 is odd$'):
        launch(ending.__name__, {'folder': str(tmp_path)}, processes=2, threads=1)
    # Both, in the same round, though one alone was asked.
    one, two = ((tmp_path / f'rank-{rank}').read_text().split() for rank in range(2))
    assert one == two and one[:2] == ['2', '0.5']
    assert 'Traceback' not in capfd.readouterr().err


def test_a_process_that_says_nothing_gives_its_status(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VlaDriverError, match='ended with status 1'):
        launch('no_such_module', {}, processes=1, threads=1)
    assert 'no_such_module' in capfd.readouterr().err


def test_without_deepspeed_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def absent(name: str, *more: Any) -> Any:
        return None if name == 'deepspeed' else find(name, *more)

    monkeypatch.setattr(importlib.util, 'find_spec', absent)
    with pytest.raises(InvalidInput, match=r"pip install .*'deepspeed==0\.19\.8'"):
        require_deepspeed()


def test_alone_nothing_is_exchanged() -> None:
    assert not started_by_torchrun()
    assert Crew().mean([1.5, 2.0]) == [1.5, 2.0]
    Crew().wait()
