# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of knobs: what they say of themselves, and that what they say holds for their own defaults."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from vla_driver.planning.control import ControlConfig
from vla_driver.policies.pruning_settings import PruningSettings, parameters_of, settings_of
from vla_driver.settings.knob import allowed_range, as_parameters, check, explained, knobs, parameter
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.settings.nodes.parameter_file import TABLES
from vla_driver.settings.pruning import PruningParameters
from vla_driver.types import InvalidInput

ALL = [(table, name) for table in TABLES.values() for name in knobs(table)]


@dataclass(frozen=True)
class Table:
    """One knob of each kind."""

    speed_mps: float = parameter(1.5, 'how fast', low=0.0, high=10.0, launch='speed')
    count: int = parameter(0, 'how many', low=0, high=5, unset='as `speed_mps` says', flag='--number')
    mode: str = parameter('auto', 'which', choices=('auto', 'raw'))
    names: tuple[str, ...] = parameter(('',), 'which ones, `ros2` or not', unset='all')


@pytest.mark.parametrize(('table', 'name'), ALL, ids=lambda value: getattr(value, '__name__', value))
def test_every_default_is_allowed_and_every_knob_is_explained(table: type, name: str) -> None:
    knob = knobs(table)[name]
    assert check(table, name, list(knob.default) if knob.is_list else knob.default) == knob.default
    text = explained(table, name)
    assert len(text) > 8
    assert '\n' not in text


def test_a_field_that_was_not_declared_is_refused() -> None:
    table = dataclasses.make_dataclass('Plain', [('speed', float, 1.0)])
    with pytest.raises(TypeError, match=r'Plain.speed was not declared with parameter'):
        knobs(table)
    with pytest.raises(TypeError, match='an empty list has no ROS parameter type'):
        parameter((), 'none')


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('speed_mps', 11, r'parameter speed_mps is 11, allowed is \[0, 10\]'),
        ('speed_mps', True, r'speed_mps is True \(bool\), expected float'),
        ('count', 1.5, r'count is 1.5 \(float\), expected int'),
        ('mode', 'rwa', r"mode is 'rwa', allowed: auto, raw \(did you mean 'raw'\?\)"),
        ('names', 'front', "names is 'front', expected a list of str"),
        ('names', ['front', 2], r'names is 2 \(int\), expected str'),
    ],
)
def test_a_value_out_of_place_is_named_with_what_is_allowed(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check(Table, name, value)
    with pytest.raises(InvalidInput, match=r'^my own word is '):
        check(Table, name, value, 'my own word')


def test_large_whole_numbers_are_written_out() -> None:
    table = dataclasses.make_dataclass('Large', [('seed', int, parameter(0, 'of all', low=0, high=2_147_483_646))])
    assert allowed_range(knobs(table)['seed']) == '0 to 2147483646'
    with pytest.raises(InvalidInput, match=r'seed is 3000000001, allowed is \[0, 2147483646\]'):
        check(table, 'seed', 3_000_000_001)


def test_words_name_other_knobs_as_they_are_called_there() -> None:
    assert explained(Table, 'count') == 'how many; 0: as speed_mps says'
    assert explained(Table, 'count', lambda knob: knob.flag) == 'how many; 0: as --speed-mps says'
    assert explained(Table, 'count', lambda knob: knob.launch_name) == 'how many; 0: as speed says'
    assert explained(Table, 'names') == "which ones, `ros2` or not; ['']: all"
    assert [knob.unit for knob in knobs(Table).values()] == ['m/s', '', '', '']
    assert allowed_range(knobs(Table)['speed_mps']) == '0 to 10 m/s'
    assert (knobs(Table)['count'].flag, knobs(Table)['mode'].flag) == ('--number', '--mode')


def test_settings_become_ros_parameters() -> None:
    assert as_parameters(Table(names=('a', 'b'))) == {'speed_mps': 1.5, 'count': 0, 'mode': 'auto', 'names': ['a', 'b']}


def test_pruning_settings_go_through_parameters_and_back() -> None:
    assert settings_of(PruningParameters()) == PruningSettings()
    assert parameters_of(PruningSettings()) == PruningParameters()
    wanted = PruningSettings('recon', 0.75, 40, 'camera', 3, {'front': 2.0, 'back': 0.5})
    assert settings_of(parameters_of(wanted)) == wanted


def test_the_controller_follows_as_its_parameters_say() -> None:
    assert ControllerParameters().control_config() == ControlConfig()
    assert ControllerParameters(wheelbase_m=3.1, lookahead_s=1.2).control_config() == ControlConfig(
        wheelbase_m=3.1, lookahead_s=1.2
    )


def test_tables_load_neither_ros_nor_torch() -> None:
    code = (
        'import sys, pkgutil, importlib, vla_driver.settings as room\n'
        'for module in pkgutil.iter_modules(room.__path__):\n'
        '    importlib.import_module(f"vla_driver.settings.{module.name}")\n'
        'heavy = {"torch", "rclpy", "cv2", "transformers", "launch_ros"} & set(sys.modules)\n'
        'assert not heavy, heavy\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
