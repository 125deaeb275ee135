# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The base class: failures are loud, teardown is tolerant, jumps of time reset."""

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from vla_driver.ros.base.lifecycle import DriverNode, StampWatch
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.diagnostics import Level, Status
from vla_driver.types import InvalidInput


class Sample(DriverNode):
    """Fails where it is told to, and notes what happens to it."""

    def __init__(self, fail_in='', error=None, **arguments):
        self.fail_in, self.error, self.events = fail_in, error or InvalidInput('deliberate'), []
        super().__init__('sample', **arguments)

    def note(self, event):
        self.events.append(event)
        if event == self.fail_in:
            raise self.error

    def setup(self):
        self.outlet = self.advertise(String, 'words', qos.RELIABLE)
        self.note('setup')

    def start(self):
        self.listen(String, 'questions', self.events.append, qos.RELIABLE)
        self.note('start')

    def stop(self):
        self.note('stop')

    def teardown(self):
        self.note('teardown')

    def reset(self, reason):
        self.note('reset')

    def report(self):
        yield Status('work', Level.OK, 'fine', {'answer': 42})


@pytest.fixture
def make(probe):
    made = []

    def build(**arguments):
        node = Sample(context=probe.context, **arguments)
        made.append(node)
        return node

    yield build
    for node in made:
        node.destroy_node()


def topics(node):
    return {name for name, _ in node.get_publisher_names_and_types_by_node('sample', '/')}


def test_a_whole_life(make):
    node = make()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert (node.configured, node.active) == (True, False)
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert node.active
    assert '/questions' in {name for name, _ in node.get_subscriber_names_and_types_by_node('sample', '/')}
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert '/words' not in topics(node)
    assert '/questions' not in {name for name, _ in node.get_subscriber_names_and_types_by_node('sample', '/')}
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.events == ['setup', 'start', 'stop', 'teardown', 'setup']


@pytest.mark.parametrize('error', [InvalidInput('no such model: pico'), ZeroDivisionError('surprise')])
def test_a_failing_setup_is_loud_undone_and_can_be_tried_again(make, probe, capfd, error):
    report = probe.diagnostics()
    node = make(fail_in='setup', error=error)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert not node.configured
    assert '/words' not in topics(node)
    assert str(error) in node.failure
    printed = capfd.readouterr().err
    assert str(error) in printed
    assert ('Traceback' in printed) == isinstance(error, ZeroDivisionError)
    probe.until(lambda: report('sample: node'), act=node.diagnostics.publish)
    assert report('sample: node')['level'] == Level.ERROR
    assert str(error) in report('sample: node')['message']
    node.fail_in = ''
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.failure == ''


def test_a_failing_start_leaves_the_node_configured_and_silent(make, probe):
    words = probe.listen(String, 'words')
    node = make(fail_in='start')
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    probe.until(lambda: node.outlet.get_subscription_count())
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert (node.configured, node.active) == (True, False)
    node.outlet.publish(String(data='from an inactive node'))
    probe.spin(0.3)
    assert words == []
    assert '/questions' not in {name for name, _ in node.get_subscriber_names_and_types_by_node('sample', '/')}
    node.fail_in = ''
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    probe.until(lambda: words, act=lambda: node.outlet.publish(String(data='active')))
    assert words[0].data == 'active'


def test_a_failing_stop_does_not_keep_the_rest_from_being_cleaned_up(make, capfd):
    node = make(fail_in='stop')
    node.trigger_configure()
    node.trigger_activate()
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert 'stop failed' in capfd.readouterr().err
    assert '/words' not in topics(node)


