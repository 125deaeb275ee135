# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Command-line options from a table of knobs: name, type, choices, default, help and range come from there.

    add_options(parser, SimulatorParameters, 'split', 'seed', defaults={'split': 'val'})
    ...
    settings = settings_from(args, SimulatorParameters)

An option's value is found under the knob's name (`args.length_m` of --length), whatever the option is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vla_driver.settings.knob import Knob, allowed_range, check, description, in_range, knobs, unset
from vla_driver.types import InvalidInput

T = TypeVar('T')


class _Take(argparse.Action):
    """Stores a value once its range is checked: the error is one line, as all those that a user can mend."""

    def __init__(self, knob: Knob, meaning: str, left_out: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._knob, self._meaning, self._left_out = knob, meaning, left_out

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Take what was given."""
        del parser, option_string
        for value in values if isinstance(values, list) else [values]:
            self._check_range(value)
        if self._knob.rule.repeat:
            values = [*(getattr(namespace, self.dest) or []), values]
        setattr(namespace, self.dest, values)

    def _check_range(self, value: Any) -> None:
        """Raise InvalidInput naming the option, its value, what is allowed and what it is."""
        if self._knob.kind not in (int, float):
            return
        given = f'{self.option_strings[0]} {value:g}'
        if self._knob.rule.unset and value == self._knob.default:
            hint = f'; leave it out for: {self._left_out}' if self._left_out else ''
            raise InvalidInput(f'{given}: expected more than that ({self._meaning}){hint}')
        if not in_range(self._knob, value):
            allowed = allowed_range(self._knob) or 'a finite number'
            raise InvalidInput(f'{given}: expected {allowed} ({self._meaning})')


def add_options(
    parser: argparse._ActionsContainer,
    table: type,
    *names: str,
    choices: Mapping[str, Sequence[str]] | None = None,
    defaults: Mapping[str, Any] | None = None,
    instead: Mapping[str, str] | None = None,
) -> None:
    """Add an option for each named knob of `table`; one that is not given leaves the default (None where `unset`).

    choices, defaults: this command's own, name -> choices or default.
    instead: name -> what this command takes where the option is not given, in words; its value is None then.
    """
    choices, defaults, instead = choices or {}, defaults or {}, instead or {}
    for name in names:
        knob = knobs(table)[name]
        default = defaults.get(name, knob.default)
        meaning = description(table, name, _flag)
        if knob.kind is bool:
            if default:
                raise TypeError(f'{table.__name__}.{name} is on already: an option could not switch it on')
            parser.add_argument(knob.flag, dest=name, action='store_true', help=_escaped(meaning))
            continue
        left_out = instead.get(name) or ('' if name in defaults else unset(table, name, _flag))
        shown = left_out or (f'{default:g} {knob.unit}'.rstrip() if knob.kind is float else str(default))
        repeatable = 'repeatable; ' if knob.rule.repeat else ''
        allowed = choices.get(name, knob.rule.choices) or None
        parser.add_argument(
            knob.flag,
            dest=name,
            action=_Take,
            knob=knob,
            meaning=meaning,
            left_out=left_out,
            type=knob.kind,
            nargs='+' if knob.is_list and not knob.rule.repeat else None,
            choices=allowed,
            default=None if left_out or knob.is_list else default,
            metavar=knob.rule.metavar or (None if allowed else name.upper()),
            help=_escaped(f'{meaning} ({repeatable}default: {shown})'),
        )


def _flag(knob: Knob) -> str:
    return knob.flag


def _escaped(text: str) -> str:
    """Return a text as argparse wants it, which formats help with `%`."""
    return text.replace('%', '%%')


def settings_from(args: argparse.Namespace, table: type[T]) -> T:
    """Return an instance of `table` with the options that were given; all else has the table's defaults."""
    values = {}
    for name, knob in knobs(table).items():
        value = getattr(args, name, None)
        if value is not None:
            values[name] = check(table, name, value, knob.flag)
    return table(**values)
