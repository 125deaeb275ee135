# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A closed loop: simulator and driver.

usage: ros2 launch vla_driver sim.launch.py split:=test scenario:=3
"""

from launch.substitutions import LaunchConfiguration

from vla_driver.ros.runs import launching
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.nodes.simulator import PATIENT_CONTROLLER, PATIENT_PLANNER, SimulatorParameters

SYNCHRONOUS = LaunchConfiguration('synchronous')


def generate_launch_description():
    """Return simulator, planner and controller; the launch ends with the drive."""
    return launching.description(
        # One rig for both: without an argument, the parameter file could have two.
        launching.arguments(SimulatorParameters, defaults={'synchronous': True, 'rig': SimulatorParameters.rig}),
        # A world that waits for its driver makes nothing stale: its own clock counts then, not the one on the wall.
        launching.argument('use_sim_time', SYNCHRONOUS, 'take time from /clock', ['true', 'false']),
        launching.where_true('synchronous', PlannerParameters, PATIENT_PLANNER),
        launching.where_true('synchronous', ControllerParameters, PATIENT_CONTROLLER),
        # `image_transport` is here how the simulator sends; the planner finds out by itself.
        launching.driver(image_transport=''),
        launching.node('simulator'),
        launching.shut_down_after('simulator', 'the drive is over'),
        launching.shut_down_without_planner(),
    )
