# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Node tests run over real DDS: every test gets a domain of its own and a probe node in it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec('rclpy') is None:
    collect_ignore_glob = ['test_*.py']
else:
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    from vla_driver.ros import qos
    from vla_driver.ros.processes import NodeProcesses


def pytest_report_header() -> str | None:
    """Say so when the node tests are left out."""
    return 'test/ros is left out: ROS 2 is not installed' if find_spec('rclpy') is None else None


#: Domains 1 to 100 are usable with default port numbers; other test runs on this machine pick by their own pid.
_domains = itertools.count(os.getpid())


class Probe:
    """A node of the test's own: publishes, listens and remembers."""

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node: Node = rclpy.create_node('probe', context=self.context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}

    def listen(self, message_type: type, topic: str, profile: Any = None) -> list[Any]:
        """Subscribe; return the list that messages are appended to."""
        heard = self.heard.setdefault(topic, [])
        self.node.create_subscription(message_type, topic, heard.append, profile or qos.RELIABLE)
        return heard

    def publisher(self, message_type: type, topic: str, profile: Any = None) -> Any:
        """Return a publisher."""
        return self.node.create_publisher(message_type, topic, profile or qos.RELIABLE)

    def spin(self, seconds: float) -> None:
        """Take messages for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))

    def until(
        self, condition: Callable[[], Any], timeout_s: float = 15.0, act: Callable[[], None] | None = None
    ) -> Any:
        """Spin (calling `act` every 50 ms) until the condition holds; return its value, fail after the time-out."""
        end = time.monotonic() + timeout_s
        next_act = 0.0
        while not (value := condition()):
            now = time.monotonic()
            assert now < end, f'not within {timeout_s:g} s; heard { ({k: len(v) for k, v in self.heard.items()}) }'
            if act is not None and now >= next_act:
                act()
                next_act = now + 0.05
            self._executor.spin_once(timeout_sec=0.02)
        return value

    def diagnostics(self) -> Callable[[str], dict[str, Any] | None]:
        """Subscribe to /diagnostics; return a look-up of the newest status by its full name."""
        newest: dict[str, dict[str, Any]] = {}

        def take(message: DiagnosticArray) -> None:
            for status in message.status:
                newest[status.name] = {
                    'level': status.level[0],
                    'message': status.message,
                    **{value.key: value.value for value in status.values},
                }

        self.node.create_subscription(DiagnosticArray, '/diagnostics', take, qos.RELIABLE)
        return newest.get

    def close(self) -> None:
        """Leave."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A DDS domain no other test uses at the same time; also set for child processes."""
    number = 1 + next(_domains) % 100
    monkeypatch.setenv('ROS_DOMAIN_ID', str(number))
    # Discovery on this machine only: a test must not meet somebody else's robot.
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    return number


@pytest.fixture
def probe(domain: int) -> Iterator[Probe]:
    """A node in the test's domain."""
    made = Probe(domain)
    yield made
    made.close()


@pytest.fixture
def nodes(domain: int) -> Iterator[NodeProcesses]:
    """Nodes in processes of their own, ended with the test; their output shows when it fails."""
    with NodeProcesses(log=print) as group:
        yield group
