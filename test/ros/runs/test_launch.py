# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files start the nodes as their arguments say, and refuse what nobody can mean.

`ros2 launch` itself is not installable by pip: these tests run the files with a stand-in (`fixtures/launching.py`).
"""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.launching import Context, Launcher

from vla_driver.bag import schema
from vla_driver.bag.sample import sample_bag_path
from vla_driver.bag.write import BagWriter
from vla_driver.geometry.rig import load_rig, rig_to_yaml
from vla_driver.resources import resource
from vla_driver.ros.nodes.controller import ControllerNode
from vla_driver.settings.knob import Knob, knobs
from vla_driver.settings.launch_arguments import launched
from vla_driver.settings.nodes.parameter_file import TABLES
from vla_driver.settings.nodes.planner import START_S
from vla_driver.types import CAMERA_NAMES, CameraRig, EgoState, InvalidInput

NODES = {
    'driver': ('planner', 'controller'),
    'replay': ('planner', 'controller', 'bag_player'),
    'sim': ('planner', 'controller', 'simulator'),
    'carla': ('planner', 'controller', 'carla_bridge'),
    'autoware': ('planner', 'controller'),
}
#: What a deployment sets: these have arguments in every launch file.
DEPLOYMENT = (
    *('policy', 'model', 'device', 'prompt', 'threads', 'rig', 'rectified', 'use_camera_info', 'missing_cameras'),
    *('image_transport', 'max_skew_s', 'max_age_s', 'plan_ttl_s', 'turn_command_required'),
    *('pruner', 'prune_ratio', 'prune_count', 'prune_scope', 'prune_floor', 'prune_camera_weights'),
    *('wheelbase_m', 'max_steering_rad', 'carla_max_steer_rad', 'odometry_timeout_s', 'autostart', 'use_sim_time'),
    *('namespace', 'params_file', 'log_level', 'odom_topic', 'route_topic', 'camera_topics', 'control_topic'),
)
BAG = f'bag:={sample_bag_path()}'
#: What is found in it.
FOUND = {'missing_cameras': ['require'], 'turn_command_required': True, 'use_tf': False}


@pytest.mark.parametrize('name', NODES)
def test_a_launch_file_has_the_deployments_arguments_and_describes_all(name: str, launcher: Launcher) -> None:
    arguments = launcher.arguments(name)
    assert set(DEPLOYMENT) <= set(arguments)
    assert all(len(argument.description) > 8 or argument.name == 'log_level' for argument in arguments.values())
    own = [knob for node in NODES[name] for knob in launched(TABLES[node]).values()]
    assert {knob.launch_name for knob in own} <= set(arguments)
    assert arguments['policy'].choices == ['', 'model', 'blind', 'constant-velocity']
    assert (arguments['threads'].default, arguments['threads'].choices) == ('', None)


@pytest.mark.parametrize(('name', 'words'), [('driver', ()), ('replay', (BAG,)), ('sim', ('synchronous:=false',))])
def test_arguments_that_are_not_given_leave_the_parameter_file_alone(
    name: str, words: tuple[str, ...], launcher: Launcher
) -> None:
    run = launcher(name, *words)
    assert tuple(run.started) == NODES[name]
    of_sim = {'planner': {'rig': 'sim', 'use_sim_time': False}, 'controller': {'use_sim_time': False}}
    for node in ('planner', 'controller'):
        given = dict(run.started[node].parameters)
        if (name, node) == ('replay', 'planner'):
            assert given.pop('rig').endswith('rig.yaml')
            assert len(given.pop('image_transport')) == 6
            assert {name: given[name] for name in FOUND} == FOUND
            continue
        if name == 'replay':
            assert given.pop('odometry_mount') == [0.0, 0.0, 0.0]  # what the bag's frames say
        assert given == ({} if name != 'sim' else of_sim[node])
    for started in run.started.values():
        assert started.params_file == str(resource('config', 'driver.yaml'))
        assert (started.namespace, started.arguments) == ('', ['--log-level', 'info'])


def test_what_is_given_reaches_its_node_as_the_parameters_type(launcher: Launcher, tmp_path: Path) -> None:
    file = tmp_path / 'mine.yaml'
    file.touch()
    words = ['policy:=blind', 'model:=1.5', 'threads:=2', 'max_skew_s:=0', 'rectified:=true', 'use_sim_time:=true']
    words += ['image_transport:=raw', 'missing_cameras:=[back=skip, front_left=black]', 'odometry_timeout_s:=1']
    words += ['prune_camera_weights:=["front=2.0"]', 'namespace:=/ego', f'params_file:={file}', 'log_level:=debug']
    run = launcher('driver', *words)
    assert run.started['planner'].parameters == {
        'policy': 'blind',
        'model': '1.5',
        'threads': 2,
        'max_skew_s': 0.0,
        'rectified': True,
        'use_sim_time': True,
        'image_transport': ['raw'],
        'missing_cameras': ['back=skip', 'front_left=black'],
        'prune_camera_weights': ['front=2.0'],
    }
    assert run.started['controller'].parameters == {'odometry_timeout_s': 1.0, 'use_sim_time': True}
    for started in run.started.values():
        assert (started.namespace, started.params_file) == ('/ego', str(file))
        assert started.arguments == ['--log-level', 'debug']


def test_every_argument_of_a_node_reaches_it(launcher: Launcher) -> None:
    """With values that are not the defaults, so that a parameter left out would show."""

    def other_than_default(knob: Knob) -> Any:
        choices = [choice for choice in knob.rule.choices if choice != knob.default]
        low, high = knob.rule.low or 0.0, knob.rule.high or 1.0
        number = 0.75 if low <= 0.75 <= high else (low + high) / 2
        value: Any = {bool: not knob.default, int: 7, float: number, str: choices[0] if choices else 'seven'}[knob.kind]
        return [value] if knob.is_list else value

    others = {
        node: {name: other_than_default(knob) for name, knob in launched(table).items()}
        for node, table in TABLES.items()
    }
    for file, nodes in NODES.items():
        wanted = {node: dict(others[node]) for node in nodes}
        if file == 'sim':
            del wanted['planner']['image_transport']  # the simulator's own
        if file == 'carla':
            wanted['planner'] |= {'image_transport': ['raw'], 'rig': 'sim'}  # the bridge's, and of cameras that it has
            wanted['carla_bridge']['rig'] = 'sim'
        if file == 'autoware':
            wanted['planner']['rig'] = 'sim'  # of cameras that its topics are for
        words = {'emulator': 'true'} if file == 'carla' else {}
        for node in nodes:
            for name, value in wanted[node].items():
                text = value[0] if isinstance(value, list) else str(value).lower() if value in (True, False) else value
                words[knobs(TABLES[node])[name].launch_name] = str(text)
        if file == 'replay':
            words |= {
                'bag': str(sample_bag_path()),
                'rig': 'sim',
                'missing_cameras': 'back=skip',
                'image_transport': 'raw',
            }
            wanted['bag_player']['bag'] = words['bag']
            wanted['planner'] |= {'rig': 'sim', 'missing_cameras': ['back=skip'], 'image_transport': ['raw']}
        run = launcher(file, *(f'{name}:={text}' for name, text in words.items()))
        for node in nodes:
            given = dict(run.started[node].parameters)
            given.pop('use_sim_time', None)
            if node == 'bag_player':
                given['include'] = given['include'][:1]  # then come the inputs that are found in the bag
            assert given == wanted[node], (file, node)


def test_topics_are_renamed(launcher: Launcher) -> None:
    run = launcher(
        'driver', 'odom_topic:=/carla/odometry', 'camera_topics:=front=/c/front/image, back=/c/back/image/compressed'
    )
    for started in run.started.values():
        assert started.remappings['odom'] == '/carla/odometry'
        assert 'route' not in started.remappings
        assert started.remappings['control'] == 'control'
        assert started.remappings['camera/front/image'] == '/c/front/image'
        assert started.remappings['camera/back/image/compressed'] == '/c/back/image/compressed'
        assert started.remappings['camera/back/camera_info'] == '/c/back/camera_info'
    run = launcher('driver', 'camera_topics:=["front=/CAM_FRONT/image_rect_compressed"]')
    assert run.started['planner'].remappings['camera/front/image/compressed'] == '/CAM_FRONT/image_rect_compressed'


def test_a_topics_file_names_what_arguments_do_not(launcher: Launcher, tmp_path: Path) -> None:
    file = tmp_path / 'topics.yaml'
    file.write_text('cameras: {front: /c0/image, back: /c3/image}\nodom: /kinematic_state\n', encoding='utf-8')
    run = launcher('driver', f'topics_file:={file}', 'camera_topics:=back=/c4/image')
    remappings = run.started['planner'].remappings
    assert remappings['odom'] == '/kinematic_state'
    assert (remappings['camera/front/image'], remappings['camera/back/image']) == ('/c0/image', '/c4/image')
    file.write_text('cameras: {frnt: /c0/image}', encoding='utf-8')
    with pytest.raises(InvalidInput, match=r"no camera 'frnt' \(did you mean 'front'\?\)"):
        launcher('driver', f'topics_file:={file}')


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('camera_topics:=front', "camera_topics: 'front', expected CAMERA=/TOPIC"),
        ('camera_topics:=front_lft=/x', r"'front_lft' \(did you mean 'front_left'\?\)"),
        ('camera_topics:=front=c/front/image', 'is no topic, expected .* did you mean /c/front/image'),
        ('camera_topics:=front=/c//image', "'/c//image' is no topic"),
        ('camera_topics:=front=/a,front=/b', 'camera front is given twice'),
        ('camera_topics:=front=/a,back=/a', 'cameras front and back are both on /a'),
        ('topics_file:=/nothing.yaml', r'/nothing\.yaml cannot be read'),
        ('odom_topic:=/my odom', "launch argument odom_topic: '/my odom' is no topic"),
        ('control_topic:=bad name', "launch argument control_topic: 'bad name' is no topic"),
    ],
)
@pytest.mark.parametrize('name', ['driver', 'replay'])
def test_topics_that_nobody_can_mean_are_refused(name: str, word: str, message: str, launcher: Launcher) -> None:
    words = [BAG] if name == 'replay' else []
    with pytest.raises(InvalidInput, match=message):
        launcher(name, *words, word)


def test_cameras_are_those_of_the_rig(launcher: Launcher, tmp_path: Path) -> None:
    rig = load_rig('sim')
    file = tmp_path / 'rig.yaml'
    file.write_text(rig_to_yaml(CameraRig('mine', (rig['front'], dataclasses.replace(rig['back'], name='roof')))))
    run = launcher('driver', f'rig:={file}', 'camera_topics:=roof=/roof/image')
    assert run.started['planner'].remappings['camera/roof/image'] == '/roof/image'
    with pytest.raises(InvalidInput, match="no camera 'back'"):
        launcher('driver', f'rig:={file}', 'camera_topics:=back=/back/image')
    params = tmp_path / 'params.yaml'
    params.write_text(f'/**/planner: {{ros__parameters: {{rig: {file}}}}}')
    with pytest.raises(InvalidInput, match="no camera 'back'"):
        launcher('driver', f'params_file:={params}', 'camera_topics:=back=/back/image')


def test_a_replay_waits_for_a_planner_that_loads_and_ends_with_the_bag(launcher: Launcher) -> None:
    with pytest.raises(RuntimeError, match='"bag" was not provided'):
        launcher('replay')
    run = launcher('replay', BAG)
    player = dict(run.started['bag_player'].parameters)
    waited_for, include = player.pop('wait_for_subscribers'), player.pop('include')
    assert player == {'bag': str(sample_bag_path()), 'wait_s': START_S}
    assert set(waited_for) == {'/odom', '/route', *(f'/camera/{name}/image/compressed' for name in CAMERA_NAMES)}
    assert set(waited_for) | {'/turn_command'} <= set(include)
    assert any('front <- /camera/front/image/compressed' in line for line in run.told)
    run = launcher('replay', BAG, 'wait_s:=5', 'wait_for:=/odom, /route', 'include:=["/clock"]', 'autostart:=false')
    player = dict(run.started['bag_player'].parameters)
    assert player.pop('include')[0] == '/clock'
    assert player == {'bag': str(sample_bag_path()), 'wait_s': 5.0, 'wait_for_subscribers': ['/odom', '/route']}
    assert run.started['planner'].parameters['autostart'] is False
    assert ends(run) == ['bag_player', 'planner']


@pytest.fixture(scope='module')
def foreign_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of another vehicle: two cameras, one of them with a number; its route bears the planner's name."""
    path = tmp_path_factory.mktemp('bags') / 'foreign'
    rig = load_rig('sim')
    mounted = CameraRig('mine', tuple(dataclasses.replace(rig['front'], name=name) for name in ('front', 'back')))
    with BagWriter(path, mounted) as bag:
        bag.write_odometry(EgoState(100.0, 0.0, 0.0, 0.0, 5.0))
        header = bag._header(100.0, 'odom')
        bag.write(schema.Topic('/path', schema.PATH), bag._new(schema.PATH, header=header, poses=[]), 100.0)
        for topic in ('/FrontCamera/image', '/camera7/image', '/camera8/image'):
            picture = bag._new(
                schema.IMAGE, header=header, height=1, width=1, encoding='rgb8', is_bigendian=0, step=3,
                data=np.zeros(3, np.uint8),
            )  # fmt: skip
            bag.write(schema.Topic(topic, schema.IMAGE), picture, 100.0)
    return path


