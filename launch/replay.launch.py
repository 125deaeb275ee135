# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A recording through the planner: bag player and driver.

usage: ros2 launch vla_driver replay.launch.py bag:=PATH

Cameras, odometry, route and rig are found in the bag, as `vla_driver replay` finds them; arguments go before:
    ros2 launch vla_driver replay.launch.py bag:=PATH rig:=nuscenes camera_topics:=front=/my/front/image
What an earlier run of the nodes published (plans, controls, diagnostics) is not played unless it is named, as by
route_topic:=/path.
"""

from vla_driver.ros.runs import launching
from vla_driver.settings.nodes.bag_player import BagPlayerParameters
from vla_driver.settings.nodes.planner import START_S


def generate_launch_description():
    """Return bag player, planner and controller; the launch ends with the bag."""
    return launching.description(
        # A planner listens to nothing while it loads its checkpoint.
        launching.arguments(BagPlayerParameters, defaults={'bag': None, 'wait_s': START_S}),
        launching.topics_of_bag(),
        launching.driver(),
        launching.node('bag_player', remappings=launching.played_remappings),
        launching.shut_down_after('bag_player', 'the bag has ended'),
        launching.shut_down_without_planner(),
    )
