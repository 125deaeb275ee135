# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One knob, one declaration: a field of a frozen dataclass says name, default, range, choices and meaning.

    @dataclass(frozen=True)
    class PlannerParameters:
        max_age_s: float = parameter(0.5, 'older sets of images are dropped', low=0.0, launch=True)

From such a table come the node's ROS parameters (`ros/base/parameters.py`), the launch files' arguments
(`launch_arguments.py`), options of commands (`options.py`) and config/driver.yaml (`nodes/parameter_file.py`).  A name
in backticks in a description is another knob of the table; each of them writes it as it is called there.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Final

from vla_driver.types import InvalidInput

_META: Final = 'vla_driver_knob'
#: A name's last part says the unit (REP-103).
_UNITS: Final = {'s': 's', 'm': 'm', 'rad': 'rad', 'mps': 'm/s', 'mps2': 'm/s2', 'hz': 'Hz'}


@dataclass(frozen=True)
class Rule:
    """What a knob may be, and how it is called outside the node.

    low, high: inclusive bounds of a number (of every entry, for a list of numbers).
    choices: the allowed strings (of every entry, for a list).
    live: whether it may change while the node is configured; others take effect at the next configure.
    unset: what a default of '', 0 or [''] stands for; on the command line that is said by leaving the option out.
    launch: whether launch files have an argument for it, or the argument's name where that is another one.
    flag: its option on the command line where that is not the name with dashes.
    metavar: what the option's help calls the value.
    repeat: for a list, the option is given once for each entry, not once for all of them.
    """

    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    unset: str = ''
    launch: bool | str = False
    flag: str = ''
    metavar: str = ''
    repeat: bool = False


def parameter(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    live: bool = False,
    unset: str = '',
    launch: bool | str = False,
    flag: str = '',
    metavar: str = '',
    repeat: bool = False,
) -> Any:
    """Declare one field of a table; its type is the default's.  The rest is explained at `Rule`."""
    if isinstance(default, tuple) and not default:
        raise TypeError('an empty list has no ROS parameter type; use a list of one empty string as "none"')
    rule = Rule(description, low, high, tuple(choices), live, unset, launch, flag, metavar, repeat)
    return dataclasses.field(default=default, metadata={_META: rule})


@dataclass(frozen=True)
class Knob:
    """One field of a table."""

    name: str
    default: Any
    rule: Rule

    @property
    def kind(self) -> type[Any]:
        """The type of the value, or of the entries of a list."""
        return type(self.default[0] if self.is_list else self.default)

    @property
    def is_list(self) -> bool:
        """Whether it is a list (a tuple in the table)."""
        return isinstance(self.default, tuple)

    @property
    def unit(self) -> str:
        """The unit that the name's last part says; empty without one."""
        return _UNITS.get(self.name.rpartition('_')[2], '') if '_' in self.name and self.kind in (int, float) else ''

    @property
    def launch_name(self) -> str:
        """The launch argument's name; empty where only the parameter file sets it."""
        return self.rule.launch if isinstance(self.rule.launch, str) else self.name if self.rule.launch else ''

    @property
    def flag(self) -> str:
        """Its option on the command line."""
        return self.rule.flag or '--' + self.name.replace('_', '-')


def knobs(table: type) -> dict[str, Knob]:
    """Return name -> knob of a table."""
    found = {}
    for field in dataclasses.fields(table):
        if _META not in field.metadata or field.default is MISSING:
            raise TypeError(f'{table.__name__}.{field.name} was not declared with parameter(...)')
        found[field.name] = Knob(field.name, field.default, field.metadata[_META])
    return found


def description(table: type, name: str, called: Callable[[Knob], str] = lambda knob: knob.name) -> str:
    """Return what a knob is; `called` names the other knobs of the table that are mentioned."""
    return _naming(table, knobs(table)[name].rule.description, called)


