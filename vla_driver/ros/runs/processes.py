# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The nodes as separate processes, without `ros2 launch`: for the commands, and where no ROS is installed.

    with NodeProcesses(log=print) as nodes:
        planner = nodes.start('planner', {'policy': 'constant-velocity'})
        nodes.wait_active(planner)
        player = nodes.start('bag_player', {'bag': str(bag)})
        player.wait()

Nothing outlives the `with`: children are interrupted, then terminated, then killed; and when this
process dies without a chance to do that, their standard input closes, which ends them, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from vla_driver.ros.base.process import EXIT_WITH_PARENT
from vla_driver.ros.wire.domain import domain_id
from vla_driver.types import InvalidInput, VlaDriverError

#: The nodes of the package; each runs as `python -m vla_driver.ros.nodes <name>`.
NODES: Final = ('planner', 'reasoner', 'controller', 'bag_player', 'simulator', 'carla_bridge', 'carla_localizer')

#: How long a child gets to answer SIGINT, and then SIGTERM, before the next stronger signal.
_PATIENCE_S: Final = (6.0, 3.0)

#: When to ask a node for its state again.  Fast DDS drops an answer whose way back is not discovered 0.1 s after the
#: request came (ros2/rmw_fastrtps, issue 842); a node that is still loading answers late.
_ASK_AGAIN_S: Final = 2.0

_KEPT_LINES: Final = 400


class NodeProcessError(VlaDriverError, RuntimeError):
    """A node's process ended or did not become ready; the message holds its last lines."""


class NodeProcess:
    """One child process running one node."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Callable[[str], None] | None
    ) -> None:
        self.name = name
        self._log = log
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            # A Ctrl-C at the terminal goes to the parent alone, which stops its children in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f'{name}-log', daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            line = line.rstrip('\n')
            self._lines.append(line)
            if self._log is not None:
                self._log(f'[{self.name}] {line}')

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """Its last lines of output."""
        return '\n'.join(self._lines)

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it ends by itself; return its exit status.  Raises NodeProcessError when it takes longer."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise NodeProcessError(
                f'{self.name} still runs after {timeout_s:g} s; its last lines:\n{self.output}'
            ) from None
        self._reader.join(timeout=2.0)
        return status

    def check(self) -> None:
        """Raise NodeProcessError if it has ended with a failure."""
        status = self.status
        if status not in (None, 0):
            self._reader.join(timeout=2.0)
            raise NodeProcessError(f'{self.name} ended with status {status}; its last lines:\n{self.output}')

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def stop(self) -> int:
        """End it, gently first; return its exit status."""
        if self.running:
            self.signal(signal.SIGINT)
            for patience_s, harder in zip(_PATIENCE_S, (signal.SIGTERM, signal.SIGKILL), strict=True):
                try:
                    self._process.wait(patience_s)
                    break
                except subprocess.TimeoutExpired:
                    self.signal(harder)
        status = self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._reader.join(timeout=2.0)
        return status


class NodeProcesses:
    """A group of nodes in processes of their own, ended together.

    log: called with every line of their output (`[planner] ...`), from several threads; None keeps
    the lines for error messages only.  environment: added to this process's own for the children
    (None removes a variable).
    """

    def __init__(
        self, *, log: Callable[[str], None] | None = None, environment: Mapping[str, str | None] | None = None
    ) -> None:
        self._log = log
        changed = {**os.environ, **(environment or {})}
        self._environment = {key: value for key, value in changed.items() if value is not None}
        self._environment[EXIT_WITH_PARENT] = '1'
        self._environment['PYTHONUNBUFFERED'] = '1'
        self._nodes: list[NodeProcess] = []
        self._folder = tempfile.TemporaryDirectory(prefix='vla_driver_nodes_')

    def __enter__(self) -> NodeProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(
        self,
        node: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        remappings: Mapping[str, str] | None = None,
        name: str | None = None,
        log_level: str = 'info',
    ) -> NodeProcess:
        """Start one of NODES with ROS parameters and remappings; `name` renames the node."""
        if node not in NODES:
            raise InvalidInput(f'node {node!r}, the package has: {", ".join(NODES)}')
        arguments = ['--ros-args', '--log-level', log_level]
        if parameters:
            # A file, not `-p`: every string survives as it is, and JSON is YAML.
            path = Path(self._folder.name) / f'{len(self._nodes)}_{node}.yaml'
            path.write_text(json.dumps({'/**': {'ros__parameters': dict(parameters)}}))
            arguments += ['--params-file', str(path)]
        for source, target in (remappings or {}).items():
            arguments += ['-r', f'{source}:={target}']
        if name is not None:
            arguments += ['-r', f'__node:={name}']
        command = [sys.executable, '-m', 'vla_driver.ros.nodes', node, *arguments]
        process = NodeProcess(name or node, command, self._environment, self._log)
        self._nodes.append(process)
        return process

    def wait_active(self, *nodes: NodeProcess, timeout_s: float = 60.0) -> None:
        """Wait until the lifecycle state of each node is active; NodeProcessError with its output otherwise."""
        waiting = list(nodes)
        deadline = time.monotonic() + timeout_s
        with _state_reader(self._environment) as state_of:
            while waiting:
                for node in list(waiting):
                    if not node.running:
                        node.wait(2.0)
                        raise NodeProcessError(
                            f'{node.name} ended with status {node.status} before it was active; '
                            f'its last lines:\n{node.output}'
                        )
                    if state_of(node.name) == State.PRIMARY_STATE_ACTIVE:
                        waiting.remove(node)
                if time.monotonic() > deadline:
                    names = ', '.join(node.name for node in waiting)
                    tail = '\n'.join(node.output for node in waiting)
                    raise NodeProcessError(f'not active within {timeout_s:g} s: {names}; last lines:\n{tail}')

    def check(self) -> None:
        """Raise NodeProcessError if any node has ended with a failure."""
        for node in self._nodes:
            node.check()

    def close(self) -> None:
        """End all nodes, those started last first, and wait for them."""
        for node in reversed(self._nodes):
            node.stop()
        self._nodes.clear()
        self._folder.cleanup()


@contextlib.contextmanager
def _state_reader(environment: Mapping[str, str]) -> Any:
    """Yield a function from a node's name to its lifecycle state (None while it does not answer).

    In a context of its own, so that the caller may or may not use ROS in this process.
    """
    domain = domain_id(environment)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(f'node_processes_{os.getpid()}', context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    clients: dict[str, Any] = {}
    pending: dict[str, tuple[Any, float]] = {}  # request, and when to ask again

    def state_of(name: str) -> int | None:
        if name not in clients:
            clients[name] = node.create_client(GetState, f'{name}/get_state')
        if name not in pending and clients[name].service_is_ready():
            pending[name] = clients[name].call_async(GetState.Request()), time.monotonic() + _ASK_AGAIN_S
        executor.spin_once(timeout_sec=0.05)
        if name not in pending:
            return None
        future, ask_again = pending[name]
        if not future.done():
            if time.monotonic() > ask_again:
                clients[name].remove_pending_request(future)
                del pending[name]
            return None
        del pending[name]
        response = future.result()
        return int(response.current_state.id) if response is not None else None

    try:
        yield state_of
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
