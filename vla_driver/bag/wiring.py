# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How a bag is played to a planner node: the parameters and remappings that bring the two together.

The command and the launch file use the same: `vla_driver replay BAG` starts the nodes with it, `vla_driver inspect BAG`
prints it for replay.launch.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vla_driver.bag import schema
from vla_driver.bag.inventory import inventory, policies_for
from vla_driver.bag.matching import Matching
from vla_driver.bag.outputs import live_name
from vla_driver.bag.read import BagReader
from vla_driver.bag.topics import InputTopics
from vla_driver.observation.calibration import CameraCalibration
from vla_driver.types import ANCHOR_CAMERA, CameraRig


@dataclass(frozen=True)
class Wiring:
    """What planner and player are started with.

    inputs: `bag.inventory`; parameters, remappings: of the planner; moved: topics of the bag that the player plays
    under another name; anchor: topic and type of the front camera as played; needed: topics that the player waits to be
    heard on; read: topics that the planner reads; seconds: how long the bag is; calibration: camera -> what it is used
    with, by the first camera_info of each.
    """

    inputs: Mapping[str, Any]
    rig: CameraRig
    parameters: Mapping[str, Any]
    remappings: Mapping[str, str]
    moved: Mapping[str, str]
    anchor: tuple[str, str]
    needed: tuple[str, ...]
    read: tuple[str, ...]
    seconds: float
    calibration: Mapping[str, CameraCalibration]

    def played_names(self, topics: Iterable[str]) -> tuple[str, ...]:
        """Return what topics of the bag are called when they are played."""
        return tuple(self.moved.get(topic, topic) for topic in topics)


def wire(bag: BagReader, matching: Matching) -> Wiring:
    """Return how an open bag is played to a planner.

    Raises InvalidInput for a bag that nothing can be planned from.
    """
    inputs, rig, types = bag.inputs(), bag.rig(), bag.topics
    policies = policies_for(inputs, matching.policies(rig.names))
    bag.require_inputs(policies)
    assert inputs.odometry is not None
    assert inputs.route is not None
    needed = (*inputs.cameras.values(), inputs.odometry, inputs.route)
    read = (*needed, *inputs.infos.values(), *filter(None, [inputs.turn_command]))
    # Under its own name a recorded `/path`, say, would meet the planner's: two kinds of messages on one topic.
    moved = {topic: f'/recorded{topic}' for topic in read if live_name(topic)}
    remappings, transports = _cameras(inputs, types)
    for own, other in (('odom', inputs.odometry), ('route', inputs.route), ('turn_command', inputs.turn_command)):
        if other is not None:
            remappings[own] = other
    played = {own: moved.get(topic, topic) for own, topic in remappings.items()}
    anchor = inputs.cameras[ANCHOR_CAMERA]
    return Wiring(
        inventory(inputs, policies),
        rig,
        {
            'image_transport': transports,
            'missing_cameras': [f'{name}={policy}' for name, policy in policies.items()] or ['require'],
            'turn_command_required': inputs.turn_command is not None,
            'odometry_mount': list(bag.odometry_mount()),
            'rectified': bag.rectified,
            'use_tf': False,  # the rig has been made of it already, where none was given
        },
        {own: topic for own, topic in played.items() if f'/{own}' != topic},
        moved,
        (moved.get(anchor, anchor), types[anchor]),
        needed,
        read,
        bag.duration_s,
        bag.calibration,
    )


def _cameras(inputs: InputTopics, types: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the cameras' remappings, and the entries of `image_transport`."""
    remappings, transports = {}, []
    for camera, topic in inputs.cameras.items():
        transport = schema.PICTURES[types[topic]]
        own = f'camera/{camera}/image' + ('' if transport == 'raw' else f'/{transport}')
        transports.append(f'{camera}={transport}')
        remappings[own] = topic
        if camera in inputs.infos:
            remappings[f'camera/{camera}/camera_info'] = inputs.infos[camera]
    return remappings, transports
