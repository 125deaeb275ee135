# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A recording through the planner: bag player and driver.

usage: ros2 launch vla_driver replay.launch.py bag:=PATH

What an earlier run of the nodes published (plans, controls, diagnostics) is not played unless `include` names it.
"""

from pathlib import Path
from typing import List  # noqa: UP035 - launch_ros knows only this one

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, EmitEvent, IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = Path(get_package_share_directory('vla_driver'))


def generate_launch_description():
    """Return bag player, planner and controller; the launch ends with the bag."""
    value = LaunchConfiguration
    player = Node(
        package='vla_driver',
        executable='bag_player',
        name='bag_player',
        namespace=value('namespace'),
        output='screen',
        parameters=[
            {
                'bag': ParameterValue(value('bag'), value_type=str),
                'rate': ParameterValue(value('rate'), value_type=float),
                'loop': ParameterValue(value('loop'), value_type=bool),
                'clock_hz': ParameterValue(value('clock_hz'), value_type=float),
                'start_offset_s': ParameterValue(value('start_offset_s'), value_type=float),
                'include': ParameterValue(value('include'), value_type=List[str]),  # noqa: UP006
                'wait_for_images': True,
                'wait_s': ParameterValue(value('wait_s'), value_type=float),
                'wait_for_subscribers': ParameterValue(value('wait_for'), value_type=List[str]),  # noqa: UP006
            }
        ],
    )
    driver = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SHARE / 'launch' / 'driver.launch.py')))
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='a rosbag2 folder, or an .mcap or .db3 file'),
            DeclareLaunchArgument('rate', default_value='1.0', description='speed; 2.0 plays twice as fast'),
            DeclareLaunchArgument('loop', default_value='false', description='start over at the end'),
            DeclareLaunchArgument('clock_hz', default_value='0.0', description='publish /clock this often; 0: not'),
            DeclareLaunchArgument('start_offset_s', default_value='0.0', description='begin this far into the bag'),
            DeclareLaunchArgument(
                'wait_for',
                default_value="['']",
                description="start when these topics of the bag have a subscriber; ['']: when some images have one",
            ),
            DeclareLaunchArgument(
                'wait_s',
                default_value='120.0',
                description='give up waiting for a subscriber after this long; a planner has none while it loads',
            ),
            DeclareLaunchArgument(
                'include',
                default_value="['']",
                description='play these topics, too, though running nodes publish them (["/path"] with '
                "route_topic:=/path); ['']: none",
            ),
            driver,  # declares its own arguments (policy, model, rig ...), which are given to this file alike
            player,
            RegisterEventHandler(
                OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason='the bag has ended'))])
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
