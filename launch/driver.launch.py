# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The driver on a vehicle: planner and controller, fed by somebody else's cameras and odometry; reasoner:=true adds the
slow half, which says in words what to do next.

Topics are relative to `namespace`, or named by arguments; carla.launch.py has those of CARLA's bridge,
autoware.launch.py those of Autoware.  E.g. a stack whose route is a dense line, and which tells no turns:
    ros2 launch vla_driver driver.launch.py rig:=my_rig.yaml odom_topic:=/localization/odometry \
        route_topic:=/planning/path turns_from_route:=true \
        camera_topics:="front=/sensing/front/image, front_left=/sensing/left/image, ..." \
An argument that is not given leaves its parameter as `params_file` or the node itself has it.
"""

from launch.substitutions import LaunchConfiguration

from vla_driver.ros.runs import launching
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.settings.nodes.reasoner import ReasonerParameters

#: Topics that an argument `<name>_topic` renames.
INPUTS = {
    'odom': 'nav_msgs/Odometry of the vehicle',
    'route': 'nav_msgs/Path in the odometry frame, latched; a dense one is thinned',
    'turn_command': 'vla_driver/TurnCommand of the navigation',
}
#: Other ways to say where to go, and what turns are made of with turns_from_route.
ABOUT_ROUTE = {
    'goal': 'geometry_msgs/PoseStamped, a route of one point',
    'global_plan': "carla_msgs/CarlaRoute of CARLA's leaderboard",
    'opendrive_map': "std_msgs/String, an OpenDRIVE map in the route's frame, latched",
}
OUTPUTS = {
    'control': 'vla_driver/ControlCommand, the output',
    'vehicle_control_cmd': "the same for CARLA's bridge",
    'ackermann_cmd': 'the same as ackermann_msgs/AckermannDrive',
    'trajectory': 'the plan as autoware_planning_msgs/Trajectory',
}


def remappings(context):
    """Return the remappings of all nodes."""
    return [*launching.input_remappings(context), *launching.renamings(context, [*ABOUT_ROUTE, *OUTPUTS])]


def generate_launch_description():
    """Return planner and controller, and the reasoner where it is wanted."""
    cameras = 'entries CAMERA=IMAGE_TOPIC, by comma; others are camera/<name>/image'
    switches = ('use_sim_time', 'autostart')
    return launching.description(
        launching.arguments(PlannerParameters),
        launching.arguments(ControllerParameters),
        launching.argument('reasoner', 'false', 'start the reasoner as well', ['true', 'false']),
        # Fast and slow are one model, unless somebody wants another one to think.
        launching.knob_argument(ReasonerParameters, 'checkpoint', LaunchConfiguration('model')),
        launching.arguments(ReasonerParameters),
        [
            launching.argument(f'{name}_topic', name, what)
            for name, what in {**INPUTS, **ABOUT_ROUTE, **OUTPUTS}.items()
        ],
        launching.argument('camera_topics', '', cameras),
        launching.argument('topics_file', '', 'a YAML file of all these, such as config/topics/autoware.yaml'),
        launching.argument('use_sim_time', '', 'take time from /clock', ['', 'true', 'false']),
        launching.knob_argument(PlannerParameters, 'autostart'),
        launching.node('planner', also=switches, remappings=remappings),
        launching.node('controller', also=switches, remappings=remappings),
        launching.node('reasoner', also=switches, remappings=remappings, when='reasoner'),
    )
