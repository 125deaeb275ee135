# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The controller node in a process of its own: follows fresh plans, stops the vehicle otherwise and says why."""

import math

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from vla_driver.msg import ControlCommand, DrivingPlan

from vla_driver.geometry import unicycle
from vla_driver.planning.control import TrajectoryController
from vla_driver.ros.wire import conversions as convert
from vla_driver.types import EgoState, Plan


@pytest.fixture
def commands(probe):
    return probe.listen(ControlCommand, 'control')


@pytest.fixture
def plan_outlet(probe):
    return probe.publisher(DrivingPlan, 'plan')


def start(nodes, vehicle, plan_outlet, **parameters):
    controller = nodes.start('controller', {'diagnostics_period_s': 0.1, **parameters})
    nodes.wait_active(controller)
    outlets = (vehicle._odometry, plan_outlet)
    vehicle.probe.until(lambda: all(outlet.get_subscription_count() for outlet in outlets))
    vehicle.probe.spin(0.3)
    return controller


def bend(vehicle, curvature=0.03, acceleration=0.5):
    """A plan into a left bend from where the vehicle is now."""
    ego = EgoState(vehicle.stamp_ns * 1e-9, vehicle.x_m, 0.0, 0.0, vehicle.speed_mps)
    trajectory = unicycle.integrate(vehicle.speed_mps, np.full(20, acceleration), np.full(20, curvature))
    return Plan(ego.stamp_s, trajectory, ego, 'test', ttl_s=0.5)


def advance(vehicle, dt_s):
    """Move the vehicle on and publish its state."""
    vehicle.stamp_ns += round(dt_s * 1e9)
    vehicle.x_m += vehicle.speed_mps * dt_s
    vehicle.state()


def follow(vehicle, plan_outlet, commands):
    """Publish odometry and plans until the controller follows; return the number of its commands.

    What a busy machine delivers too late, it does not follow.
    """

    def act():
        advance(vehicle, 0.1)
        plan_outlet.publish(convert.to_driving_plan(bend(vehicle), vehicle.stamp))

    vehicle.probe.until(lambda: commands and not commands[-1].stop, act=act)
    return len(commands)


def newest(commands, stamp):
    return [command for command in commands if command.header.stamp == stamp]


def test_a_plan_that_starts_in_another_frame_is_not_followed(probe, nodes, vehicle, plan_outlet, commands):
    """The planner reads one odometry, the controller another: their numbers say nothing of each other."""
    start(nodes, vehicle, plan_outlet)
    follow(vehicle, plan_outlet, commands)

    def act():
        advance(vehicle, 0.1)
        plan_outlet.publish(convert.to_driving_plan(bend(vehicle), vehicle.stamp, frame='map'))

    stopped = probe.until(lambda: [c for c in commands if c.stop and 'frame' in c.reason], act=act)[-1]
    assert stopped.reason == (
        "the plan starts in frame 'map', the odometry is in 'odom'; let planner and controller read one odometry"
    )
    assert stopped.acceleration < 0.0


def test_odometry_that_jumps_stops_the_vehicle_until_a_plan_starts_there(probe, nodes, vehicle, plan_outlet, commands):
    start(nodes, vehicle, plan_outlet)
    follow(vehicle, plan_outlet, commands)
    vehicle.x_m += 10.0
    advance(vehicle, 0.1)
    stopped = probe.until(lambda: newest(commands, vehicle.stamp))[-1]
    assert stopped.stop
    assert stopped.reason.startswith('the odometry is 1')
    assert 'it has jumped, or planner and controller read two' in stopped.reason
    follow(vehicle, plan_outlet, commands)


def test_it_follows_like_the_core_and_stops_when_the_plan_is_stale(probe, nodes, vehicle, plan_outlet, commands):
    report = probe.diagnostics()
    start(nodes, vehicle, plan_outlet)
    advance(vehicle, 0.1)
    waiting = probe.until(lambda: newest(commands, vehicle.stamp))[-1]
    assert waiting.stop
    assert waiting.reason == 'no plan yet'
    assert waiting.acceleration < 0.0

    plan = bend(vehicle)
    plan_outlet.publish(convert.to_driving_plan(plan, vehicle.stamp))
    # The answer to a new plan does not wait for the next odometry.
    answer = probe.until(lambda: [c for c in commands if c.plan_stamp == vehicle.stamp])[-1]
    core = TrajectoryController()
    ego = EgoState(vehicle.stamp_ns * 1e-9, vehicle.x_m, 0.0, 0.0, vehicle.speed_mps)
    expected = core.command(plan, ego, ego.stamp_s)
    assert (answer.stop, answer.reason) == (False, '')
    assert answer.header.stamp == vehicle.stamp
    assert answer.steering_angle == pytest.approx(expected.steering_rad, abs=1e-5)
    assert answer.steering_angle > 0.05
    assert answer.acceleration == pytest.approx(expected.acceleration_mps2, abs=1e-5)
    assert answer.speed > vehicle.speed_mps

    advance(vehicle, 0.4)
    assert not probe.until(lambda: newest(commands, vehicle.stamp))[-1].stop
    advance(vehicle, 0.2)
    stale = probe.until(lambda: newest(commands, vehicle.stamp))[-1]
    assert stale.stop
    assert '0.60 s old' in stale.reason
    assert stale.acceleration < 0.0
    assert stale.speed == 0.0
    probe.until(lambda: 'plan (stale' in report('controller: inputs')['message'])


