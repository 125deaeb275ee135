# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Children are watched, explained when they fail, and never left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest
from rclpy.client import Client
from rclpy.task import Future

from vla_driver.ros.base.process import run
from vla_driver.ros.runs.plan_recorder import PlanRecorder
from vla_driver.ros.runs.processes import NodeProcessError, NodeProcesses
from vla_driver.ros.wire.domain import domain_id
from vla_driver.types import InvalidInput


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f'/proc/{pid}/stat', encoding='ascii') as stat:
        return stat.read().rsplit(')', 1)[1].split()[0] != 'Z'


def gone(pid, timeout_s=15.0):
    end = time.monotonic() + timeout_s
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_nodes_end_with_the_block_even_when_it_raises(domain):
    lines, started = [], []

    def work():
        with NodeProcesses(log=lines.append) as nodes:
            started.append(nodes.start('controller'))
            nodes.wait_active(*started)
            assert alive(started[0].pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    controller = started[0]
    assert gone(controller.pid)
    assert controller.status == 0
    assert any(line.startswith('[controller] ') and 'activated' in line for line in lines)


def test_a_node_that_fails_is_reported_with_its_own_words(nodes):
    with pytest.raises(InvalidInput, match='the package has: planner, reasoner, controller, bag_player, simulator'):
        nodes.start('pilot')
    failing = nodes.start('controller', {'wheelbase_m': 'long'})
    with pytest.raises(NodeProcessError, match="wheelbase_m is 'long'"):
        nodes.wait_active(failing)
    with pytest.raises(NodeProcessError, match='status 1'):
        nodes.check()


def test_waiting_has_an_end(nodes):
    idle = nodes.start('controller', {'autostart': False})
    with pytest.raises(NodeProcessError, match='not active within 2 s: controller'):
        nodes.wait_active(idle, timeout_s=2.0)
    assert idle.running


def test_a_state_whose_answer_was_lost_is_asked_for_again(nodes, monkeypatch):
    ask, lost = Client.call_async, []

    def ask_in_vain_once(client, request):
        if lost:
            return ask(client, request)
        lost.append(Future())
        return lost[0]

    monkeypatch.setattr(Client, 'call_async', ask_in_vain_once)
    nodes.wait_active(nodes.start('controller'), timeout_s=30.0)
    assert len(lost) == 1


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM])
def test_nodes_end_when_their_parent_dies(domain, how):
    program = (
        'import time\n'
        'from vla_driver.ros.runs.processes import NodeProcesses\n'
        'with NodeProcesses() as nodes:\n'
        '    child = nodes.start("controller")\n'
        '    nodes.wait_active(child)\n'
        '    print(child.pid, flush=True)\n'
        '    time.sleep(60)\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.send_signal(how)
    parent.wait(20.0)
    parent.stdout.close()
    assert gone(child)


@pytest.mark.parametrize(('text', 'domain'), [('', 0), ('0', 0), ('7', 7), ('232', 232)])
def test_the_domain_is_read_as_ros_does(text, domain):
    assert domain_id({'ROS_DOMAIN_ID': text}) == domain
    assert domain_id({}) == 0


@pytest.mark.parametrize('text', ['seven', '-1', '233', '1.5', ' ', '1_0', '\u00b2'])
def test_another_domain_is_refused(text):
    with pytest.raises(InvalidInput, match='expected a whole number from 0 to 232; set or unset it'):
        domain_id({'ROS_DOMAIN_ID': text})


def test_a_node_in_another_domain_says_so(monkeypatch, capsys):
    monkeypatch.setenv('ROS_DOMAIN_ID', 'seven')
    assert run(lambda: pytest.fail('no node is made')) == 1
    assert "error: ROS_DOMAIN_ID is 'seven', expected a whole number from 0 to 232" in capsys.readouterr().err


def test_whoever_asks_for_the_domain_refuses_it(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', 'seven')
    with pytest.raises(InvalidInput, match='ROS_DOMAIN_ID is '):
        PlanRecorder()
    with NodeProcesses() as nodes, pytest.raises(InvalidInput, match='ROS_DOMAIN_ID is '):
        nodes.wait_active()


def test_an_empty_domain_is_the_default_one(monkeypatch):
    # As compose's `ROS_DOMAIN_ID=${ROS_DOMAIN_ID}` leaves it; discovery is off, domain 0 may be somebody's.
    monkeypatch.setenv('ROS_DOMAIN_ID', '')
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'OFF')
    with PlanRecorder() as recorder, NodeProcesses() as nodes:
        nodes.wait_active()
        assert recorder._context.get_domain_id() == 0


def test_a_managed_node_goes_through_its_states(probe, nodes):
    from lifecycle_msgs.msg import State, Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    nodes.start('controller', {'autostart': False})
    change = probe.node.create_client(ChangeState, 'controller/change_state')
    ask = probe.node.create_client(GetState, 'controller/get_state')
    probe.until(lambda: change.service_is_ready() and ask.service_is_ready())

    def call(client, request):
        future = client.call_async(request)
        probe.until(future.done)
        return future.result()

    for transition, state in (
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
    ):
        assert call(change, ChangeState.Request(transition=Transition(id=transition))).success
        assert call(ask, GetState.Request()).current_state.id == state
