# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The agent for CARLA's leaderboard, which is not on PyPI: its base class stands in, its rules are written out here."""

from __future__ import annotations

import enum
import importlib.util
import json
import math
import re
import shlex
import sys
import types
from typing import Any

import numpy as np
import pytest

from vla_driver.geometry.carla import MKZ_CENTRE_M, from_carla
from vla_driver.geometry.rig import load_rig
from vla_driver.resources import resource
from vla_driver.settings.knob import knobs
from vla_driver.settings.nodes.carla_bridge import TOPICS, CarlaBridgeParameters
from vla_driver.types import CAMERA_NAMES

#: leaderboard/autoagents/agent_wrapper.py: how many of each, and how far from the vehicle's origin.
LIMITS = {
    'sensor.camera.rgb': 8,
    'sensor.lidar.ray_cast': 2,
    'sensor.other.radar': 4,
    'sensor.other.gnss': 1,
    'sensor.other.imu': 1,
    'sensor.speedometer': 1,
}
RADIUS_M = 3.0


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the agent as the leaderboard makes it, on a base class that only has its name."""
    track = enum.Enum('Track', ['SENSORS', 'MAP'])
    base = type('ROS2Agent', (), {})
    for name, values in {
        'leaderboard': {},
        'leaderboard.autoagents': {},
        'leaderboard.autoagents.autonomous_agent': {'Track': track},
        'leaderboard.autoagents.ros2_agent': {'ROS2Agent': base},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location('agent', resource('config', 'carla', 'leaderboard_agent.py'))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = getattr(module, module.get_entry_point())()
    assert isinstance(made, base)
    made.setup('')
    assert made.track is track.SENSORS  # type: ignore[attr-defined]
    return made


def test_its_sensors_are_those_that_the_track_allows(agent: Any) -> None:
    sensors = agent.sensors()
    assert len({sensor['id'] for sensor in sensors}) == len(sensors)
    for kind in {sensor['type'] for sensor in sensors}:
        assert sum(sensor['type'] == kind for sensor in sensors) <= LIMITS[kind]
    for sensor in sensors:
        if 'x' in sensor:
            assert math.hypot(sensor['x'], sensor['y'], sensor['z']) <= RADIUS_M


def test_their_names_are_those_of_the_topics_that_the_driver_reads(agent: Any) -> None:
    """The bridge calls a topic after the sensor's id: /carla/hero/<id>."""
    names = [sensor['id'] for sensor in agent.sensors()]
    assert names[:6] == list(load_rig('bench2drive').names)
    assert set(names[:6]) == set(CAMERA_NAMES)
    assert set(names[6:]) == {'imu', 'gnss', 'speed'}
    assert 'global_plan' in TOPICS


def test_the_cameras_look_as_those_of_the_rig_do(agent: Any) -> None:
    rig = load_rig('bench2drive')
    for sensor in agent.sensors()[:6]:
        camera = rig[sensor['id']]
        pose = from_carla((sensor['x'], sensor['y'], sensor['z']), sensor['pitch'], sensor['yaw'], sensor['roll'])
        # A camera's z axis looks ahead; CARLA's sensor looks along its x axis.
        np.testing.assert_allclose(pose[:3, 0], camera.base_from_camera[:3, 2], atol=1e-6)
        np.testing.assert_allclose(pose[:3, 3] + [MKZ_CENTRE_M, 0, 0], camera.base_from_camera[:3, 3], atol=1e-6)
        assert (sensor['width'], sensor['height']) == (camera.width, camera.height)
        half = math.radians(sensor['fov'] / 2.0)
        assert camera.intrinsics[0, 0] == pytest.approx(camera.width / (2.0 * math.tan(half)), rel=1e-6)


def test_it_launches_the_driver_with_arguments_that_exist(agent: Any) -> None:
    entry = agent.get_ros_entrypoint()
    assert (entry['package'], entry['launch_file']) == ('vla_driver', 'carla.launch.py')
    assert resource('launch', 'carla.launch.py').is_file()
    assert entry['parameters']['leaderboard'] == 'true'
    launched = {name for name, knob in knobs(CarlaBridgeParameters).items() if knob.rule.launch}
    assert set(entry['parameters']) <= launched


def test_more_arguments_are_written_as_the_command_line_takes_them(agent: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leaderboard makes one text of all, NAME:=VALUE, and a shell's rules take it apart."""
    given = {'model': 'my models/nano', 'use_camera_info': False, 'wait_s': 0.5, 'role_name': 'other'}
    monkeypatch.setenv('VLA_DRIVER_ARGUMENTS', json.dumps(given))
    parameters = agent.get_ros_entrypoint()['parameters']
    words = shlex.split(' '.join(f'{name}:={value}' for name, value in parameters.items()))
    assert words[1:] == [
        'role_name:=other', 'synchronous:=true', 'model:=my models/nano', 'use_camera_info:=false', 'wait_s:=0.5',
    ]  # fmt: skip
    for text in ('{"model": ', '[1]', '3'):
        monkeypatch.setenv('VLA_DRIVER_ARGUMENTS', text)
        with pytest.raises(ValueError, match=re.escape(f'VLA_DRIVER_ARGUMENTS is {text!r}, expected a JSON object')):
            agent.get_ros_entrypoint()
