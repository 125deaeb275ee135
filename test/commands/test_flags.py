# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Advice names options on the command line, and leaves all else as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.found import FoundBag

from vla_driver.cli import main
from vla_driver.commands.flags import in_flags


@pytest.mark.parametrize(
    ('said', 'shown'),
    [
        ('give camera_time_offset_s: -0.30 (4 times)', 'give --camera-time-offset-s -0.30 (4 times)'),
        ('max_skew_s allows more', '--max-skew-s allows more'),
        ('required (missing_cameras), but', 'required (--missing-cameras), but'),
        ('--missing-cameras: x', '--missing-cameras: x'),
        ('/my/max_skew_sensor', '/my/max_skew_sensor'),
    ],
)
def test_parameters_become_options(said: str, shown: str):
    assert in_flags(said) == shown


def test_what_a_launch_file_asks_for_is_told_in_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bag = FoundBag(seconds=0.5, names=['front']).write(tmp_path / 'bag')
    words = ['inspect', str(bag), '--rig', 'nuscenes', '--missing-cameras', 'require']
    assert main(words) == 2
    assert '(--missing-cameras)' in capsys.readouterr().err
    assert main([*words, '--for-launch']) == 2
    assert '(missing_cameras)' in capsys.readouterr().err
