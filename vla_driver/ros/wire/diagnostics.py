# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`/diagnostics`: a small publisher of named statuses.

The distribution's `diagnostic_updater` is not among the ROS packages that pip can install, and this
package has to report the same way with and without a ROS installation; so the message is filled here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vla_driver.ros.wire.qos import RELIABLE


class Level(IntEnum):
    """The levels of diagnostic_msgs/DiagnosticStatus (there they are bytes)."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Status:
    """One line of a report: what it is about, how it is, in words and in values."""

    name: str
    level: Level
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


class RateMeter:
    """Counts events on the steady clock: rate over a window, age of the last one.

    One thread ticks, others may read: a deque's append is atomic in CPython.
    """

    def __init__(self, window_s: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._times: deque[float] = deque(maxlen=1000)
        self.count = 0

    def tick(self) -> None:
        """Note that the event happened now."""
        self.count += 1
        self._times.append(self._clock())

    @property
    def age_s(self) -> float | None:
        """Seconds since the last event, None if there was none."""
        return self._clock() - self._times[-1] if self._times else None

    @property
    def rate_hz(self) -> float:
        """Events per second over the window; 0 when fewer than two fell into it."""
        now = self._clock()
        recent = [t for t in tuple(self._times) if now - t <= self._window_s]
        if len(recent) < 2:
            return 0.0
        # From the first event until now, so that a stream that stopped is seen to slow down.
        return (len(recent) - 1) / max(now - recent[0], 1e-9)


def text(value: object) -> str:
    """Return a value as diagnostics show it: floats short, None as a dash."""
    if value is None:
        return '-'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def to_array(stamp: Any, node_name: str, statuses: Iterable[Status]) -> DiagnosticArray:
    """Return the message; every status is named `<node>: <name>` as diagnostic aggregators expect."""
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = [
        DiagnosticStatus(
            level=bytes([status.level]),
            name=f'{node_name}: {status.name}',
            message=status.message,
            hardware_id='vla_driver',
            values=[KeyValue(key=str(key), value=text(value)) for key, value in status.values.items()],
        )
        for status in statuses
    ]
    return message


class DiagnosticsPublisher:
    """Publishes what `report` returns, periodically and at once when asked."""

    def __init__(self, node: Node, report: Callable[[], Iterable[Status]], period_s: float) -> None:
        self._node = node
        self._report = report
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        # On the steady clock: a simulated clock that stands still is exactly when a report is wanted.
        self._timer = node.create_timer(period_s, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish now.  A failing report is itself reported, it never takes the node down."""
        stamp, name = self._node.get_clock().now().to_msg(), self._node.get_name()
        try:
            message = to_array(stamp, name, self._report())
        except Exception as error:  # diagnostics must survive whatever they look at
            self._node.get_logger().error(f'diagnostics report failed: {error!r}')
            message = to_array(stamp, name, [Status('diagnostics', Level.ERROR, f'report failed: {error!r}')])
        self._publisher.publish(message)

    def close(self) -> None:
        """Stop reporting."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)
