# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from a table of `vla_driver/settings/`, which says name, default, range, choices and meaning.

Every value is checked when the node starts and at each `ros2 param set`, which is refused with the
reason.  A parameter that the command line or a file gives and the table does not know is an error where its
name is near one of ours: a misspelt name must not leave the default in force.  Any other belongs to somebody
else (a file for all nodes, SetParameter in a launch file): a warning names it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterNotDeclaredException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_driver.settings.knob import check, explained, knobs, nearest
from vla_driver.types import InvalidInput

T = TypeVar('T')

#: Parameters that every ROS node has or may have, whatever its own table says.
_STANDARD_PREFIXES: Final = ('use_sim_time', 'qos_overrides.', 'start_type_description_service', 'bond_')
#: Names that whole stacks set for all nodes (Autoware's vehicle_info), however near one of ours they are.
_WELL_KNOWN: Final = (
    'wheel_base',
    'wheel_radius',
    'wheel_width',
    'wheel_tread',
    'front_overhang',
    'rear_overhang',
    'left_overhang',
    'right_overhang',
    'vehicle_height',
    'max_steer_angle',
)


def _descriptor(table: type, name: str) -> ParameterDescriptor:
    knob, description = knobs(table)[name], explained(table, name)
    rule = knob.rule
    if rule.choices:
        description += f' (one of: {", ".join(rule.choices)})'
    # Static types would refuse `max_age_s:=1` (an integer) with a message that names no range;
    # `check` knows better, so the type is left to it.
    descriptor = ParameterDescriptor(description=description, dynamic_typing=isinstance(knob.default, float))
    if rule.low is not None or rule.high is not None:
        if isinstance(knob.default, float):
            low = -math.inf if rule.low is None else rule.low
            high = math.inf if rule.high is None else rule.high
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif isinstance(knob.default, int):
            low = -(2**63) if rule.low is None else rule.low
            high = 2**63 - 1 if rule.high is None else rule.high
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor


def filled(table: type, name: str, value: Any, what: str = '') -> Any:
    """Check a value as `check` does, but let no empty list through, which ROS gives no type.

    Where the default is the list that means "unset", it means that, too.  Elsewhere InvalidInput is raised.
    """
    checked = check(table, name, value, what)
    if checked != ():
        return checked
    knob = knobs(table)[name]
    if knob.default == ('',):
        return knob.default
    raise InvalidInput(
        f'{what or f"parameter {name}"} is [], expected a list of {knob.kind.__name__} that is not empty; leave it out '
        f'for the default, {list(knob.default)}'
    )


def declare(node: Node, table: type[T]) -> T:
    """Declare every parameter of `table` on `node` and return the checked values.

    Raises InvalidInput for a value that is not allowed and for a given name that is near one of the table; warns of
    other names that it does not have.
    """
    fields = knobs(table)
    # The only place where rclpy keeps what the command line and files asked for.
    given = node._parameter_overrides
    others = []
    for name in given:
        if name in fields or node.has_parameter(name) or name.startswith(_STANDARD_PREFIXES):
            continue
        if (meant := misspelt(name, fields)) is not None:
            raise InvalidInput(
                f'node {node.get_name()} has no parameter {name!r}; did you mean {meant!r}? '
                f'It has: {", ".join(sorted(fields))}'
            )
        others.append(name)
    if others:
        node.get_logger().warning(
            f'not parameters of this node, without effect here: {", ".join(sorted(others))} '
            f'(it has: {", ".join(sorted(fields))})'
        )
    for name, knob in fields.items():
        value = list(knob.default) if knob.is_list else knob.default
        empty = False
        if name in given:
            # rcl gives `[]` no value at all; the parameter would be declared without one.
            said = [] if given[name].type_ == Parameter.Type.NOT_SET else given[name].value
            filled(table, name, said)
            empty = knob.is_list and not len(said)
        try:
            node.declare_parameter(name, value, _descriptor(table, name), ignore_override=empty)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise InvalidInput(f'parameter {name}: {error}') from error
    return read(node, table)


def misspelt(name: str, ours: Iterable[str]) -> str | None:
    """Return which of our names a name is that is not quite one; None for one that is nobody's but its owner's."""
    if name in _WELL_KNOWN:
        return None
    # Letters apart, or without its unit; what is longer by a word ('device_id') means something else.
    near = [one for one in difflib.get_close_matches(name, ours, 5, cutoff=0.8) if abs(len(one) - len(name)) <= 2]
    return near[0] if near else None


def read(node: Node, table: type[T]) -> T:
    """Return the present values, checked, as an instance of `table`."""
    return table(**{name: filled(table, name, node.get_parameter(name).value) for name in knobs(table)})


def merged(present: T, requested: Sequence[Parameter]) -> T:
    """Return `present` (an instance of a table) with the requested values; those of other names are left out."""
    fields = knobs(type(present))
    values = {given.name: filled(type(present), given.name, given.value) for given in requested if given.name in fields}
    return dataclasses.replace(present, **values)  # type: ignore[type-var]


def known(node: Node, requested: list[Parameter]) -> list[Parameter]:
    """Return what is to be set; raise ParameterNotDeclaredException for unknown names, each with the nearest.

    rclpy 7.1.6 refuses such a name, too, but says "undeclared parameter(s): []".
    """
    unknown = [given.name for given in requested if not node.has_parameter(given.name)]
    if unknown:
        names = node._parameters
        raise ParameterNotDeclaredException([f'{name}{nearest(name, names)}' for name in unknown])
    return requested


def judge(table: type, parameters: Sequence[Parameter], configured: bool) -> SetParametersResult:
    """Answer a request to set `parameters`: refused, with the reason, or accepted."""
    fields = knobs(table)
    for given in parameters:
        if given.name not in fields:
            continue
        if configured and not fields[given.name].rule.live:
            return SetParametersResult(
                successful=False,
                reason=f'{given.name} takes effect when the node is configured: deactivate and clean it up first',
            )
        try:
            filled(table, given.name, given.value)
        except InvalidInput as error:
            return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)