def test_silent_or_broken_odometry_stops_the_vehicle(probe, nodes, vehicle, plan_outlet, commands):
    report = probe.diagnostics()
    start(nodes, vehicle, plan_outlet, odometry_timeout_s=0.3)
    followed = follow(vehicle, plan_outlet, commands)
    broken = vehicle.odometry()
    broken.pose.pose.position.x = math.nan
    vehicle.state(broken)
    probe.until(lambda: 'x_m is nan' in (report('controller: rejected odometry') or {'message': ''})['message'])
    stopped = probe.until(lambda: [c for c in commands[followed:] if c.stop and 'no valid odometry' in c.reason])[-1]
    assert stopped.acceleration < 0.0
    probe.until(lambda: 'odometry (silent' in report('controller: inputs')['message'])
    advance(vehicle, 0.1)
    probe.until(lambda: not commands[-1].stop)


def test_odometry_that_repeats_itself_counts_as_silent(probe, nodes, vehicle, plan_outlet, commands):
    """Its stamp is the controller's time: standing still, it would keep a plan fresh for ever."""
    report = probe.diagnostics()
    start(nodes, vehicle, plan_outlet, odometry_timeout_s=0.3)
    followed = follow(vehicle, plan_outlet, commands)

    def stopped_meanwhile():
        vehicle.state(vehicle.odometry())
        return [command for command in commands[followed:] if 'no valid odometry' in command.reason]

    assert probe.until(stopped_meanwhile)[-1].acceleration < 0.0
    probe.until(lambda: 'odometry (silent' in report('controller: inputs')['message'])
    advance(vehicle, 0.1)
    probe.until(lambda: not commands[-1].stop)


def test_new_plans_do_not_make_old_odometry_good(probe, nodes, vehicle, plan_outlet, commands):
    """Plans go on at 10 Hz after the odometry has died: the vehicle stays stopped."""
    start(nodes, vehicle, plan_outlet, odometry_timeout_s=0.2)
    follow(vehicle, plan_outlet, commands)
    plan = convert.to_driving_plan(bend(vehicle), vehicle.stamp)
    probe.until(lambda: commands[-1].stop)
    stopped = len(commands)
    for _ in range(10):
        plan_outlet.publish(plan)
        probe.spin(0.1)
    probe.until(lambda: len(commands) > stopped)
    assert {command.stop for command in commands[stopped:]} == {True}
    assert {command.reason[:18] for command in commands[stopped:]} == {'no valid odometry '}
    advance(vehicle, 0.1)
    probe.until(lambda: not commands[-1].stop)


def test_a_plan_ahead_of_the_odometry_is_called_so(probe, nodes, vehicle, plan_outlet, commands):
    report = probe.diagnostics()
    start(nodes, vehicle, plan_outlet)
    vehicle.stamp_ns += 700_000_000
    plan_outlet.publish(convert.to_driving_plan(bend(vehicle), vehicle.stamp))
    vehicle.stamp_ns -= 700_000_000
    probe.spin(0.2)
    advance(vehicle, 0.1)
    refused = probe.until(lambda: [c for c in commands if c.reason.startswith('plan is')])[-1]
    assert refused.stop
    assert refused.reason == 'plan is 0.60 s ahead of the odometry; let one clock stamp images and odometry'
    probe.until(lambda: 'plan (stale, 0.60 s ahead of' in report('controller: inputs')['message'])


def test_a_plan_that_is_none_is_refused_and_not_followed(probe, nodes, vehicle, plan_outlet, commands):
    report = probe.diagnostics()
    start(nodes, vehicle, plan_outlet)
    message = convert.to_driving_plan(bend(vehicle), vehicle.stamp)
    message.trajectory.points[2].longitudinal_velocity_mps = math.nan
    plan_outlet.publish(message)
    probe.until(lambda: 'not finite' in (report('controller: rejected plan') or {'message': ''})['message'])
    advance(vehicle, 0.1)
    assert probe.until(lambda: newest(commands, vehicle.stamp))[-1].reason == 'no plan yet'


def test_time_that_jumps_back_forgets_the_plan(probe, nodes, vehicle, plan_outlet, commands):
    start(nodes, vehicle, plan_outlet)
    follow(vehicle, plan_outlet, commands)
    advance(vehicle, -30.0)
    after = probe.until(lambda: newest(commands, vehicle.stamp))[-1]
    assert after.reason == 'no plan yet'
    assert convert.to_nanoseconds(after.plan_stamp) == 0


