# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A closed loop: simulator and driver.

usage: ros2 launch vla_driver sim.launch.py split:=test scenario:=3
"""

from pathlib import Path
from typing import List  # noqa: UP035 - launch_ros knows only this one

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, EmitEvent, IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

#: Parameters of the driver in a synchronous world, their values, and what they are.
PATIENCE = (
    ('max_age_s', '10.0', 'older images are dropped, never planned from'),
    ('plan_ttl_s', '5.0', 'nobody may act on an older plan'),
    ('odometry_timeout_s', '10.0', 'the controller stops when odometry is silent for this long'),
)

SHARE = Path(get_package_share_directory('vla_driver'))


def patient(synchronous, limit):
    """Return `limit` in a synchronous world, else what the parameter file says."""
    return PythonExpression(["'", limit, "' if '", synchronous, "' == 'true' else ''"])


def generate_launch_description():
    """Return simulator, planner and controller; the launch ends with the drive."""
    value = LaunchConfiguration
    simulator = Node(
        package='vla_driver',
        executable='simulator',
        name='simulator',
        namespace=value('namespace'),
        output='screen',
        parameters=[
            {
                'split': ParameterValue(value('split'), value_type=str),
                'scenario': ParameterValue(value('scenario'), value_type=int),
                'seed': ParameterValue(value('seed'), value_type=int),
                'town': ParameterValue(value('town'), value_type=str),
                'routes': ParameterValue(value('routes'), value_type=List[str]),  # noqa: UP006
                'rig': ParameterValue(value('rig'), value_type=str),
                'image_transport': ParameterValue(value('image_transport'), value_type=str),
                'synchronous': ParameterValue(value('synchronous'), value_type=bool),
                'rate': ParameterValue(value('rate'), value_type=float),
                'result_file': ParameterValue(value('result_file'), value_type=str),
            }
        ],
    )
    driver = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'driver.launch.py')))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'split', default_value='test', description='which towns', choices=['train', 'val', 'test']
            ),
            DeclareLaunchArgument('scenario', default_value='0', description='which drive of the split'),
            DeclareLaunchArgument('seed', default_value='0', description='which series of drives'),
            DeclareLaunchArgument('town', default_value='', description='a SUMO network instead of a split'),
            DeclareLaunchArgument('routes', default_value="['']", description='SUMO route files for `town`, a list'),
            DeclareLaunchArgument(
                'image_transport',
                default_value='compressed',
                description='how images go out',
                choices=['compressed', 'raw', 'both'],
            ),
            DeclareLaunchArgument(
                'synchronous',
                default_value='true',
                description='the world waits for the answer to each tick',
                choices=['true', 'false'],
            ),
            DeclareLaunchArgument('rate', default_value='1.0', description='speed when not synchronous'),
            DeclareLaunchArgument('rig', default_value='sim', description='camera rig: a shipped name or a YAML file'),
            # A world that waits for its driver makes nothing stale: its own clock counts then, not the one on the wall.
            DeclareLaunchArgument(
                'use_sim_time',
                default_value=value('synchronous'),
                description='take time from /clock',
                choices=['true', 'false'],
            ),
            *(
                DeclareLaunchArgument(name, default_value=patient(value('synchronous'), limit), description=what)
                for name, limit, what in PATIENCE
            ),
            DeclareLaunchArgument('result_file', default_value='', description='write the verdict to this JSON file'),
            driver,  # declares its own arguments (policy, model, rig ...), which are given to this file alike
            simulator,
            RegisterEventHandler(
                OnProcessExit(target_action=simulator, on_exit=[EmitEvent(event=Shutdown(reason='the drive is over'))])
            ),
            # One that cannot start (a checkpoint not found, say) would be waited for in vain.
            RegisterEventHandler(
                OnProcessExit(
                    target_action=lambda action: getattr(action, 'node_executable', None) == 'planner',
                    on_exit=[EmitEvent(event=Shutdown(reason='the planner has ended; it said above why'))],
                )
            ),
        ]
    )
