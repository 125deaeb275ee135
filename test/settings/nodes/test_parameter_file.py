# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""config/driver.yaml says what the tables say: every parameter of every node, with the default in force."""

from __future__ import annotations

import yaml

from vla_driver.resources import resource
from vla_driver.settings.knob import as_parameters
from vla_driver.settings.nodes.parameter_file import TABLES, parameter_file


def test_the_file_is_the_one_that_the_tables_make() -> None:
    written = resource('config', 'driver.yaml').read_text(encoding='utf-8')
    assert written == parameter_file(), 'run `make docs`'


NODES = ('planner', 'reasoner', 'controller', 'simulator', 'carla_bridge', 'carla_localizer', 'bag_player')


def test_it_holds_every_parameter_with_its_default_and_type() -> None:
    content = yaml.safe_load(parameter_file())
    # With any namespace in front: `planner:` alone would fit the root's only, and be ignored elsewhere without a word.
    assert list(content) == [f'/**/{node}' for node in NODES]
    for node, table in TABLES.items():
        held = content[f'/**/{node}']['ros__parameters']
        wanted = as_parameters(table())
        assert held == wanted
        assert {name: type(value) for name, value in held.items()} == {n: type(v) for n, v in wanted.items()}


def test_it_is_readable() -> None:
    lines = parameter_file().splitlines()
    assert max(map(len, lines)) <= 120
    assert sum('#' in line for line in lines) >= sum(len(as_parameters(table())) for table in TABLES.values())
