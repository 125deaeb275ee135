# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The driver on a vehicle: planner and controller, fed by somebody else's cameras and odometry.

Topics are relative to `namespace`, or named by arguments, e.g. for CARLA's bridge (which tells no turns):
    ros2 launch vla_driver driver.launch.py rig:=my_rig.yaml odom_topic:=/carla/hero/odometry \
        route_topic:=/carla/hero/waypoints turn_command_required:=false \
        camera_topics:="front=/carla/hero/front/image, front_left=/carla/hero/front_left/image, ..." \
        vehicle_control_cmd_topic:=/carla/hero/vehicle_control_cmd
An argument that is not given leaves its parameter as `params_file` or the node itself has it.
"""

from pathlib import Path
from typing import List  # noqa: UP035 - launch_ros knows only this one

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

#: Arguments that are parameters of both nodes, of the planner, of the controller.
BOTH = {'use_sim_time': bool, 'autostart': bool}
PLANNER = {
    'policy': str,
    'model': str,
    'device': str,
    'prompt': str,
    'rig': str,
    'turn_command_required': bool,
    'max_age_s': float,
    'plan_ttl_s': float,
    'pruner': str,
    'prune_ratio': float,
    'prune_count': int,
    'prune_scope': str,
    'prune_floor': int,
    'prune_camera_weights': List[str],  # noqa: UP006
}
CONTROLLER = {'odometry_timeout_s': float, 'carla_max_steer_rad': float}
#: Topics that an argument `<name>_topic` renames.
TOPICS = ('odom', 'route', 'turn_command', 'control', 'vehicle_control_cmd')

SHARE = Path(get_package_share_directory('vla_driver'))


def argument(name, default, description, choices=None):
    """Declare one launch argument."""
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def camera_remappings(text):
    """Return remappings of `camera/<name>/...` for entries such as 'front=/carla/hero/front/image', by comma.

    The compressed images are expected below that topic, camera_info beside it, as image_transport has them.
    """
    pairs = []
    for entry in filter(None, (part.strip() for part in text.split(','))):
        camera, separator, topic = (part.strip() for part in entry.partition('='))
        if not (camera and separator and topic):
            raise ValueError(f'camera_topics: {entry!r}, expected CAMERA=TOPIC, such as front=/carla/hero/front/image')
        topic = topic.removesuffix('/compressed')
        pairs += [
            (f'camera/{camera}/image', topic),
            (f'camera/{camera}/image/compressed', f'{topic}/compressed'),
            (f'camera/{camera}/camera_info', f'{topic.rpartition("/")[0]}/camera_info'),
        ]
    return pairs


def nodes(context):
    """Return planner and controller."""
    value = LaunchConfiguration

    def parameters(kinds):
        given = {
            name: ParameterValue(value(name), value_type=kind)
            for name, kind in kinds.items()
            if value(name).perform(context)
        }
        return [value('params_file'), *([given] if given else [])]

    remappings = [(name, value(f'{name}_topic')) for name in TOPICS]
    remappings += camera_remappings(value('camera_topics').perform(context))
    common = {
        'package': 'vla_driver',
        'namespace': value('namespace'),
        'output': 'screen',
        'ros_arguments': ['--log-level', value('log_level')],
        'remappings': remappings,
    }
    return [
        Node(executable='planner', name='planner', parameters=parameters({**BOTH, **PLANNER}), **common),
        Node(executable='controller', name='controller', parameters=parameters({**BOTH, **CONTROLLER}), **common),
    ]


def generate_launch_description():
    """Return planner and controller."""
    return LaunchDescription(
        [
            argument('namespace', '', 'put in front of all relative topic and node names'),
            argument('params_file', str(SHARE / 'config' / 'driver.yaml'), 'parameters of both nodes (YAML)'),
            argument('policy', '', 'which policy plans', ['', 'model', 'blind', 'constant-velocity']),
            argument('model', '', "the policy's checkpoint: a shipped name or a folder"),
            argument('device', '', 'where the model runs: auto, cpu, cuda or cuda:N'),
            argument('prompt', '', "template file of a vision-language model's words"),
            argument('rig', '', 'camera rig: sim, nuscenes, bench2drive, or a YAML file'),
            argument('turn_command_required', '', 'false: FOLLOW stands in for it', ['', 'true', 'false']),
            argument('max_age_s', '', 'older images are dropped, never planned from'),
            argument('plan_ttl_s', '', 'nobody may act on an older plan'),
            argument('odometry_timeout_s', '', 'the controller stops when odometry is silent for this long'),
            argument(
                'carla_max_steer_rad', '', "the vehicle's own largest wheel angle, CARLA's steer is a share of it"
            ),
            argument('pruner', '', "prunes visual tokens: none, recon, a folder, or a baseline's name"),
            argument('prune_ratio', '', 'share of the visual tokens that is pruned'),
            argument('prune_count', '', 'tokens kept over all cameras; 0: as prune_ratio says'),
            argument('prune_scope', '', 'a share for each camera, or the best of all', ['', 'camera', 'global']),
            argument('prune_floor', '', 'no camera keeps fewer tokens'),
            argument('prune_camera_weights', '', "with prune_scope:=camera, ['front=2.0']: twice the front's share"),
            argument('odom_topic', 'odom', 'nav_msgs/Odometry of the vehicle'),
            argument('route_topic', 'route', 'nav_msgs/Path in the odometry frame, latched; a dense one is thinned'),
            argument('turn_command_topic', 'turn_command', 'vla_driver/TurnCommand of the navigation'),
            argument('control_topic', 'control', 'vla_driver/ControlCommand, the output'),
            argument('vehicle_control_cmd_topic', 'vehicle_control_cmd', "the same for CARLA's bridge"),
            argument('camera_topics', '', 'entries CAMERA=IMAGE_TOPIC, by comma; others are camera/<name>/image'),
            argument('use_sim_time', '', 'take time from /clock', ['', 'true', 'false']),
            argument('autostart', '', 'configure and activate at start', ['', 'true', 'false']),
            argument('log_level', 'info', 'of both nodes', ['debug', 'info', 'warn', 'error']),
            OpaqueFunction(function=nodes),
        ]
    )