def test_the_last_word_on_the_wire_is_a_stop(probe, nodes, vehicle, plan_outlet, commands):
    controller = start(nodes, vehicle, plan_outlet)
    follow(vehicle, plan_outlet, commands)
    assert controller.stop() == 0
    probe.until(lambda: commands[-1].stop)
    assert commands[-1].reason == 'the controller is being stopped'


def test_control_goes_out_once_for_each_stamp_where_that_is_asked(probe, nodes, vehicle, plan_outlet, commands):
    start(nodes, vehicle, plan_outlet, answer_once_s=5.0)
    for _ in range(4):
        advance(vehicle, 0.1)
        before = len(commands)
        probe.spin(0.1)
        assert len(commands) == before  # held back for its plan
        plan_outlet.publish(convert.to_driving_plan(bend(vehicle), vehicle.stamp))
        (answer,) = probe.until(lambda: newest(commands, vehicle.stamp))
        assert (answer.plan_stamp, answer.stop) == (vehicle.stamp, False)
    plan_outlet.publish(convert.to_driving_plan(bend(vehicle), vehicle.stamp))
    probe.spin(0.2)
    assert len(newest(commands, vehicle.stamp)) == 1


def test_a_plan_that_does_not_come_is_waited_for_no_longer_than_asked(probe, nodes, vehicle, plan_outlet, commands):
    start(nodes, vehicle, plan_outlet, answer_once_s=0.2)
    advance(vehicle, 0.1)
    plan_outlet.publish(convert.to_driving_plan(bend(vehicle), vehicle.stamp))
    probe.until(lambda: newest(commands, vehicle.stamp))
    before = vehicle.stamp
    advance(vehicle, 0.1)
    (answer,) = probe.until(lambda: newest(commands, vehicle.stamp))
    assert (answer.plan_stamp, answer.stop) == (before, False)  # the plan before it


def test_what_is_owed_is_not_paid_by_a_state_that_has_grown_old(probe, nodes, vehicle, plan_outlet, commands):
    """Patience longer than the odometry's timeout: whoever has lost its odometry stands, and stays so."""
    start(nodes, vehicle, plan_outlet, answer_once_s=0.8, odometry_timeout_s=0.3)
    follow(vehicle, plan_outlet, commands)
    advance(vehicle, 0.1)  # without its plan
    probe.until(lambda: commands[-1].stop)
    stopped = len(commands)
    probe.spin(1.2)
    assert {command.stop for command in commands[stopped:]} == {True}
    follow(vehicle, plan_outlet, commands)


def test_who_is_activated_again_has_heard_nothing_yet(probe, nodes, vehicle, plan_outlet, commands):
    """Neither plan nor odometry nor a control that was owed is of now."""
    start(nodes, vehicle, plan_outlet, answer_once_s=0.3, odometry_timeout_s=2.0)
    follow(vehicle, plan_outlet, commands)
    advance(vehicle, 0.1)  # without its plan
    client = probe.node.create_client(ChangeState, 'controller/change_state')
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        before = len(commands)
        answer = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        probe.until(answer.done)
        assert answer.result().success
    probe.spin(1.0)
    assert all(command.stop for command in commands[before:])
    follow(vehicle, plan_outlet, commands)


def test_of_two_planners_the_newer_plan_is_followed(probe, nodes, vehicle, plan_outlet, commands):
    report = probe.diagnostics()
    start(nodes, vehicle, plan_outlet)
    follow(vehicle, plan_outlet, commands)
    older = convert.to_driving_plan(bend(vehicle, acceleration=2.0), vehicle.stamp)
    advance(vehicle, 0.2)
    plan_outlet.publish(convert.to_driving_plan(bend(vehicle, acceleration=-2.0), vehicle.stamp))
    newer = vehicle.stamp
    probe.until(lambda: commands[-1].plan_stamp == newer)
    plan_outlet.publish(older)
    told = probe.until(lambda: report('controller: rejected plan'))
    assert told['message'] == '0.20 s older than the one that is followed: are there two planners?'
    advance(vehicle, 0.1)
    (command,) = probe.until(lambda: newest(commands, vehicle.stamp))
    assert (command.plan_stamp, command.stop) == (newer, False)
    assert command.acceleration < 0.0


def test_ackermann_steering_gets_the_same_command(probe, nodes, vehicle, plan_outlet, commands):
    messages = pytest.importorskip('ackermann_msgs.msg', reason='ackermann_msgs is not installed')
    drives = probe.listen(messages.AckermannDrive, 'ackermann_cmd')
    start(nodes, vehicle, plan_outlet)
    follow(vehicle, plan_outlet, commands)
    drive = probe.until(lambda: next((one for one in drives if one.steering_angle > 0.01), None))
    assert drive.acceleration > 0.0
    assert drive.speed > 0.0
