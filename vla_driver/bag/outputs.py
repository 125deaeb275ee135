# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag are outputs: what running nodes publish themselves, so that a replay leaves it out.

Whoever records a drive of this package's nodes records their answers, too.  Played back, an old plan would pass for
the planner's, and an old command would move a vehicle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PLANNER: Final = 'the planner publishes it'
_REASONER: Final = 'the reasoner publishes it'
_COMMAND: Final = 'it commands a vehicle'
_NODES: Final = 'running nodes publish it about themselves'

#: Message types that are an output under any name.
_TYPES: Final[Mapping[str, str]] = {
    'vla_driver/msg/DrivingPlan': _PLANNER,
    'vla_driver/msg/AgentForecasts': _PLANNER,
    'vla_driver/msg/TokenSelection': _PLANNER,
    'vla_driver/msg/DrivingIntent': _REASONER,
    'vla_driver/msg/ControlCommand': _COMMAND,
    'carla_msgs/msg/CarlaEgoVehicleControl': _COMMAND,
    'ackermann_msgs/msg/AckermannDrive': _COMMAND,
    'ackermann_msgs/msg/AckermannDriveStamped': _COMMAND,
    'autoware_control_msgs/msg/Control': _COMMAND,
    'autoware_planning_msgs/msg/Trajectory': _PLANNER,
    'autoware_auto_control_msgs/msg/AckermannControlCommand': _COMMAND,
    'rcl_interfaces/msg/Log': _NODES,
    'rcl_interfaces/msg/ParameterEvent': _NODES,
    'lifecycle_msgs/msg/TransitionEvent': _NODES,
}

#: Names that the nodes publish on; of any type, because two types on one topic do not go together.
_NAMES: Final[Mapping[str, str]] = {
    'plan': _PLANNER,
    'path': _PLANNER,
    'markers': _PLANNER,
    'agents': _PLANNER,
    'tokens': _PLANNER,
    'intent': _REASONER,
    'reasoning': _REASONER,
    'control': _COMMAND,
    'vehicle_control_cmd': _COMMAND,
    'ackermann_cmd': _COMMAND,
    'trajectory': _PLANNER,
    'diagnostics': _NODES,
    'rosout': _NODES,
    'parameter_events': _NODES,
}

#: A topic of such a type and name shows in which namespace the nodes were when they were recorded.
_SIGNS: Final[Mapping[str, str]] = {
    'vla_driver/msg/DrivingPlan': '/plan',
    'vla_driver/msg/TokenSelection': '/tokens',
    'vla_driver/msg/DrivingIntent': '/intent',
    'vla_driver/msg/ControlCommand': '/control',
}


def live_name(topic: str) -> bool:
    """Whether nodes without a namespace publish on this topic."""
    return topic.removeprefix('/') in _NAMES


def outputs(topics: Mapping[str, str]) -> dict[str, str]:
    """Return the outputs among `topics` (name -> type), each with the reason why a replay leaves it out.

    `path`, `markers` or `agents` may be anybody's: they are outputs at the root, where the nodes of a replay publish
    them, and in a namespace in which the bag holds a plan, tokens or controls of this package.
    """
    namespaces = {''}
    for topic, kind in topics.items():
        if kind in _SIGNS and topic.endswith(_SIGNS[kind]):
            namespaces.add(topic.removesuffix(_SIGNS[kind]))
    found = {}
    for topic, kind in topics.items():
        namespace, _, name = topic.rpartition('/')
        if kind in _TYPES:
            found[topic] = _TYPES[kind]
        elif namespace in namespaces and name in _NAMES:
            found[topic] = _NAMES[name]
        elif name == 'transition_event':
            found[topic] = _NODES
    return found