@pytest.mark.parametrize('namespace', ['', '/ego'])
def test_a_replay_finds_what_the_command_finds_and_arguments_go_before(
    foreign_bag: Path, namespace: str, launcher: Launcher
) -> None:
    words = [
        f'bag:={foreign_bag}',
        f'namespace:={namespace}',
        'camera_topics:=back=/camera7/image',
        'route_topic:=/path',
    ]
    run = launcher('replay', *words)
    root = '' if namespace else '/'
    assert run.started['planner'].remappings == {
        'camera/front/image': f'{root}FrontCamera/image',
        'camera/back/image': f'{root}camera7/image',
        # Played under its own name it would meet the planner's.
        'route': f'{root}recorded/path',
        'goal': 'goal',
        'global_plan': 'global_plan',
        'opendrive_map': 'opendrive_map',
        'control': 'control',
        'vehicle_control_cmd': 'vehicle_control_cmd',
        'ackermann_cmd': 'ackermann_cmd',
        'trajectory': 'trajectory',
    }
    assert run.started['bag_player'].remappings == {f'{root}path': f'{root}recorded/path'}
    planner = run.started['planner'].parameters
    assert planner['image_transport'] == ['front=raw', 'back=raw']
    assert planner['turn_command_required'] is False
    assert load_rig(planner['rig']).names == ('front', 'back')
    assert any('pictures that nobody uses: /camera8/image' in line for line in run.told)
    run = launcher('replay', *words, 'rig:=sim', 'turn_command_required:=true', 'missing_cameras:=back_left=black')
    planner = run.started['planner'].parameters
    assert (planner['rig'], planner['turn_command_required']) == ('sim', True)
    assert planner['missing_cameras'] == ['back_left=black']
    assert any('missing: back_left (no topic found: a black picture' in line for line in run.told)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['bag:=/nothing'], '/nothing is not a readable bag'),
        (['bag:={bag}'], 'has no route .* name it: route_topic:=/path'),
        (['bag:={bag}', 'route_topic:=/rout'], 'route: the bag has no topic /rout'),
        (['bag:={bag}', 'route_topic:=/path', 'camera_topics:=front=/odom'], 'front: topic /odom holds nav_msgs'),
        (['bag:={bag}', 'route_topic:=/path', 'camera_topics:=roof=/camera8/image'], "unknown input 'roof'"),
        (
            ['bag:={bag}', 'route_topic:=/path', 'missing_cameras:=require'],
            'camera back is required .*camera_topics:=back',
        ),
    ],
)
def test_a_bag_that_cannot_be_replayed_says_why_before_anything_waits(
    foreign_bag: Path, words: list[str], message: str, launcher: Launcher
) -> None:
    with pytest.raises(InvalidInput, match=message):
        launcher('replay', *(word.format(bag=foreign_bag) for word in words))


