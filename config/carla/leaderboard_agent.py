# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""vla_driver as an agent of CARLA's leaderboard 2 and of Bench2Drive: give this file as their `--agent`.

It runs in the leaderboard's own Python, which knows nothing of vla_driver: it imports nothing of it.  The leaderboard
starts the bridge and, by `get_ros_entrypoint`, our launch file; what `sensors` asks for comes on the bridge's topics.
"""

import json
import os
import shlex

from leaderboard.autoagents.autonomous_agent import Track
from leaderboard.autoagents.ros2_agent import ROS2Agent

#: The vehicle and its six cameras, as the bridge spawns them elsewhere; here only the cameras count.
OBJECTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'objects.json')


def get_entry_point():
    """Return the agent's class, as the leaderboard asks for it."""
    return 'VlaDriverAgent'


class VlaDriverAgent(ROS2Agent):
    """Six cameras, GNSS, IMU and speedometer; planner, controller and localiser run by our launch file."""

    def setup(self, path_to_conf_file):
        """Choose the track; `--agent-config` comes after the launch, too late to say anything."""
        del path_to_conf_file
        self.track = Track.SENSORS

    def get_ros_entrypoint(self):
        """Return what the leaderboard launches; VLA_DRIVER_ARGUMENTS may hold more launch arguments, as JSON."""
        parameters = {'leaderboard': 'true', 'role_name': 'hero', 'synchronous': 'true'}
        parameters.update(_more_arguments(os.environ.get('VLA_DRIVER_ARGUMENTS', '{}')))
        return {'package': 'vla_driver', 'launch_file': 'carla.launch.py', 'parameters': parameters}

    def sensors(self):
        """Return the sensors in CARLA's coordinates: y to the right, angles in degrees."""
        with open(OBJECTS) as file:
            vehicle = json.load(file)['objects'][0]
        cameras = [_camera(sensor) for sensor in vehicle['sensors'] if sensor['type'] == 'sensor.camera.rgb']
        still = {'x': 0.0, 'y': 0.0, 'z': 0.0, 'roll': 0.0, 'pitch': 0.0, 'yaw': 0.0}
        return cameras + [
            dict(still, type='sensor.other.imu', id='imu'),
            dict(still, type='sensor.other.gnss', id='gnss'),
            {'type': 'sensor.speedometer', 'id': 'speed', 'reading_frequency': 20},
        ]


def _more_arguments(text):
    """Return launch arguments of a JSON object as the leaderboard can write them into one command line."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f'VLA_DRIVER_ARGUMENTS is {text!r}, expected a JSON object: {error}') from error
    if not isinstance(found, dict):
        raise ValueError(f'VLA_DRIVER_ARGUMENTS is {text!r}, expected a JSON object')
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
    return {name: shlex.quote(value) for name, value in words.items()}


def _camera(sensor):
    """Return a camera of the bridge's file, whose spawn points are right-handed, as the leaderboard writes it."""
    place = sensor['spawn_point']
    return {
        'type': sensor['type'],
        'id': sensor['id'],
        'x': place['x'],
        'y': -place['y'],
        'z': place['z'],
        'roll': place['roll'],
        'pitch': -place['pitch'],
        'yaw': -place['yaw'],
        'width': sensor['image_size_x'],
        'height': sensor['image_size_y'],
        'fov': sensor['fov'],
    }
