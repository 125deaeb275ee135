# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Launch files for the systems of others: the names, settings and nodes that CARLA and Autoware need."""

from __future__ import annotations

from pathlib import Path

from fixtures.launching import Launcher

from vla_driver.types import CAMERA_NAMES

PATIENT = {'max_age_s': 10.0, 'plan_ttl_s': 5.0, 'max_skew_s': 0.01}
BEHIND_BRIDGE = {
    'rig': 'bench2drive',
    'turns_from_route': True,
    'odometry_mount': [1.4, 0.0, 0.0],
    'image_transport': ['raw'],
    'use_sim_time': True,
    **PATIENT,
}


def test_behind_carlas_bridge_everything_has_the_bridges_name(launcher: Launcher) -> None:
    run = launcher('carla', 'role_name:=ego_vehicle')
    assert tuple(run.started) == ('planner', 'controller')
    planner, controller = run.started['planner'], run.started['controller']
    assert planner.parameters == BEHIND_BRIDGE
    assert controller.parameters == {
        'odometry_mount': [1.4, 0.0, 0.0],
        'odometry_timeout_s': 10.0,
        'answer_once_s': 0.9,
        'use_sim_time': True,
    }
    renamed = dict(planner.remappings)
    assert renamed['camera/back_left/image'] == '/carla/ego_vehicle/back_left/image'
    assert renamed['camera/back_left/camera_info'] == '/carla/ego_vehicle/back_left/camera_info'
    assert (renamed['odom'], renamed['route']) == ('/carla/ego_vehicle/odometry', '/carla/ego_vehicle/waypoints')
    assert (renamed['global_plan'], renamed['opendrive_map']) == ('/carla/ego_vehicle/global_plan', '/carla/map')
    assert dict(controller.remappings)['vehicle_control_cmd'] == '/carla/ego_vehicle/vehicle_control_cmd'


def test_for_the_leaderboard_there_is_a_localiser(launcher: Launcher) -> None:
    run = launcher('carla', 'leaderboard:=true', 'role_name:=hero')
    assert tuple(run.started) == ('planner', 'controller', 'carla_localizer')
    assert run.started['carla_localizer'].parameters == {'role_name': 'hero', 'use_sim_time': True}
    assert dict(run.started['planner'].remappings)['odom'] == '/carla/hero/odometry'
    run = launcher('carla', 'leaderboard:=true', 'emulator:=true')
    assert run.started['carla_bridge'].parameters['leaderboard'] is True


def test_the_emulator_has_the_vehicles_name_and_the_simulators_cameras(launcher: Launcher) -> None:
    run = launcher('carla', 'emulator:=true', 'split:=test', 'scenario:=3', 'synchronous:=false')
    assert run.started['carla_bridge'].parameters == {
        'role_name': 'hero',
        'rig': 'sim',
        'split': 'test',
        'scenario': 3,
        'synchronous': False,
    }
    unhurried = {name: value for name, value in BEHIND_BRIDGE.items() if name not in PATIENT}
    assert run.started['planner'].parameters == unhurried | {'rig': 'sim'}
    assert 'answer_once_s' not in run.started['controller'].parameters


def test_another_odometry_may_be_named_behind_the_bridge(launcher: Launcher) -> None:
    """CARLA's own ROS 2 support publishes none."""
    run = launcher('carla', 'odom_topic:=/localization/odometry', 'odometry_mount:=[0.0, 0.0, 0.0]')
    assert dict(run.started['planner'].remappings)['odom'] == '/localization/odometry'
    assert run.started['planner'].parameters['odometry_mount'] == [0.0, 0.0, 0.0]


def test_in_an_autoware_system_everything_has_its_name_there(launcher: Launcher) -> None:
    run = launcher('autoware', 'trajectory_topic:=/planning/trajectory')
    assert tuple(run.started) == ('planner', 'controller')
    planner, controller = run.started['planner'], run.started['controller']
    assert (planner.parameters, controller.parameters) == ({'turns_from_route': True}, {})
    renamed = planner.remappings
    # The sample sensor kit's camera4 looks ahead.
    assert renamed['camera/front/image'] == '/sensing/camera/camera4/image_raw'
    assert renamed['camera/front/image/compressed'] == '/sensing/camera/camera4/image_raw/compressed'
    assert renamed['camera/front/camera_info'] == '/sensing/camera/camera4/camera_info'
    mapped = {renamed[f'camera/{name}/image'] for name in CAMERA_NAMES}
    assert mapped == {f'/sensing/camera/camera{number}/image_raw' for number in range(6)}
    assert (renamed['odom'], renamed['trajectory']) == ('/localization/kinematic_state', '/planning/trajectory')
    assert controller.remappings['odom'] == '/localization/kinematic_state'


def test_a_vehicle_in_an_autoware_system_has_a_file_of_its_own(launcher: Launcher, tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('cameras: {front: /sensing/camera/camera0/image_rect_color}\n', encoding='utf-8')
    run = launcher('autoware', f'topics_file:={file}', 'turns_from_route:=false')
    remappings = run.started['planner'].remappings
    assert remappings['camera/front/image/compressed'] == '/sensing/camera/camera0/image_rect_color/compressed'
    assert 'odom' not in remappings
    assert run.started['planner'].parameters == {'turns_from_route': False}
    assert run.started['planner'].remappings['trajectory'] == 'trajectory'
