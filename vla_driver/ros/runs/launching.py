# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the launch files share: arguments and nodes made from the tables of `vla_driver/settings/`.

    def generate_launch_description():
        return launching.description(
            *launching.arguments(BagPlayerParameters, defaults={'rate': 2.0}),
            launching.node('bag_player'),
            launching.driver(),
        )

`ros2 launch` imports this with the system's Python, in which there is no torch, nor anything else of .venv.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, List  # noqa: UP035 - launch_ros knows only this one

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from vla_driver.geometry.rig import load_rig
from vla_driver.ros.base.parameters import filled
from vla_driver.ros.runs.bag_search import REMAPPINGS, configurations, inspect_bag, relative
from vla_driver.settings.knob import knobs
from vla_driver.settings.launch_arguments import (
    as_text,
    given_in_file,
    launch_argument,
    launched,
    parameters_given,
    refuse_unknown,
    started_by,
)
from vla_driver.settings.launch_topics import camera_remappings, given_topics, renamed
from vla_driver.settings.nodes.parameter_file import TABLES
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.topics_file import OTHER_INPUTS
from vla_driver.types import InvalidInput

_PACKAGE: Final = 'vla_driver'
_MOVED: Final = 'topics_that_are_moved'
_LOG_LEVELS: Final = ('debug', 'info', 'warn', 'error')


def _share() -> Path:
    """Return the folder that launch/ and config/ are installed in."""
    return Path(get_package_share_directory(_PACKAGE))


def description(*parts: Any) -> LaunchDescription:
    """Return a launch file's description: `parts` (lists are opened), behind what every launch file has.

    That is the arguments that concern all nodes, and the refusal of arguments that nobody declares and of a parameter
    file that is not there.
    """

    def check_names(context: LaunchContext) -> None:
        file = Path(context.get_locals_as_dict()['current_launch_file_path'])
        if started_by(sys.argv, _PACKAGE, file):
            refuse_unknown(context.argv, [argument.name for argument in made.get_launch_arguments()])

    opened: list[Any] = []
    declared = set()
    for entry in (entry for part in parts for entry in (part if isinstance(part, list) else [part])):
        # Two nodes may have the same knob: one argument sets both.
        if not isinstance(entry, DeclareLaunchArgument) or entry.name not in declared:
            opened.append(entry)
        if isinstance(entry, DeclareLaunchArgument):
            declared.add(entry.name)
    made = LaunchDescription(
        [OpaqueFunction(function=check_names), *_common(), OpaqueFunction(function=_check_file), *opened]
    )
    return made


def _check_file(context: LaunchContext) -> None:
    """Refuse a parameter file that is not there: launch would start the nodes without it."""
    file = context.launch_configurations['params_file']
    if file and not Path(file).is_file():
        raise InvalidInput(f'launch argument params_file: there is no file {file}')


def _common() -> list[DeclareLaunchArgument]:
    file = str(_share() / 'config' / 'driver.yaml')
    return [
        argument('namespace', '', 'put in front of all relative topic and node names'),
        argument('params_file', file, 'parameters of the nodes (YAML); what an argument here says goes before it'),
        argument('log_level', 'info', 'of the nodes', _LOG_LEVELS),
    ]


def argument(name: str, default: Any, text: str, choices: Iterable[str] = ()) -> DeclareLaunchArgument:
    """Declare one argument that is no knob of a table; default: a text or a substitution."""
    return DeclareLaunchArgument(name, default_value=default, description=text, choices=[*choices] or None)


def arguments(table: type, defaults: Mapping[str, Any] | None = None) -> list[DeclareLaunchArgument]:
    """Declare a table's launch arguments.

    defaults: this launch file's own, name -> value, which go before the parameter file; None demands a value.
    """
    return [knob_argument(table, name, (defaults or {}).get(name, '')) for name in launched(table)]


def knob_argument(table: type, name: str, default: Any = '') -> DeclareLaunchArgument:
    """Declare the argument of one knob, whether the table gives it to launch files or not.

    default: as in `arguments`, or a substitution.
    """
    plain = default is None or isinstance(default, (str, bool, int, float, tuple))
    made = launch_argument(table, name, default if plain else '')
    return argument(made.name, made.default if plain else default, made.description, made.choices)


def where_true(flag: str, table: type, values: Mapping[str, Any]) -> list[DeclareLaunchArgument]:
    """Declare arguments of a table that have these values where another argument is `true`, else the file's."""
    switch = LaunchConfiguration(flag)
    return [
        knob_argument(table, name, PythonExpression(["'", as_text(value), "' if '", switch, "' == 'true' else ''"]))
        for name, value in values.items()
    ]


