# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""However a node's process is told to stop, and whenever: at once, with status 0, without a traceback."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from vla_driver.ros.base.process import EXIT_WITH_PARENT


class Process:
    """A node as `ros2 launch` starts it."""

    def __init__(self, node, *parameters):
        arguments = [word for parameter in parameters for word in ('-p', parameter)]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'vla_driver.ros.nodes', node, '--ros-args', *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONUNBUFFERED': '1', EXIT_WITH_PARENT: '1'},
            text=True,
        )
        self.output = ''
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.output += line

    def until(self, words, timeout_s=60.0):
        end = time.monotonic() + timeout_s
        while words not in self.output:
            assert self.process.poll() is None and time.monotonic() < end, self.output
            time.sleep(0.02)

    def stop(self, *how, pause_s=0.03):
        """Tell it to stop, by each of these in turn; return its status and how long it took."""
        began_s = time.monotonic()
        for number in how:
            if number is None:
                self.process.stdin.close()
            elif self.process.poll() is None:
                self.process.send_signal(number)
            time.sleep(pause_s)
        status = self.process.wait(30.0)
        took_s = time.monotonic() - began_s
        self._reader.join(5.0)
        return status, took_s

    def loads(self):
        """Return whether it is reading its model: what the planner's own thread has opened so far."""
        try:
            with open(f'/proc/{self.process.pid}/maps', encoding='utf-8') as maps:
                opened = maps.read()
                return any(library in opened for library in ('libtorch_cpu', 'onnxruntime_pybind'))
        except OSError:
            return False


@pytest.fixture
def start(domain):
    made = []

    def build(*words):
        made.append(Process(*words))
        return made[-1]

    yield build
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


ANY = [(signal.SIGINT,), (signal.SIGTERM,), (None,), (signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(('engine', 'how'), [*(('torch', how) for how in ANY), ('onnx', ANY[0]), ('onnx', ANY[3])])
def test_while_the_model_is_loading(start, engine, how):
    node = start('planner', 'policy:=model', f'engine:={engine}')
    end = time.monotonic() + 60.0
    while not node.loads():
        assert time.monotonic() < end
        time.sleep(0.01)
    status, took_s = node.stop(*how)
    assert status == 0, node.output
    assert 'Traceback' not in node.output
    assert 'configured' not in node.output  # it was not waited for
    assert took_s < 3.0  # 0.1 to 0.5 s on an idle machine


@pytest.mark.parametrize('how', [(signal.SIGINT,) * 6, (signal.SIGINT, signal.SIGTERM, signal.SIGTERM), (None,)])
def test_while_it_runs(start, how):
    node = start('controller')
    node.until('activated')
    status, _ = node.stop(*how)
    assert status == 0, node.output
    assert 'Traceback' not in node.output


@pytest.mark.parametrize('delay_s', [0.15, 0.3])
def test_while_it_is_imported(start, delay_s):
    node = start('planner', 'policy:=constant-velocity')
    time.sleep(delay_s)
    status, _ = node.stop(signal.SIGINT, signal.SIGINT)
    assert 'Traceback' not in node.output
    assert status == 0


def test_while_somebody_else_configures_it(start, probe):
    node = start('planner', 'policy:=model', 'engine:=torch', 'autostart:=false')
    change = probe.node.create_client(ChangeState, 'planner/change_state')
    probe.until(change.service_is_ready)
    change.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    probe.until(node.loads)
    status, took_s = node.stop(signal.SIGINT)
    assert status == 0, node.output
    assert 'Traceback' not in node.output
    assert 'configured' not in node.output
    assert took_s < 3.0


def test_a_later_signal_does_not_wait():
    """One that hangs as it ends is ended by whoever insists."""
    program = (
        'import signal, threading, time\n'
        'from vla_driver.ros.base.process import _stop_on_signals\n'
        'stop = threading.Event()\n'
        '_stop_on_signals(stop)\n'
        'print("ready", flush=True)\n'
        'time.sleep(60)\n'
    )
    hung = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert hung.stdout.readline() == 'ready\n'
    for pause_s in (1.0, 1.3, 0.0):
        assert hung.poll() is None
        hung.send_signal(signal.SIGTERM)
        time.sleep(pause_s)
    assert hung.wait(10.0) == 128 + signal.SIGTERM
    assert 'told to stop a second time' in hung.stderr.read()
    hung.stdout.close()
    hung.stderr.close()


def test_the_node_must_be_named():
    done = subprocess.run(
        [sys.executable, '-m', 'vla_driver.ros.nodes'], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert 'usage: python -m vla_driver.ros.nodes NODE' in done.stderr


@pytest.mark.parametrize('words', [['--params-file', '/nothing.yaml'], ['-r', 'bad'], ['--bogus']])
def test_arguments_that_ros_refuses_are_named(words):
    done = subprocess.run(
        [sys.executable, '-m', 'vla_driver.ros.nodes', 'controller', '--ros-args', *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith('error: ROS does not start with these arguments: ')
    assert words[-1] in said
    assert '.c:' not in said