def ends(run: Context) -> list[str]:
    """Return the nodes with which the launch ends."""

    @dataclasses.dataclass
    class Process:
        node_executable: str

    found = []
    for handler in run.handlers:
        (emitted,) = handler.given['on_exit']
        assert emitted.given['event'].given['reason']
        found += [name for name in TABLES if handler.given['target_action'](Process(name))]
        assert not handler.given['target_action'](object())
    return found


PATIENT = {'use_sim_time': True, 'max_age_s': 10.0, 'plan_ttl_s': 5.0, 'max_skew_s': 0.01, 'rig': 'sim'}


@pytest.mark.parametrize(
    ('words', 'planner', 'controller'),
    [
        ([], PATIENT, {'use_sim_time': True, 'odometry_timeout_s': 10.0}),
        (['synchronous:=false'], {'use_sim_time': False, 'rig': 'sim'}, {'use_sim_time': False}),
        (
            ['max_age_s:=2', 'rig:=nuscenes', 'use_sim_time:=false'],
            PATIENT | {'use_sim_time': False, 'max_age_s': 2.0, 'rig': 'nuscenes'},
            {'use_sim_time': False, 'odometry_timeout_s': 10.0},
        ),
    ],
)
def test_a_driver_is_patient_where_the_world_waits(
    words: list[str], planner: dict[str, Any], controller: dict[str, Any], launcher: Launcher
) -> None:
    run = launcher('sim', *words)
    assert run.started['planner'].parameters == planner
    assert run.started['controller'].parameters == controller
    assert run.started['simulator'].parameters == {
        'rig': planner['rig'],
        'synchronous': 'synchronous:=false' not in words,
    }
    assert ends(run) == ['simulator', 'planner']


