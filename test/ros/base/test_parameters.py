# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters: checked when a node starts and whenever somebody sets one, refused with the reason."""

import time
from dataclasses import dataclass

import pytest
import rclpy
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.parameter import Parameter

from vla_driver.ros.base import parameters as ros_parameters
from vla_driver.settings.knob import knobs, parameter
from vla_driver.settings.nodes.controller import ControllerParameters
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Table:
    """One parameter of each kind."""

    speed: float = parameter(1.5, 'metres per second', low=0.0, high=10.0, live=True)
    count: int = parameter(3, 'how many', low=1, high=5)
    mode: str = parameter('auto', 'which', choices=('auto', 'raw', 'compressed'))
    flag: bool = parameter(False, 'whether')
    names: tuple[str, ...] = parameter(('',), 'which ones')
    place: tuple[float, ...] = parameter((0.0, 0.0), 'where', live=True)


@pytest.fixture
def node_with():
    context = rclpy.Context()
    rclpy.init(context=context)
    made = []

    def make(**values):
        node = rclpy.create_node(
            f'parameters_{len(made)}',
            context=context,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        made.append(node)
        return node

    yield make
    for node in made:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_defaults_and_overrides(node_with):
    assert ros_parameters.declare(node_with(), Table) == Table()
    got = ros_parameters.declare(node_with(speed=2, names=['a', 'b'], mode='raw', count=5, flag=True), Table)
    assert got == Table(2.0, 5, 'raw', True, ('a', 'b'))
    assert isinstance(got.speed, float)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'speed': 11.0}, r'speed is 11, allowed is \[0, 10\]'),
        ({'speed': float('nan')}, 'speed is nan, expected a finite number'),
        ({'speed': 'fast'}, "speed is 'fast'"),
        ({'count': 6}, r'count is 6, allowed is \[1, 5\]'),
        ({'count': True}, 'count is True'),
        ({'mode': 'compresed'}, "did you mean 'compressed'"),
        ({'flag': 1}, 'flag is 1'),
        ({'names': 'front'}, "names is 'front', expected a list"),
        ({'sped': 1.0}, "no parameter 'sped'; did you mean 'speed'"),
    ],
)
def test_bad_values_and_misspelt_names_are_refused(node_with, values, message):
    with pytest.raises(InvalidInput, match=message):
        ros_parameters.declare(node_with(**values), Table)


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('max_age', 'max_age_s'),
        ('maxage_s', 'max_age_s'),
        ('modle', 'model'),
        ('polcy', 'policy'),
        ('plan_ttl', 'plan_ttl_s'),
        ('image_transports', 'image_transport'),
        ('wheelbase', 'wheelbase_m'),
        ('wheel_base', None),
        ('max_steer_angle', None),
        ('device_id', None),
        ('model_path', None),
        ('robot_description', None),
        ('frame_id', None),
        ('rate_limit', None),
        ('planner.model', None),
    ],
)
def test_a_name_is_a_slip_or_somebody_elses(name, meant):
    ours = [field for table in (PlannerParameters, ControllerParameters) for field in knobs(table)]
    assert ros_parameters.misspelt(name, ours) == meant


def test_parameters_of_others_are_named_once_and_have_no_effect(node_with, capfd):
    values = {'wheel_base': 2.79, 'robot.description': '<robot/>', 'speed': 2.0}
    assert ros_parameters.declare(node_with(**values), Table) == Table(speed=2.0)
    warnings = [line for line in capfd.readouterr().err.splitlines() if 'WARN' in line]
    assert len(warnings) == 1
    assert 'not parameters of this node, without effect here: robot.description, wheel_base (it has: ' in warnings[0]
    standard = {
        'use_sim_time': True,
        'qos_overrides./odom.subscription.depth': 3,
        'bond_disable_heartbeat_timeout': True,
    }
    assert ros_parameters.declare(node_with(**standard), Table) == Table()
    assert 'WARN' not in capfd.readouterr().err


@pytest.mark.parametrize('node', ['planner', 'controller', 'bag_player', 'simulator'])
def test_no_node_dies_of_them(nodes, node):
    started = nodes.start(node, {'wheel_base': 2.79, 'autostart': False})
    end = time.monotonic() + 30.0
    while 'without effect here: wheel_base' not in started.output:
        assert started.running and time.monotonic() < end, started.output
        time.sleep(0.05)
    assert started.running


def test_setting_is_refused_with_a_reason(node_with):
    node = node_with()
    ros_parameters.declare(node, Table)
    configured = False
    node.add_on_set_parameters_callback(lambda given: ros_parameters.judge(Table, given, configured))

    def set_one(name, value):
        return node.set_parameters([Parameter(name, value=value)])[0]

    assert set_one('speed', 4.0).successful
    refused = set_one('mode', 'cooked')
    assert not refused.successful
    assert 'auto, raw, compressed' in refused.reason
    assert set_one('mode', 'raw').successful
    configured = True
    refused = set_one('mode', 'auto')
    assert not refused.successful
    assert 'clean it up first' in refused.reason
    assert set_one('speed', 5.0).successful
    assert not set_one('speed', 50.0).successful
    assert ros_parameters.read(node, Table) == Table(speed=5.0, mode='raw')


def test_a_name_that_no_parameter_has_is_named_with_the_nearest(node_with):
    node = node_with()
    ros_parameters.declare(node, Table)
    node.add_pre_set_parameters_callback(lambda given: ros_parameters.known(node, given))
    with pytest.raises(ParameterNotDeclaredException, match=r"sped \(did you mean 'speed'\?\)"):
        node.set_parameters([Parameter('sped', value=1.0)])
    assert node.set_parameters([Parameter('speed', value=2.0)])[0].successful


@pytest.fixture
def node_told():
    """Return what makes a node from words of the command line, which rcl reads."""
    made = []

    def make(*words):
        context = rclpy.Context()
        rclpy.init(context=context)
        arguments = ['--ros-args', *(part for word in words for part in ('-p', word))]
        made.append((rclpy.create_node('told', context=context, cli_args=arguments), context))
        return made[-1][0]

    yield make
    for node, context in made:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_an_empty_list_means_unset(node_told):
    node = node_told('names:=[]', 'speed:=2.0')
    assert ros_parameters.declare(node, Table) == Table(speed=2.0)
    assert ros_parameters.read(node, Table) == Table(speed=2.0)
    assert node.get_parameter('names').value == ['']


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('place:=[]', r'parameter place is \[\], expected a list of float that is not empty; .* \[0.0, 0.0\]'),
        ('speed:=[]', r'parameter speed is \[\] \(list\), expected float'),
        ('mode:=[]', r'parameter mode is \[\] \(list\), expected str'),
    ],
)
def test_an_empty_list_that_means_nothing_is_refused(node_told, word, message):
    with pytest.raises(InvalidInput, match=message):
        ros_parameters.declare(node_told(word), Table)


def test_an_empty_list_that_is_set_later(node_with):
    node = node_with(names=['a'])
    ros_parameters.declare(node, Table)
    node.add_on_set_parameters_callback(lambda given: ros_parameters.judge(Table, given, False))
    assert node.set_parameters([Parameter('names', Parameter.Type.STRING_ARRAY, [])])[0].successful
    assert ros_parameters.read(node, Table) == Table()
    refused = node.set_parameters([Parameter('place', Parameter.Type.DOUBLE_ARRAY, [])])[0]
    assert not refused.successful
    assert 'parameter place is [], expected a list of float' in refused.reason
    assert ros_parameters.merged(Table(names=('a',)), [Parameter('names', value=[])]) == Table()
