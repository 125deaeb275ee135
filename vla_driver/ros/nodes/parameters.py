# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from a frozen dataclass: one table says name, default, range, choices and meaning.

    @dataclass(frozen=True)
    class PlannerParameters:
        max_age_s: float = parameter(0.5, 'older sets of images are dropped', low=0.0)

Every value is checked when the node starts and at each `ros2 param set`, which is refused with the
reason.  A parameter that the command line or a file gives and the table does not know is an error: a
misspelt name must not silently leave the default in force.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_driver.types import InvalidInput

T = TypeVar('T')

_META = 'vla_driver_parameter'
#: Parameters that every ROS node has or may have, whatever its own table says.
_STANDARD_PREFIXES = ('use_sim_time', 'qos_overrides.', 'start_type_description_service', 'bond_')


@dataclass(frozen=True)
class Rule:
    """What a parameter may be.

    low, high: inclusive bounds of a number (of every entry, for a list of numbers).
    choices: the allowed strings (of every entry, for a list).
    live: whether it may change while the node is configured; others take effect at the next configure.
    """

    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False


def parameter(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    live: bool = False,
) -> Any:
    """Declare one field of a parameter dataclass; its type is the default's."""
    if isinstance(default, tuple) and not default:
        raise TypeError('an empty list has no ROS parameter type; use a list of one empty string as "none"')
    return dataclasses.field(default=default, metadata={_META: Rule(description, low, high, tuple(choices), live)})


def _fields(table: type) -> dict[str, tuple[Any, Rule]]:
    """Return name -> (default, rule) of a parameter dataclass."""
    found = {}
    for field in dataclasses.fields(table):
        if _META not in field.metadata or field.default is MISSING:
            raise TypeError(f'{table.__name__}.{field.name} was not declared with parameter(...)')
        found[field.name] = (field.default, field.metadata[_META])
    return found


def _check_one(name: str, value: Any, kind: type[Any], rule: Rule) -> Any:
    """Return one entry converted to `kind`; raise InvalidInput naming what is allowed."""
    # bool is a subclass of int: without the first test `true` would pass for 1.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    number: Any = value
    if type(value) is not kind:
        raise InvalidInput(f'parameter {name} is {value!r} ({type(value).__name__}), expected {kind.__name__}')
    if kind in (int, float):
        if not math.isfinite(number):
            raise InvalidInput(f'parameter {name} is {value}, expected a finite number')
        if (rule.low is not None and number < rule.low) or (rule.high is not None and number > rule.high):
            low = '-inf' if rule.low is None else f'{rule.low:g}'
            high = 'inf' if rule.high is None else f'{rule.high:g}'
            raise InvalidInput(f'parameter {name} is {value:g}, allowed is [{low}, {high}]')
    if rule.choices and value not in rule.choices:
        close = difflib.get_close_matches(str(value), rule.choices, 1)
        hint = f' (did you mean {close[0]!r}?)' if close else ''
        raise InvalidInput(f'parameter {name} is {value!r}, allowed: {", ".join(rule.choices)}{hint}')
    return value


def check(table: type, name: str, value: Any) -> Any:
    """Return `value` in the type the table wants; raise InvalidInput with the reason otherwise."""
    default, rule = _fields(table)[name]
    if isinstance(default, tuple):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise InvalidInput(f'parameter {name} is {value!r}, expected a list of {type(default[0]).__name__}')
        return tuple(_check_one(name, entry, type(default[0]), rule) for entry in value)
    return _check_one(name, value, type(default), rule)


def _descriptor(default: Any, rule: Rule) -> ParameterDescriptor:
    description = rule.description
    if rule.choices:
        description += f' (one of: {", ".join(rule.choices)})'
    # Static types would refuse `max_age_s:=1` (an integer) with a message that names no range;
    # `check` knows better, so the type is left to it.
    descriptor = ParameterDescriptor(description=description, dynamic_typing=isinstance(default, float))
    if rule.low is not None or rule.high is not None:
        if isinstance(default, float):
            low = -math.inf if rule.low is None else rule.low
            high = math.inf if rule.high is None else rule.high
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif isinstance(default, int):
            low = -(2**63) if rule.low is None else rule.low
            high = 2**63 - 1 if rule.high is None else rule.high
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor


def declare(node: Node, table: type[T]) -> T:
    """Declare every parameter of `table` on `node` and return the checked values.

    Raises InvalidInput for a value that is not allowed and for a given name that no table entry has.
    """
    fields = _fields(table)
    # The only place where rclpy keeps what the command line and files asked for.
    given = node._parameter_overrides
    for name in given:
        if name in fields or node.has_parameter(name) or name.startswith(_STANDARD_PREFIXES):
            continue
        close = difflib.get_close_matches(name, fields, 1)
        hint = f'; did you mean {close[0]!r}?' if close else ''
        raise InvalidInput(
            f'node {node.get_name()} has no parameter {name!r}{hint} It has: {", ".join(sorted(fields))}'
        )
    for name, (default, rule) in fields.items():
        if name in given and given[name].type_ != Parameter.Type.NOT_SET:
            check(table, name, given[name].value)
        value = list(default) if isinstance(default, tuple) else default
        try:
            node.declare_parameter(name, value, _descriptor(default, rule))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InvalidInput(f'parameter {name}: {error}') from error
    return read(node, table)


def read(node: Node, table: type[T]) -> T:
    """Return the present values, checked, as an instance of `table`."""
    return table(**{name: check(table, name, node.get_parameter(name).value) for name in _fields(table)})


def merged(present: T, requested: Sequence[Parameter]) -> T:
    """Return `present` (an instance of a table) with the requested values; those of other names are left out."""
    fields = _fields(type(present))
    values = {given.name: check(type(present), given.name, given.value) for given in requested if given.name in fields}
    return dataclasses.replace(present, **values)  # type: ignore[type-var]


def judge(table: type, parameters: Sequence[Parameter], configured: bool) -> SetParametersResult:
    """Answer a request to set `parameters`: refused, with the reason, or accepted."""
    fields = _fields(table)
    for given in parameters:
        if given.name not in fields:
            continue
        if configured and not fields[given.name][1].live:
            return SetParametersResult(
                successful=False,
                reason=f'{given.name} takes effect when the node is configured: deactivate and clean it up first',
            )
        try:
            check(table, given.name, given.value)
        except InvalidInput as error:
            return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)