def test_how_the_simulator_sends_pictures_is_no_word_to_the_planner(launcher: Launcher) -> None:
    run = launcher('sim', 'image_transport:=both')
    assert run.started['simulator'].parameters['image_transport'] == 'both'
    assert 'image_transport' not in run.started['planner'].parameters
    with pytest.raises(RuntimeError, match='"image_transport" is not valid'):
        launcher('sim', 'image_transport:=auto')


@pytest.mark.parametrize(
    ('name', 'word', 'message'),
    [
        (
            'driver',
            'prunner:=recon',
            r"unknown launch argument 'prunner' \(did you mean 'pruner'\?\); there are: ackermann_",
        ),
        ('sim', 'scenaro:=3', r"'scenaro' \(did you mean 'scenario'\?\)"),
        ('sim', 'bag:=x', "unknown launch argument 'bag'"),
        ('replay', 'max_skew:=0.1', r"'max_skew' \(did you mean 'max_skew_s'\?\)"),
        ('driver', 'prune_ratio:=1.5', r'launch argument prune_ratio is 1.5, allowed is \[0, 0.99\]'),
        ('driver', 'params_file:=/nothing.yaml', r'launch argument params_file: there is no file /nothing\.yaml'),
        ('replay', 'params_file:=/nothing.yaml', 'launch argument params_file'),
        ('driver', 'threads:=two', "launch argument threads is 'two'"),
        ('sim', 'scenario:=-1', r'launch argument scenario is -1, allowed is \[0, 9999\]'),
        ('replay', 'rate:=0', r'launch argument rate is 0, allowed is \[0.01, 100\]'),
        ('driver', 'missing_cameras:=[]', r"missing_cameras is \[\], expected a list of str .* \['require'\]"),
        ('driver', 'odometry_mount:=[]', r'launch argument odometry_mount is \[\], expected a list of float'),
    ],
)
def test_what_nobody_can_mean_is_refused(name: str, word: str, message: str, launcher: Launcher) -> None:
    with pytest.raises(InvalidInput, match=message):
        launcher(name, word, *([BAG] if name == 'replay' else []))


