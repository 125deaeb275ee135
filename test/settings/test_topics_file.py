# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A file of topics is read as it says, and refused where it cannot mean what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_driver.resources import resource
from vla_driver.settings.topics_file import read_topics_file
from vla_driver.types import CAMERA_NAMES, InvalidInput


def test_the_example_names_all_cameras() -> None:
    found = read_topics_file(resource('config', 'topics', 'autoware.yaml'))
    assert set(found) == {*CAMERA_NAMES, 'odom', 'route'}
    assert found['odom'] == '/localization/kinematic_state'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('camera: {front: /a}', "unknown key 'camera' .did you mean 'cameras'"),
        ('odometry: /odom', "unknown key 'odometry' .*allowed: cameras, odom, route, turn_command"),
        ('front: /a', "unknown key 'front'.*cameras stand below `cameras`"),
        ('cameras: [/a]', 'expected a mapping: camera name -> topic'),
        ('cameras: {front: a/b}', "camera front: 'a/b' is no topic.*did you mean /a/b"),
        ('cameras: {front: 3}', 'camera front: 3 is no topic'),
        ('cameras: {front: /a//b}', 'is no topic'),
        ('odom: /a b', 'odom: .* is no topic'),
        ('cameras: {front: /a, back: /a}', 'cameras front and back are both on /a'),
        ('- /a', 'expected a mapping with some of: cameras'),
        ('', 'expected a mapping'),
        ('cameras: {front', 'not valid YAML'),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / 'topics.yaml').write_text(text, encoding='utf-8')
    with pytest.raises(InvalidInput, match=words) as caught:
        read_topics_file(tmp_path / 'topics.yaml')
    assert 'topics.yaml' in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r'nothing\.yaml cannot be read'):
        read_topics_file(tmp_path / 'nothing.yaml')
