# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate moe`: what is missing is said before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_without_data_it_says_what_to_collect(one_error: Any) -> None:
    assert '--data is missing' in (message := one_error(['evaluate', 'moe']))
    assert 'vla_driver train collect --out runs/data' in message


@pytest.mark.parametrize(
    ('text', 'message'), [('[1]', 'a list, expected an object of VlaConfig entries'), ('{', '--config')]
)
def test_a_wrong_config_is_named(tmp_path: Path, one_error: Any, text: str, message: str) -> None:
    file = tmp_path / 'larger.json'
    file.write_text(text)
    assert message in one_error(['evaluate', 'moe', '--data', str(tmp_path), '--config', str(file)])


def test_wrong_sizes_are_named(episodes: Path, episode_checkpoint: Any, tmp_path: Path, one_error: Any) -> None:
    words = ['--data', str(episodes), '--encoder', str(episode_checkpoint()), '--work', str(tmp_path)]
    message = one_error(['evaluate', 'moe', *words, '--expert-size', '20'])
    assert 'expert_size is 20, expected a multiple of 8' in message
