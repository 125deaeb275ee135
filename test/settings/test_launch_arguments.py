# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Launch arguments from a table: what they say, how their texts are read, which names are refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vla_driver.settings.knob import parameter
from vla_driver.settings.launch_arguments import (
    LaunchArgument,
    as_text,
    launch_argument,
    launched,
    parameters_given,
    refuse_unknown,
    started_by,
)
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Table:
    """One knob of each kind."""

    ratio: float = parameter(0.5, 'how much', low=0.0, high=0.99, launch=True)
    count: int = parameter(0, 'how many', low=0, unset='as `ratio` says', launch=True)
    mode: str = parameter('auto', 'which', choices=('auto', 'raw'), launch=True)
    model: str = parameter('', 'what', unset='the shipped one', launch=True)
    topics: tuple[str, ...] = parameter(('',), 'which ones', unset='all', launch='wait_for')
    loop: bool = parameter(False, 'whether', launch=True)
    stale_s: float = parameter(0.5, 'how long', launch=False)


def test_a_table_says_which_arguments_there_are() -> None:
    assert [launch_argument(Table, name) for name in launched(Table)] == [
        LaunchArgument('ratio', '', 'how much', ()),
        LaunchArgument('count', '', 'how many; 0: as ratio says', ()),
        LaunchArgument('mode', '', 'which', ('', 'auto', 'raw')),
        LaunchArgument('model', '', 'what', ()),
        LaunchArgument('wait_for', '', "which ones; ['']: all", ()),
        LaunchArgument('loop', '', 'whether', ('', 'true', 'false')),
    ]


def test_a_launch_files_own_default_is_checked_and_cannot_be_emptied() -> None:
    assert launch_argument(Table, 'loop', True) == LaunchArgument('loop', 'true', 'whether', ('true', 'false'))
    assert launch_argument(Table, 'ratio', 0.25).default == '0.25'
    assert launch_argument(Table, 'topics', ('/a', '/b')).default == '[/a, /b]'
    assert launch_argument(Table, 'model', None).default is None
    assert launch_argument(Table, 'stale_s').name == 'stale_s'
    with pytest.raises(InvalidInput, match='ratio is 2, allowed is'):
        launch_argument(Table, 'ratio', 2.0)


@pytest.mark.parametrize(
    ('argument', 'text', 'name', 'value'),
    [
        ('ratio', '0.75', 'ratio', 0.75),
        ('ratio', '0', 'ratio', 0.0),
        ('count', '12', 'count', 12),
        ('mode', 'raw', 'mode', 'raw'),
        # Names are taken as they are, whatever YAML would make of them.
        ('model', '1.5', 'model', '1.5'),
        ('model', 'on', 'model', 'on'),
        ('model', '[a]', 'model', '[a]'),
        ('loop', 'true', 'loop', True),
        ('wait_for', "['/a', '/b']", 'topics', ('/a', '/b')),
        ('wait_for', '[front=raw, back=raw]', 'topics', ('front=raw', 'back=raw')),
        ('wait_for', "['']", 'topics', ('',)),
        ('wait_for', '/a', 'topics', ('/a',)),
        ('wait_for', '/a, /b', 'topics', ('/a', '/b')),
        ('wait_for', 'a: b', 'topics', ('a: b',)),
    ],
)
def test_texts_are_read(argument: str, text: str, name: str, value: Any) -> None:
    others = dict.fromkeys(('ratio', 'count', 'mode', 'model', 'wait_for', 'loop'), '')
    given = parameters_given(Table, {**others, 'namespace': '/ego', 'topics': 'x', argument: text})
    assert given == {name: value}
    assert type(given[name]) is type(value)


@pytest.mark.parametrize(
    ('argument', 'text', 'message'),
    [
        ('ratio', '1.5', r'launch argument ratio is 1.5, allowed is \[0, 0.99\]'),
        ('ratio', 'half', "launch argument ratio is 'half'"),
        ('count', '1.5', r'launch argument count is 1.5 \(float\), expected int'),
        ('count', '[', r"launch argument count is '\['"),
        ('count', '2026-13-45', r"launch argument count is '2026-13-45'"),
        ('loop', '1', r'launch argument loop is 1 \(int\), expected bool'),
        ('wait_for', '[1, 2]', r'launch argument wait_for is 1 \(int\), expected str'),
    ],
)
def test_texts_that_are_none_of_its_values_are_refused(argument: str, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parameters_given(Table, {argument: text})


def test_an_entry_of_a_list_that_is_no_yaml_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"launch argument odometry_mount is '\[2'"):
        parameters_given(ControllerParameters, {'odometry_mount': '1.0,[2,0'})


@pytest.mark.parametrize('value', [True, 3, 0.25, 1e-6, 'a b', ('',), ('front=2.0', '/a'), ('1',)])
def test_a_value_as_text_is_read_as_the_value(value: Any) -> None:
    kinds = {bool: 'loop', int: 'count', float: 'ratio', str: 'model', tuple: 'topics'}
    name = kinds[type(value)]
    assert parameters_given(Table, {'wait_for' if name == 'topics' else name: as_text(value)}) == {name: value}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    known = ['pruner', 'prune_ratio', 'rig']
    refuse_unknown(['pruner:=recon', 'launch-prefix:=gdb', 'emulate_tty:=true', '--debug'], known)
    with pytest.raises(InvalidInput, match=r"unknown launch argument 'prunner' \(did you mean 'pruner'\?\); there are"):
        refuse_unknown(['rig:=sim', 'prunner:=recon'], known)
    with pytest.raises(InvalidInput, match=r"unknown launch argument 'zzz'; there are: prune_ratio, pruner, rig$"):
        refuse_unknown(['zzz:=1'], known)


@pytest.mark.parametrize(
    ('words', 'answer'),
    [
        ('ros2 launch vla_driver sim.launch.py split:=test', True),
        ('ros2 launch --debug vla_driver sim.launch.py', True),
        ('ros2 launch {folder}/sim.launch.py split:=test', True),
        # Somebody's own launch file, which includes this one: its arguments are its own business.
        ('ros2 launch my_car car.launch.py sensors:=six', False),
        ('ros2 launch my_car sim.launch.py sensors:=six', False),
        ('ros2 launch {folder}/other/sim.launch.py', False),
        ('pytest', False),
    ],
)
def test_the_launch_file_that_was_asked_for(words: str, answer: bool, tmp_path: Path) -> None:
    file = tmp_path / 'sim.launch.py'
    assert started_by(words.format(folder=tmp_path).split(), 'vla_driver', file) is answer


@pytest.mark.parametrize('text', ['1.5, 0, -0.5', '[1.5, 0.0, -0.5]'])
def test_a_list_of_numbers_is_given_by_comma_too(text: str) -> None:
    assert parameters_given(PlannerParameters, {'odometry_mount': text}) == {'odometry_mount': (1.5, 0.0, -0.5)}
    with pytest.raises(InvalidInput, match="launch argument odometry_mount is 'left'"):
        parameters_given(PlannerParameters, {'odometry_mount': '1.5, left'})
