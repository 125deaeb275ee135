# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""config/driver.yaml from the tables of knobs; `make docs` writes it, a test compares it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from inspect import get_annotations
from pathlib import Path
from typing import Final

from vla_driver.settings.knob import Knob, explained, knobs
from vla_driver.settings.launch_arguments import as_text
from vla_driver.settings.nodes.bag_player import BagPlayerParameters
from vla_driver.settings.nodes.carla_bridge import CarlaBridgeParameters
from vla_driver.settings.nodes.carla_localizer import CarlaLocalizerParameters
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.nodes.reasoner import ReasonerParameters
from vla_driver.settings.nodes.simulator import SimulatorParameters

#: Node -> the table of its parameters.
TABLES: Final[dict[str, type]] = {
    'planner': PlannerParameters,
    'reasoner': ReasonerParameters,
    'controller': ControllerParameters,
    'simulator': SimulatorParameters,
    'carla_bridge': CarlaBridgeParameters,
    'carla_localizer': CarlaLocalizerParameters,
    'bag_player': BagPlayerParameters,
}
_HEAD: Final = """\
# Every parameter of every node, with its default.  Written from vla_driver/settings/ by `make docs`: copy this file
# and change the copy.  The launch files read this one, or yours (params_file:=FILE; what it leaves out keeps its
# default); their arguments override it.
"""
_WIDTH: Final = 120
_COMMENTS_AT: Final = 36


def parameter_file() -> str:
    """Return the text of config/driver.yaml."""
    # With any namespace in front: `planner:` alone would fit the root's only, and be ignored elsewhere without a word.
    nodes = (f'/**/{node}:\n  ros__parameters:\n' + ''.join(_section(table)) for node, table in TABLES.items())
    return _HEAD + '\n'.join(nodes)


def _section(table: type) -> Iterator[str]:
    """Yield the lines of one node, headed by the tables they come from."""
    for part in reversed(table.__mro__[:-1]):
        own = [name for name in knobs(table) if name in get_annotations(part)]
        if own:
            yield f'\n    # --- {(part.__doc__ or "").splitlines()[0]}\n'
        for name in own:
            yield from _lines(table, knobs(table)[name])


def _lines(table: type, knob: Knob) -> Iterator[str]:
    """Yield one parameter and its comment: beside it where there is room, else above."""
    value = as_text(knob.default) if knob.kind is not str or knob.is_list else knob.default or "''"
    entry, comment = f'    {knob.name}: {value}', explained(table, knob.name)
    if knob.rule.choices:
        comment += f' (one of: {", ".join(knob.rule.choices)})'
    beside = f'{entry:<{_COMMENTS_AT}}  # {comment}'
    if len(beside) <= _WIDTH:
        yield f'{beside}\n'
        return
    for line in textwrap.wrap(comment, _WIDTH - 6, break_on_hyphens=False):
        yield f'    # {line}\n'
    yield f'{entry}\n'


if __name__ == '__main__':
    Path(sys.argv[1]).write_text(parameter_file(), encoding='utf-8')
