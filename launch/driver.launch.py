# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The driver on a vehicle: planner and controller, fed by somebody else's cameras and odometry.

Topics are relative to `namespace`; remap them where this file is included, e.g. for CARLA's bridge:
    ros2 launch vla_driver driver.launch.py odom_topic:=/carla/hero/odometry ...
"""

from pathlib import Path
from typing import List  # noqa: UP035 - launch_ros knows only this one

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

#: The planner's parameters that say who plans, and for which cameras.
WORDS = ('policy', 'model', 'prompt', 'rig')
#: The planner's parameters that say what is pruned.
PRUNING = {
    'pruner': str,
    'prune_ratio': float,
    'prune_count': int,
    'prune_scope': str,
    'prune_floor': int,
    'prune_camera_weights': List[str],  # noqa: UP006
}

SHARE = Path(get_package_share_directory('vla_driver'))


def argument(name, default, description, choices=None):
    """Declare one launch argument."""
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def transport():
    """Give camera images enough shared memory, unless the user has named a profile of their own."""
    profile = str(SHARE / 'config' / 'fastdds_shm.xml')
    names = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
    return [SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=profile)) for name in names]


def generate_launch_description():
    """Return planner and controller."""
    value = LaunchConfiguration
    sim_time = {'use_sim_time': ParameterValue(value('use_sim_time'), value_type=bool)}
    autostart = {'autostart': ParameterValue(value('autostart'), value_type=bool)}
    remappings = [(name, value(f'{name}_topic')) for name in ('odom', 'route', 'turn_command')]
    common = {
        'package': 'vla_driver',
        'namespace': value('namespace'),
        'output': 'screen',
        'ros_arguments': ['--log-level', value('log_level')],
    }
    return LaunchDescription(
        [
            argument('namespace', '', 'put in front of all relative topic and node names'),
            argument('params_file', str(SHARE / 'config' / 'driver.yaml'), 'parameters of both nodes (YAML)'),
            argument('policy', 'model', 'which policy plans', ['model', 'blind', 'constant-velocity']),
            argument('model', '', "the policy's checkpoint: a shipped name or a folder; empty: the policy's own"),
            argument('prompt', '', "template file of a vision-language model's words; empty: its own, or the default"),
            argument('rig', 'sim', 'camera rig: sim, nuscenes, bench2drive, or a YAML file'),
            argument('pruner', 'none', "prunes visual tokens: none, recon, a folder, or a baseline's name"),
            argument('prune_ratio', '0.5', 'share of the visual tokens that is pruned'),
            argument('prune_count', '0', 'tokens kept over all cameras; 0: as prune_ratio says'),
            argument('prune_scope', 'global', 'a share for each camera, or the best of all', ['camera', 'global']),
            argument('prune_floor', '1', 'no camera keeps fewer tokens'),
            argument('prune_camera_weights', "['']", "a list: ['front=2.0'] gives the front camera twice its share"),
            argument('odom_topic', 'odom', 'nav_msgs/Odometry of the vehicle'),
            argument('route_topic', 'route', 'nav_msgs/Path of sparse target points in the odometry frame, latched'),
            argument('turn_command_topic', 'turn_command', 'vla_driver/TurnCommand of the navigation'),
            argument('use_sim_time', 'false', 'take time from /clock', ['true', 'false']),
            argument('autostart', 'true', 'configure and activate at start', ['true', 'false']),
            argument('log_level', 'info', 'of both nodes', ['debug', 'info', 'warn', 'error']),
            *transport(),
            Node(
                executable='planner',
                name='planner',
                parameters=[
                    value('params_file'),
                    sim_time,
                    autostart,
                    {
                        name: ParameterValue(value(name), value_type=str)
                        for name in ('policy', 'model', 'prompt', 'rig')
                    },
                    {name: ParameterValue(value(name), value_type=kind) for name, kind in PRUNING.items()},
                ],
                remappings=remappings,
                **common,
            ),
            Node(
                executable='controller',
                name='controller',
                parameters=[value('params_file'), sim_time, autostart],
                remappings=remappings[:1],
                **common,
            ),
        ]
    )
