# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Launch arguments from tables of knobs, and back: what they are, what their texts say, which names are unknown.

Free of ROS; `ros/runs/launching.py` makes them known to `launch`.  An argument's default is empty, which leaves the
parameter as the parameter file has it: a default of the argument's own would go before the file without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from vla_driver.settings.knob import Knob, check, description, explained, knobs, nearest
from vla_driver.types import InvalidInput

#: Arguments that launch itself understands in any launch file.
_OF_LAUNCH: Final = ('emulate_tty', 'launch-prefix', 'launch-prefix-filter', 'sigkill_timeout', 'sigterm_timeout')
_BOOLS: Final = ('true', 'false')


@dataclass(frozen=True)
class LaunchArgument:
    """One argument of a launch file.  default: None if it must be given; choices: empty if any text will do."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...]


def launch_argument(table: type, name: str, default: Any = '') -> LaunchArgument:
    """Return the launch argument of one knob, whether the table gives it to launch files or not.

    default: this launch file's own, in the knob's type; empty leaves the parameter file in force, None demands a value.
    """
    knob = knobs(table)[name]
    choices = _BOOLS if knob.kind is bool else knob.rule.choices
    text = default if default is None or isinstance(default, str) else as_text(check(table, name, default))
    if choices and text == '':
        choices = ('', *choices)
    # What an empty text of the parameter stands for cannot be said by an empty argument.
    words = description if knob.default == '' else explained
    meaning = words(table, name, lambda other: other.launch_name or other.name)
    return LaunchArgument(knob.launch_name or name, text, meaning, choices)


def launched(table: type) -> dict[str, Knob]:
    """Return name -> knob of those that launch files have an argument for."""
    return {name: knob for name, knob in knobs(table).items() if knob.launch_name}


def as_text(value: Any) -> str:
    """Return a value as a launch argument's text: YAML on one line, a text as it is."""
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=math.inf)
    return str(text).removesuffix('\n').removesuffix('\n...')


def parameters_given(table: type, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return name -> checked value of the parameters whose launch arguments are not empty.

    texts: launch argument -> text.  Raises InvalidInput naming the argument and what is allowed.
    """
    given = {}
    for name, knob in launched(table).items():
        if text := texts.get(knob.launch_name, ''):
            given[name] = _value(table, name, text)
    return given


def _value(table: type, name: str, text: str) -> Any:
    """Return the checked value that an argument's text says: YAML, for a list also its entries by comma."""
    knob = knobs(table)[name]
    what = f'launch argument {knob.launch_name}'
    if knob.kind is str and not knob.is_list:
        return check(table, name, text, what)
    value = _read(text)
    if knob.is_list and not isinstance(value, list):
        value = [entry.strip() for entry in text.split(',')]
        if knob.kind is not str:
            value = [_read(entry) for entry in value]
    return check(table, name, value, what)


def _read(text: str) -> Any:
    """Return what a text says as YAML; the text itself, which the check will name, where it is none."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that no calendar has
        return text


def given_in_file(file: str | Path, node: str, table: type, name: str) -> Any:
    """Return what a parameter file says of a node's parameter; None where it is the default, or not there.

    A copy of config/driver.yaml says everything, so that a default in it is no word of the user's.  Sections in force
    are those of the node by any name that rcl matches with it: `planner`, `/**/planner`, `/ego/planner`, `/**`.
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding='utf-8')) if file else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None  # the node will say what is wrong with it
    said = None
    for section, entries in content.items() if isinstance(content, Mapping) else ():
        if str(section).rpartition('/')[2] in (node, '**', '*') and isinstance(entries, Mapping):
            parameters = entries.get('ros__parameters')
            if isinstance(parameters, Mapping) and name in parameters:
                said = parameters[name]
    said = tuple(said) if isinstance(said, list) else said
    return None if said == knobs(table)[name].default else said


def refuse_unknown(words: Iterable[str], known: Iterable[str]) -> None:
    """Raise InvalidInput for a word `name:=value` whose name no argument has, naming the nearest that there is."""
    allowed = sorted(set(known))
    for word in words:
        name, separator, _ = word.partition(':=')
        if separator and name not in allowed and name not in _OF_LAUNCH:
            raise InvalidInput(
                f'unknown launch argument {name!r}{nearest(name, allowed)}; there are: {", ".join(allowed)}'
            )


def started_by(words: Sequence[str], package: str, file: Path) -> bool:
    """Return whether a command line, `ros2 launch PACKAGE FILE` or `ros2 launch PATH`, names this launch file.

    If not, another file includes it, and the arguments on the command line are that one's.
    """
    for before, word in zip(('', *words), words):
        if Path(word).name == file.name and (before == package or Path(word).resolve() == file.resolve()):
            return True
    return False
