# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator node in a process of its own: it drives like the synchronous core."""

import json

import numpy as np
import pytest
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage
from visualization_msgs.msg import MarkerArray
from vla_driver.msg import ControlCommand as ControlMessage
from vla_driver.msg import DrivingPlan, TurnCommand

from vla_driver.geometry.camera_info import rig_from_camera_infos
from vla_driver.geometry.rig import load_rig
from vla_driver.observation.decode import decode_message
from vla_driver.planning.control import ControlCommand
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.ros.nodes.simulator import SimulatorNode
from vla_driver.ros.wire import conversions as convert
from vla_driver.ros.wire import qos
from vla_driver.settings.nodes.simulator import PATIENT_CONTROLLER, PATIENT_PLANNER
from vla_driver.sim.render.renderer import GraphicsUnavailableError
from vla_driver.sim.rollout import drive_route
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world.scenario import scenarios

BLIND = {'render': False, 'synchronous': True, 'diagnostics_period_s': 0.1, 'split': 'val', 'scenario': 1}


def pose(odometry):
    position, orientation = odometry.pose.pose.position, odometry.pose.pose.orientation
    return [position.x, position.y, 2.0 * np.arctan2(orientation.z, orientation.w), odometry.twist.twist.linear.x]


def test_each_answered_tick_is_one_step_of_the_core(probe, nodes, tmp_path):
    heard, routes = probe.listen(Odometry, 'odom'), probe.listen(Path, 'route', qos.LATCHED)
    commands, clock = probe.listen(TurnCommand, 'turn_command'), probe.listen(Clock, '/clock')
    agents = probe.listen(MarkerArray, 'ground_truth/agents')
    control = probe.publisher(ControlMessage, 'control')
    result = tmp_path / 'out' / 'result.json'
    simulator = nodes.start('simulator', {**BLIND, 'max_seconds': 1.5, 'result_file': str(result)})
    steering, acceleration = 0.0625, 1.0  # exact in float32
    for tick in range(15):
        probe.until(lambda tick=tick: len(heard) > tick, timeout_s=40.0)
        answer = ControlMessage(steering_angle=steering, acceleration=acceleration)
        answer.header.stamp = heard[-1].header.stamp
        control.publish(answer)
    assert simulator.wait(20.0) == 0
    probe.spin(0.2)

    with Simulation(scenarios('val', 2)[1], render=False) as core:
        expected, told = [], []
        for _ in range(15):
            expected.append([*core.ego.pose, core.ego.speed_mps])
            told.append(core.turn_command())
            core.step(ControlCommand(steering, acceleration))
        verdict = core.result()
    np.testing.assert_allclose([pose(odometry) for odometry in heard], expected, atol=1e-9)
    np.testing.assert_allclose([(c.command, c.distance_m) for c in commands], told, atol=1e-4)
    stamps = [convert.to_nanoseconds(odometry.header.stamp) for odometry in heard]
    assert stamps == [100_000_000_000 + 100_000_000 * tick for tick in range(15)]
    assert [convert.to_nanoseconds(message.clock) for message in clock] == stamps
    assert len(routes[0].poses) >= 2
    assert len(agents) == 15
    assert json.loads(result.read_text())['distance_m'] == pytest.approx(verdict.distance_m)


def test_without_an_answer_the_vehicle_is_braked_and_that_is_counted(probe, nodes):
    report = probe.diagnostics()
    heard = probe.listen(Odometry, 'odom')
    probe.publisher(ControlMessage, 'control')
    nodes.start('simulator', {**BLIND, 'synchronous_timeout_s': 0.1})
    probe.until(lambda: len(heard) >= 5, timeout_s=40.0)
    speeds = [pose(odometry)[3] for odometry in heard]
    assert speeds[-1] < speeds[0] or speeds[0] == 0.0
    probe.until(lambda: int(report('simulator: drive')['unanswered_ticks']) >= 4)
    assert 'no control received' in report('simulator: drive')['message']


def test_it_waits_for_a_driver_then_runs_with_the_clock(probe, nodes):
    report = probe.diagnostics()
    heard = probe.listen(Odometry, 'odom')
    nodes.start('simulator', {**BLIND, 'synchronous': False, 'rate': 2.0})
    probe.until(lambda: 'waiting for a planner' in (report('simulator: drive') or {'message': ''})['message'], 40.0)
    assert heard == []
    control = probe.publisher(ControlMessage, 'control')
    probe.until(lambda: heard)
    probe.until(lambda: len(heard) >= 10, act=lambda: control.publish(ControlMessage(acceleration=1.0)))
    assert pose(heard[-1])[3] > pose(heard[0])[3]


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'town': 'no/such.net.xml'}, 'no such file: no/such.net.xml'),
        ({'routes': ['a.rou.xml']}, 'routes needs parameter town'),
        ({'split': 'tests'}, "did you mean 'test'"),
    ],
)
def test_a_drive_that_cannot_be_made_ends_the_process_saying_why(nodes, parameters, words):
    simulator = nodes.start('simulator', {**BLIND, **parameters})
    assert simulator.wait(30.0) == 1
    assert words in simulator.output


@pytest.mark.gl
def test_the_whole_loop_over_dds_drives_like_the_synchronous_core(probe, nodes):
    scenario = scenarios('val', 1)[0]
    try:
        with Simulation(scenario) as core:
            expected = []
            drive_route(
                core,
                ConstantVelocityPolicy(),
                plan_hz=5.0,
                max_seconds=2.0,
                on_tick=lambda tick: expected.append([*core.ego.pose, core.ego.speed_mps]),
            )
            first_front = core.pictures()['front'].rgb
    except GraphicsUnavailableError as error:
        pytest.skip(str(error))
    heard, plans = probe.listen(Odometry, 'odom'), probe.listen(DrivingPlan, 'plan')
    fronts = probe.listen(CompressedImage, 'camera/front/image/compressed', qos.SENSOR_SUBSCRIPTION)
    rig = load_rig('sim')
    infos = {
        name: probe.listen(CameraInfo, f'camera/{name}/camera_info', qos.SENSOR_SUBSCRIPTION) for name in rig.names
    }
    # The world waits: what is late by the clock on the wall is not late in it.
    planner = nodes.start('planner', {'policy': 'constant-velocity', **PATIENT_PLANNER})
    controller = nodes.start('controller', PATIENT_CONTROLLER)
    nodes.wait_active(planner, controller)
    simulator = nodes.start(
        'simulator', {'synchronous': True, 'split': 'val', 'camera_every': 2, 'max_seconds': 2.0, 'rate': 1.0}
    )
    probe.until(lambda: not simulator.running, timeout_s=90.0)
    assert simulator.status == 0
    assert len(heard) == 20
    np.testing.assert_allclose([pose(odometry) for odometry in heard], expected, atol=1e-4)
    assert {plan.source for plan in plans} == {'policy'}
    assert len(plans) == 10
    assert decode_message(fronts[0]).shape == first_front.shape
    assert rig_from_camera_infos({name: messages[0] for name, messages in infos.items()}, rig).names == rig.names


def test_another_drive_begins_anew(probe):
    """Configured again, the node does not go on where the last drive ended."""
    node = SimulatorNode(
        context=probe.context, parameter_overrides=[Parameter(name, value=value) for name, value in BLIND.items()]
    )
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        fresh = (node._tick, node._finished, node._command, node._waited, node._late, node._due_s)
        node._advance()
        node._finish()
        assert (node._tick, node._finished) == (1, True)
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert (node._tick, node._finished, node._command, node._waited, node._late, node._due_s) == fresh
    finally:
        node.destroy_node()