def test_a_backward_jump_of_the_simulated_clock_resets(make, probe, capfd):
    node = make(parameter_overrides=[Parameter('use_sim_time', value=True)])
    node.trigger_configure()
    clock = probe.publisher(Clock, '/clock')
    executor = rclpy.executors.SingleThreadedExecutor(context=probe.context)
    executor.add_node(node)
    now = [100]

    def tick():
        clock.publish(Clock(clock=rclpy.time.Time(seconds=now[0]).to_msg()))
        executor.spin_once(timeout_sec=0.02)

    def shows(seconds):
        return lambda: node.get_clock().now().nanoseconds == seconds * 10**9

    probe.until(shows(100), act=tick)
    before = node.events.count('reset')
    now[0] = 130
    probe.until(shows(130), act=tick)
    assert node.events.count('reset') == before
    now[0] = 5
    probe.until(shows(5), act=tick)
    assert node.events.count('reset') == before + 1
    executor.shutdown()
    assert 'reset: the clock jumped back from 130.000 s to 5.000 s' in capfd.readouterr().err


def test_another_clock_is_no_jump(make, probe, capfd):
    """Neither the switch to simulated time, nor its first message, nor the way back."""
    node = make()
    node.trigger_configure()
    clock = probe.publisher(Clock, '/clock')
    executor = rclpy.executors.SingleThreadedExecutor(context=probe.context)
    executor.add_node(node)

    def simulate(wanted):
        assert node.set_parameters([Parameter('use_sim_time', value=wanted)])[0].successful

    def tick():
        clock.publish(Clock(clock=rclpy.time.Time(seconds=100).to_msg()))
        executor.spin_once(timeout_sec=0.02)

    simulate(True)
    probe.until(lambda: node.get_clock().now().nanoseconds == 100 * 10**9, act=tick)
    simulate(False)
    simulate(True)
    executor.shutdown()
    assert 'reset' not in node.events
    printed = capfd.readouterr().err
    assert 'reset' not in printed
    assert 'time is now that of /clock' in printed
    assert "time is now that of this machine's clock" in printed


def test_stamps_that_jump_back_are_noticed_once_and_swapped_ones_are_not():
    watch = StampWatch(tolerance_s=0.5)
    assert not any(watch.jumped_back(t) for t in (10.0, 10.1, 10.05, 10.2, 9.8))
    assert watch.jumped_back(3.0)
    assert not watch.jumped_back(3.1)
    watch.clear()
    assert not watch.jumped_back(0.0)


def test_diagnostics_survive_a_failing_report(make, probe):
    report = probe.diagnostics()
    node = make()
    node.trigger_configure()
    node.trigger_activate()
    probe.until(lambda: report('sample: work'), act=node.diagnostics.publish)
    assert report('sample: work')['answer'] == '42'
    node.report = lambda: 1 / 0
    probe.until(lambda: report('sample: diagnostics'), act=node.diagnostics.publish)
    assert 'ZeroDivisionError' in report('sample: diagnostics')['message']


def test_parameters_take_effect_at_configure(make):
    node = make()
    node.trigger_configure()
    result = node.set_parameters([Parameter('diagnostics_period_s', value=2.0)])[0]
    assert not result.successful
    node.trigger_cleanup()
    assert node.set_parameters([Parameter('diagnostics_period_s', value=2.0)])[0].successful
    assert node.parameters.diagnostics_period_s == 2.0


def test_the_period_of_diagnostics_takes_effect_at_configure(make, probe):
    heard = probe.listen(DiagnosticArray, '/diagnostics')
    node = make(parameter_overrides=[Parameter('diagnostics_period_s', value=60.0)])
    executor = rclpy.executors.SingleThreadedExecutor(context=probe.context)
    executor.add_node(node)

    def spin():
        executor.spin_once(timeout_sec=0.02)

    try:
        assert node.set_parameters([Parameter('diagnostics_period_s', value=0.1)])[0].successful
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        # One report comes with the transition; more of them only by the timer.
        probe.until(lambda: len(heard) > 4, act=spin)
        # Configured again at the same pace, and at the first one.
        for period_s, same in ((0.1, True), (60.0, False)):
            before = node.diagnostics
            node.trigger_cleanup()
            assert node.set_parameters([Parameter('diagnostics_period_s', value=period_s)])[0].successful
            node.trigger_configure()
            assert (node.diagnostics is before) == same
        assert [name for name, _ in node.get_publisher_names_and_types_by_node('sample', '/')].count(
            '/diagnostics'
        ) == 1
    finally:
        executor.shutdown()