def unset(table: type, name: str, called: Callable[[Knob], str] = lambda knob: knob.name) -> str:
    """Return what its default stands for, in words; empty where that is a value like others."""
    return _naming(table, knobs(table)[name].rule.unset, called)


def explained(table: type, name: str, called: Callable[[Knob], str] = lambda knob: knob.name) -> str:
    """Return what a knob is and what its default stands for: 'tokens kept over all cameras; 0: as prune_ratio says'."""
    knob, text = knobs(table)[name], description(table, name, called)
    if not knob.rule.unset:
        return text
    value = "['']" if knob.is_list else knob.default or ('empty' if knob.kind is str else 0)
    return f'{text}; {value}: {unset(table, name, called)}'


def _naming(table: type, text: str, called: Callable[[Knob], str]) -> str:
    found = knobs(table)

    def name(match: re.Match[str]) -> str:
        return called(found[match[1]]) if match[1] in found else match[0]

    return re.sub(r'`(\w+)`', name, text)


def _bound(value: float | None, kind: type[Any], otherwise: str) -> str:
    return otherwise if value is None else f'{value:d}' if kind is int and value == int(value) else f'{value:g}'


def _check_one(what: str, value: Any, knob: Knob) -> Any:
    """Return one entry in the knob's type; raise InvalidInput naming what is allowed."""
    kind, rule = knob.kind, knob.rule
    # bool is a subclass of int: without the first test `true` would pass for 1.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    number: Any = value
    if type(value) is not kind:
        raise InvalidInput(f'{what} is {value!r} ({type(value).__name__}), expected {kind.__name__}')
    if kind in (int, float):
        if not math.isfinite(number):
            raise InvalidInput(f'{what} is {value}, expected a finite number')
        if not in_range(knob, number):
            low, high = _bound(rule.low, kind, '-inf'), _bound(rule.high, kind, 'inf')
            raise InvalidInput(f'{what} is {_bound(number, kind, "")}, allowed is [{low}, {high}]')
    if rule.choices and value not in rule.choices:
        raise InvalidInput(f'{what} is {value!r}, allowed: {", ".join(rule.choices)}{nearest(value, rule.choices)}')
    return value


def in_range(knob: Knob, number: float) -> bool:
    """Return whether a number lies within the knob's bounds."""
    low, high = knob.rule.low, knob.rule.high
    return math.isfinite(number) and (low is None or number >= low) and (high is None or number <= high)


def allowed_range(knob: Knob) -> str:
    """Return the knob's bounds in words: '0 to 0.99', '1 or more'; empty without any."""
    low, high = (_bound(value, knob.kind, '') for value in (knob.rule.low, knob.rule.high))
    unit = f' {knob.unit}' if knob.unit else ''
    if low and high:
        return f'{low} to {high}{unit}'
    if low:
        return f'{low}{unit} or more'
    return f'up to {high}{unit}' if high else ''


def nearest(word: object, allowed: Iterable[str]) -> str:
    """Return " (did you mean 'pruner'?)" where an allowed word is near, else an empty text."""
    close = difflib.get_close_matches(str(word), list(allowed), 1)
    return f' (did you mean {close[0]!r}?)' if close else ''


def check(table: type, name: str, value: Any, what: str = '') -> Any:
    """Return `value` in the type the table wants; raise InvalidInput with the reason otherwise.

    what: how the reason calls it; 'parameter NAME' if empty.
    """
    knob, what = knobs(table)[name], what or f'parameter {name}'
    if not knob.is_list:
        return _check_one(what, value, knob)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidInput(f'{what} is {value!r}, expected a list of {knob.kind.__name__}')
    return tuple(_check_one(what, entry, knob) for entry in value)


def as_parameters(settings: Any) -> dict[str, Any]:
    """Return name -> value of an instance of a table, as ROS parameters take them (lists instead of tuples)."""
    return as_lists({name: getattr(settings, name) for name in knobs(type(settings))})


def as_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same with lists instead of tuples, as ROS parameters take them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
