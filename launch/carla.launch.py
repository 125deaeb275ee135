# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The driver on the topics of CARLA's ROS bridge: planner and controller.

usage: ros2 launch vla_driver carla.launch.py role_name:=hero

CARLA's server and its bridge are started by whoever has them; config/carla/objects.json spawns the vehicle with its
cameras. Without them, an emulator of the bridge takes their place:
    ros2 launch vla_driver carla.launch.py emulator:=true split:=test scenario:=3
CARLA tells no turns: they are made of its map and the route, or of the leaderboard's global plan. Its odometry is of
the vehicle's middle: `odometry_mount` says where that is. In a synchronous world each tick is answered by one command
with its stamp. leaderboard:=true makes odometry of the leaderboard's sensors, and tells it when to begin.
"""

from launch.substitutions import LaunchConfiguration, PythonExpression

from vla_driver.ros.runs import launching
from vla_driver.settings.nodes.carla_bridge import (
    PLANNER,
    ROLE,
    TOPICS,
    WAITING_CONTROLLER,
    WAITING_PLANNER,
    CarlaBridgeParameters,
)
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.types import CAMERA_NAMES

VEHICLE = ['/carla/', LaunchConfiguration('role_name')]


def generate_launch_description():
    """Return planner and controller, and the emulator where it is wanted; the launch ends with its drive."""
    emulated = ["'", LaunchConfiguration('emulator'), "' == 'true'"]
    rig = PythonExpression(["'sim' if ", *emulated, " else 'bench2drive'"])
    cameras = [part for name in CAMERA_NAMES for part in (f'{name}=', *VEHICLE, f'/{name}/image, ')]
    topics = {name: theirs if theirs[0] == '/' else [*VEHICLE, f'/{theirs}'] for name, theirs in TOPICS.items()}
    return launching.description(
        launching.argument('emulator', 'false', "start the emulator of CARLA's bridge", ['true', 'false']),
        launching.knob_argument(PlannerParameters, 'rig', rig),
        launching.arguments(CarlaBridgeParameters, defaults={'synchronous': True, 'role_name': ROLE}),
        # Planner and controller have one mount between them.
        [launching.knob_argument(PlannerParameters, name, value) for name, value in PLANNER.items()],
        [launching.argument(f'{name}_topic', topic, f'{name} behind the bridge') for name, topic in topics.items()],
        launching.argument('camera_topics', cameras, 'entries CAMERA=IMAGE_TOPIC, by comma'),
        launching.argument('use_sim_time', 'true', 'take time from /clock', ['true', 'false']),
        launching.where_true('synchronous', PlannerParameters, WAITING_PLANNER),
        launching.where_true('synchronous', ControllerParameters, WAITING_CONTROLLER),
        launching.driver(image_transport='raw'),
        launching.node('carla_localizer', also=('use_sim_time',), when='leaderboard'),
        launching.node('carla_bridge', when='emulator'),
        launching.shut_down_after('carla_bridge', 'the drive is over'),
        launching.shut_down_after('carla_localizer', 'there is no odometry without the localiser'),
        launching.shut_down_without_planner(),
    )
