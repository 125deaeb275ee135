# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files and the parameter file fit the nodes they start.

`ros2 launch` itself is not installable by pip: where it is absent, the files are only compiled and their
parameters are compared with the nodes' own tables.
"""

import ast
import dataclasses
from importlib.util import find_spec

import pytest
import yaml

from vla_driver.resources import resource
from vla_driver.ros.nodes.bag_player import BagPlayerParameters
from vla_driver.ros.nodes.controller import ControllerNode, ControllerParameters
from vla_driver.ros.nodes.planner import PlannerParameters
from vla_driver.ros.nodes.simulator import SimulatorParameters
from vla_driver.settings.knob import check
from vla_driver.settings.planner import START_S

TABLES = {
    'planner': PlannerParameters,
    'controller': ControllerParameters,
    'bag_player': BagPlayerParameters,
    'simulator': SimulatorParameters,
}
LAUNCH_FILES = ('driver', 'replay', 'sim')


@pytest.mark.parametrize('name', LAUNCH_FILES)
def test_a_launch_file_compiles_and_describes_its_arguments(name):
    path = resource('launch', f'{name}.launch.py')
    compile(path.read_text(encoding='utf-8'), str(path), 'exec')
    tree = ast.parse(path.read_text(encoding='utf-8'))
    calls = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    declared = [call for call in calls if call.func.id == 'DeclareLaunchArgument']
    assert all({keyword.arg for keyword in call.keywords} & {'description'} for call in declared)
    assert 'generate_launch_description' in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(('name', 'node'), [('replay', 'bag_player'), ('sim', 'simulator')])
def test_parameters_in_a_launch_file_are_the_nodes_own(name, node):
    tree = ast.parse(resource('launch', f'{name}.launch.py').read_text(encoding='utf-8'))
    given = {key.value for entry in ast.walk(tree) if isinstance(entry, ast.Dict) for key in entry.keys}
    assert given
    assert given <= {field.name for field in dataclasses.fields(TABLES[node])}


@pytest.mark.parametrize('node', ['planner', 'controller'])
def test_the_drivers_arguments_are_parameters_and_described(node):
    tree = ast.parse(resource('launch', 'driver.launch.py').read_text(encoding='utf-8'))
    tables = {entry.targets[0].id: entry.value for entry in tree.body if isinstance(entry, ast.Assign)}
    given = {key.value for key in tables[node.upper()].keys}
    assert given <= {field.name for field in dataclasses.fields(TABLES[node])}
    calls = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    assert given <= {call.args[0].value for call in calls if call.func.id == 'argument'}
    if node == 'controller':
        assert 'carla_max_steer_rad' in given


def test_a_launched_replay_waits_for_a_planner_as_long_as_the_command_does():
    tree = ast.parse(resource('launch', 'replay.launch.py').read_text(encoding='utf-8'))
    calls = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)]
    defaults = {
        call.args[0].value: {word.arg: word.value for word in call.keywords}.get('default_value')
        for call in calls
        if call.func.id == 'DeclareLaunchArgument'
    }
    given = {
        key.value: entry for d in ast.walk(tree) if isinstance(d, ast.Dict) for key, entry in zip(d.keys, d.values)
    }
    for name in ('wait_s', 'include'):
        assert f"value('{name}')" in ast.unparse(given[name])
    assert float(defaults['wait_s'].value) == START_S == 120.0
    check(BagPlayerParameters, 'wait_s', float(defaults['wait_s'].value))
    check(BagPlayerParameters, 'include', yaml.safe_load(defaults['include'].value))


def test_the_parameter_file_fits_the_nodes():
    content = yaml.safe_load(resource('config', 'driver.yaml').read_text(encoding='utf-8'))
    # With any namespace in front: `planner:` alone would fit the root's only, and be ignored elsewhere without a word.
    assert set(content) == {'/**/planner', '/**/controller'}
    for key, section in content.items():
        node = key.removeprefix('/**/')
        for name, value in section['ros__parameters'].items():
            check(TABLES[node], name, value)


@pytest.mark.skipif(find_spec('launch_ros') is None, reason='ros2 launch is not installed (it is not on PyPI)')
@pytest.mark.parametrize('name', LAUNCH_FILES)
def test_ros2_launch_loads_the_file(name):
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext

    source = PythonLaunchDescriptionSource(str(resource('launch', f'{name}.launch.py')))
    description = source.get_launch_description(LaunchContext())
    arguments = {argument.name: argument.description for argument in description.get_launch_arguments()}
    assert {'driver': 'policy', 'replay': 'bag', 'sim': 'scenario'}[name] in arguments
    assert all(arguments.values())


@pytest.mark.parametrize('namespace', ['', '/ego', '/fleet/ego'])
def test_the_parameter_file_fits_any_namespace(probe, tmp_path, namespace):
    text = resource('config', 'driver.yaml').read_text(encoding='utf-8')
    file = tmp_path / 'mine.yaml'
    file.write_text(text.replace('wheelbase_m: 2.8', 'wheelbase_m: 3.3'), encoding='utf-8')
    words = ['--ros-args', '--params-file', str(file)]
    node = ControllerNode(context=probe.context, namespace=namespace, cli_args=words)
    try:
        assert node.parameters.wheelbase_m == 3.3
    finally:
        node.destroy_node()