def node(
    name: str,
    *,
    also: Iterable[str] = (),
    fixed: Mapping[str, Any] | None = None,
    remappings: Callable[[LaunchContext], list[tuple[str, Any]]] = lambda _: [],
    when: str = '',
) -> OpaqueFunction:
    """Start a node with the parameter file, and with what the arguments of its table say.

    also: other arguments, `true` or `false`, that are parameters of this node.
    fixed: parameters that have these values, whatever the file says.
    remappings: returns them, once the arguments are known.
    when: an argument that must be `true` for it; '': it is always started.
    """

    def start(context: LaunchContext) -> list[Node]:
        texts = context.launch_configurations
        if when and texts[when] != 'true':
            return []
        table = TABLES[name]
        said = {
            other: filled(table, other, value, f'launch argument {knobs(table)[other].launch_name}')
            for other, value in parameters_given(table, texts).items()
        }
        values = {**(fixed or {}), **said}
        values.update({other: texts[other] == 'true' for other in also if texts[other]})
        given = {other: _typed(value) for other, value in values.items()}
        return [
            Node(
                package=_PACKAGE,
                executable=name,
                name=name,
                namespace=LaunchConfiguration('namespace'),
                output='screen',
                parameters=[LaunchConfiguration('params_file'), *([given] if given else [])],
                remappings=remappings(context),
                ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            )
        ]

    return OpaqueFunction(function=start)


def _typed(value: Any) -> ParameterValue:
    """Return a parameter's value with its type: launch would read a text such as '1.5' as the YAML it looks like."""
    if isinstance(value, tuple):
        kind = List[float] if isinstance(value[0], float) else List[str]  # noqa: UP006
        return ParameterValue(list(value), value_type=kind)
    return ParameterValue(value, value_type=type(value))


def cameras(context: LaunchContext) -> tuple[str, ...]:
    """Return the names of the rig that the planner will have."""
    texts = context.launch_configurations
    in_file = given_in_file(texts.get('params_file', ''), 'planner', PlannerParameters, 'rig')
    return load_rig(texts.get('rig') or in_file or PlannerParameters.rig).names


def input_remappings(context: LaunchContext) -> list[tuple[str, str]]:
    """Return the remappings of what the driver reads: those of the bag that is played, or what the arguments say."""
    texts = context.launch_configurations
    if REMAPPINGS in texts:
        return list(json.loads(texts[REMAPPINGS]).items())
    named = texts.get('camera_topics') or texts.get('topics_file')
    given = given_topics(texts, cameras(context) if named else None)
    others = {name: topic for name, topic in given.items() if name in OTHER_INPUTS}
    pictures = {name: topic for name, topic in given.items() if name not in OTHER_INPUTS}
    return [*others.items(), *camera_remappings(pictures).items()]


def renamings(context: LaunchContext, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the remappings of topics that the arguments `<name>_topic` say."""
    return [(name, renamed(context.launch_configurations, name)) for name in names]


def topics_of_bag() -> OpaqueFunction:
    """Look for the driver's inputs in the argument `bag`, as `vla_driver replay` does, and tell what was found.

    What it finds goes to the driver and the player, which are started behind it; what arguments say goes before.
    """

    def search(context: LaunchContext) -> list[LogInfo]:
        texts = context.launch_configurations
        texts['bag'] = str(Path(texts['bag']).expanduser())
        known = dict(texts)
        command = Path(get_package_prefix(_PACKAGE)) / 'lib' / _PACKAGE / _PACKAGE
        found = inspect_bag(command, known, given_topics(known, None))
        texts.update(configurations(found, known))
        moved = relative(found['bag_player']['remappings'], known.get('namespace', ''))
        texts[_MOVED] = json.dumps(moved)
        return [LogInfo(msg=line) for line in found['lines']]

    return OpaqueFunction(function=search)


def played_remappings(context: LaunchContext) -> list[tuple[str, str]]:
    """Return the remappings of the bag player: topics of the bag that bear the name of a node's output."""
    return list(json.loads(context.launch_configurations.get(_MOVED, '{}')).items())


def driver(**overruled: str) -> Any:
    """Include driver.launch.py, which declares its own arguments: given to the including file, they reach it alike.

    overruled: arguments that it gets with these texts instead, for they mean something else in the including file.
    """
    file = PythonLaunchDescriptionSource(str(_share() / 'launch' / 'driver.launch.py'))
    included = IncludeLaunchDescription(file)
    return GroupAction([included], launch_configurations=overruled) if overruled else included


def shut_down_after(executable: str, reason: str) -> RegisterEventHandler:
    """End the launch when a node's process has ended."""
    return RegisterEventHandler(
        OnProcessExit(
            target_action=lambda action: getattr(action, 'node_executable', None) == executable,
            on_exit=[EmitEvent(event=Shutdown(reason=reason))],
        )
    )


def shut_down_without_planner() -> RegisterEventHandler:
    """End the launch when the planner has ended: one that cannot start would be waited for in vain."""
    return shut_down_after('planner', 'the planner has ended; it said above why')
