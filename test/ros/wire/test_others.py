# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plans in Autoware's message."""

import math
import sys

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from vla_driver.geometry import unicycle
from vla_driver.planning.control import ControlCommand
from vla_driver.ros.wire import others
from vla_driver.types import EgoState, Plan

pytest.importorskip('autoware_planning_msgs', reason="Autoware's messages are not installed")
pytest.importorskip('ackermann_msgs', reason='ackermann_msgs is not installed')


def test_a_trajectory_is_in_the_odometrys_frame_and_begins_at_the_vehicle():
    ego = EgoState(12.0, 100.0, 50.0, math.pi / 2, 6.0, 0.12)
    trajectory = unicycle.integrate(6.0, np.full(20, 0.5), np.full(20, 0.02))
    types = others.trajectory_types()
    message = others.to_trajectory(types, Plan(12.0, trajectory, ego, 'model'), Time(sec=12), 'map')
    assert (message.header.stamp, message.header.frame_id) == (Time(sec=12), 'map')
    assert len(message.points) == 21
    first, second, last = message.points[0], message.points[1], message.points[-1]
    assert (first.pose.position.x, first.pose.position.y) == pytest.approx((100.0, 50.0))
    assert (first.longitudinal_velocity_mps, first.heading_rate_rps) == pytest.approx((6.0, 0.12))
    assert (first.time_from_start.sec, first.time_from_start.nanosec) == (0, 0)
    # The vehicle looks along y: ahead is y, left is -x.
    ahead, left = trajectory.positions_m[0]
    assert (second.pose.position.x, second.pose.position.y) == pytest.approx((100.0 - left, 50.0 + ahead))
    assert second.time_from_start.nanosec == 250_000_000
    assert second.heading_rate_rps == pytest.approx(0.02 * trajectory.speed_mps[0])
    assert last.time_from_start.sec == 5
    assert last.longitudinal_velocity_mps == pytest.approx(trajectory.speed_mps[-1])
    assert last.acceleration_mps2 == pytest.approx(0.5)


def test_a_command_for_ackermann_steering():
    message = others.to_ackermann(others.ackermann_type(), ControlCommand(0.2, -1.5), 3.0)
    assert (message.steering_angle, message.acceleration, message.speed) == pytest.approx((0.2, -1.5, 3.0))


def test_what_is_not_installed_is_none(monkeypatch):
    for package in ('ackermann_msgs', 'autoware_planning_msgs'):
        monkeypatch.setitem(sys.modules, f'{package}.msg', None)
    assert others.ackermann_type() is None
    assert others.trajectory_types() is None
