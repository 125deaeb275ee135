# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The driver in an Autoware system: its cameras, tf and odometry in, a trajectory for its controller out.

usage: ros2 launch vla_driver autoware.launch.py trajectory_topic:=/planning/trajectory

config/topics/autoware.yaml says which camera is which, and where odometry and route are; another vehicle has a copy of
its own:
    ros2 launch vla_driver autoware.launch.py topics_file:=my_vehicle.yaml
Autoware tells no turns: they are made of the route.  Unless it is named, the trajectory goes out as /trajectory, where
nobody follows it.
"""

from vla_driver.resources import resource
from vla_driver.ros.runs import launching
from vla_driver.settings.nodes.planner import PlannerParameters


def generate_launch_description():
    """Return planner and controller, with Autoware's names."""
    topics = str(resource('config', 'topics', 'autoware.yaml'))
    return launching.description(
        launching.argument('topics_file', topics, 'which topic is which camera; copy this file and change the copy'),
        launching.knob_argument(PlannerParameters, 'turns_from_route', True),
        launching.driver(),
    )