def test_an_empty_list_means_what_the_parameter_calls_unset(launcher: Launcher) -> None:
    run = launcher('driver', 'prune_camera_weights:=[]')
    assert run.started['planner'].parameters['prune_camera_weights'] == ['']


def test_the_arguments_of_a_file_that_includes_ours_are_its_own_business(launcher: Launcher) -> None:
    run = launcher('driver', 'lidar:=none', 'policy:=blind', command='ros2 launch my_car car.launch.py')
    assert run.started['planner'].parameters == {'policy': 'blind'}


@pytest.mark.skipif(find_spec('launch_ros') is None, reason='ros2 launch is not installed (it is not on PyPI)')
@pytest.mark.parametrize('name', NODES)
def test_ros2_launch_loads_the_file(name: str) -> None:
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchContext

    source = PythonLaunchDescriptionSource(str(resource('launch', f'{name}.launch.py')))
    description = source.get_launch_description(LaunchContext())
    arguments = {argument.name: argument.description for argument in description.get_launch_arguments()}
    assert set(DEPLOYMENT) <= set(arguments)
    assert all(arguments.values())


@pytest.mark.parametrize('namespace', ['', '/ego', '/fleet/ego'])
def test_the_parameter_file_fits_any_namespace(probe: Any, tmp_path: Any, namespace: str) -> None:
    text = resource('config', 'driver.yaml').read_text(encoding='utf-8')
    file = tmp_path / 'mine.yaml'
    file.write_text(text.replace('wheelbase_m: 2.8', 'wheelbase_m: 3.3'), encoding='utf-8')
    words = ['--ros-args', '--params-file', str(file)]
    node = ControllerNode(context=probe.context, namespace=namespace, cli_args=words)
    try:
        assert node.parameters.wheelbase_m == 3.3
    finally:
        node.destroy_node()
