# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a replay leaves out of a recording: everything that running nodes publish themselves, and no input."""

from __future__ import annotations

import pytest

from vla_driver.bag.outputs import live_name, outputs

PATH, MARKERS = 'nav_msgs/msg/Path', 'visualization_msgs/msg/MarkerArray'

INPUTS = {
    '/camera/front/image/compressed': 'sensor_msgs/msg/CompressedImage',
    '/camera/front/image': 'sensor_msgs/msg/Image',
    '/camera/front/camera_info': 'sensor_msgs/msg/CameraInfo',
    '/odom': 'nav_msgs/msg/Odometry',
    '/route': PATH,
    '/turn_command': 'vla_driver/msg/TurnCommand',
    '/tf': 'tf2_msgs/msg/TFMessage',
    '/tf_static': 'tf2_msgs/msg/TFMessage',
    '/clock': 'rosgraph_msgs/msg/Clock',
    '/ground_truth/agents': MARKERS,
    '/ground_truth/road_boundary': MARKERS,
    '/ground_truth/expert_trajectory': PATH,
    # Somebody else's, of names that ours have, too.
    '/carla/markers': MARKERS,
    '/planning/path': PATH,
}
OURS = {
    '/plan': 'vla_driver/msg/DrivingPlan',
    '/path': PATH,
    '/markers': MARKERS,
    '/tokens': 'vla_driver/msg/TokenSelection',
    '/control': 'vla_driver/msg/ControlCommand',
    '/vehicle_control_cmd': 'carla_msgs/msg/CarlaEgoVehicleControl',
}
SYSTEM = {
    '/diagnostics': 'diagnostic_msgs/msg/DiagnosticArray',
    '/rosout': 'rcl_interfaces/msg/Log',
    '/parameter_events': 'rcl_interfaces/msg/ParameterEvent',
    '/planner/transition_event': 'lifecycle_msgs/msg/TransitionEvent',
    '/ego/controller/transition_event': 'lifecycle_msgs/msg/TransitionEvent',
}


@pytest.mark.parametrize('namespace', ['', '/ego', '/fleet/ego'])
def test_outputs_are_found_in_the_namespace_they_were_recorded_in(namespace: str):
    ours = {f'{namespace}{topic}': kind for topic, kind in OURS.items()}
    inputs = INPUTS | {f'{namespace}{topic}': kind for topic, kind in INPUTS.items()}
    assert set(outputs(inputs | ours | SYSTEM)) == set(ours) | set(SYSTEM)


@pytest.mark.parametrize(
    ('topic', 'kind'),
    [
        ('/hero/steer', 'vla_driver/msg/ControlCommand'),
        ('/carla/hero/vehicle_control_cmd', 'carla_msgs/msg/CarlaEgoVehicleControl'),
        ('/carla/hero/ackermann_cmd', 'ackermann_msgs/msg/AckermannDrive'),
        ('/drive', 'ackermann_msgs/msg/AckermannDriveStamped'),
        ('/control/command/control_cmd', 'autoware_control_msgs/msg/Control'),
    ],
)
def test_a_command_is_an_output_whatever_it_is_called(topic: str, kind: str):
    assert outputs({**INPUTS, topic: kind}) == {topic: 'it commands a vehicle'}


def test_a_name_of_ours_is_an_output_of_any_type_at_the_root_alone():
    foreign = {'/plan': PATH, '/ego/plan': PATH, '/ego/path': PATH}
    assert outputs(foreign) == {'/plan': 'the planner publishes it'}
    assert [topic for topic in ('/plan', '/path', '/route', '/ego/path') if live_name(topic)] == ['/plan', '/path']
