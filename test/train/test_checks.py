# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What training runs refuse before they begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_driver.train.checks import check_new_run, check_output, check_positive
from vla_driver.train.state import STATE_FOLDER
from vla_driver.types import InvalidInput


@pytest.mark.parametrize('value', [0, -1, float('nan')])
def test_the_first_setting_that_is_not_positive_is_named(value: float) -> None:
    check_positive(steps=1, learning_rate=1e-9, threads=None)
    with pytest.raises(InvalidInput, match=f'--learning-rate is {value}, expected a positive number'):
        check_positive(steps=1, learning_rate=value, batch=0)


def test_a_folder_with_a_run_is_only_for_resuming(tmp_path: Path) -> None:
    check_new_run(tmp_path, resume=False)
    (tmp_path / STATE_FOLDER).mkdir()
    check_new_run(tmp_path, resume=True)
    with pytest.raises(InvalidInput, match='already holds a run: continue it with --resume'):
        check_new_run(tmp_path, resume=False)


def test_weights_are_not_written_over(tmp_path: Path) -> None:
    check_output(tmp_path)
    (tmp_path / 'log.jsonl').write_text('')
    check_output(tmp_path)
    for name in ('model.safetensors', 'config.json'):
        (tmp_path / name).write_text('')
    with pytest.raises(InvalidInput, match=r'already holds config\.json and model\.safetensors: choose another folder'):
        check_output(tmp_path)
