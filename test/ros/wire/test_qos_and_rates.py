# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service from a bag's metadata, rates and ages of what arrives, and CARLA's pedals."""

import math
from types import SimpleNamespace

import pytest
from builtin_interfaces.msg import Time
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from vla_driver.planning.control import ControlCommand, ControlConfig
from vla_driver.ros.wire import carla, qos
from vla_driver.ros.wire.diagnostics import RateMeter

ZERO = QosTime(0, 0)


def offer(reliability, durability, history=QosHistory.KEEP_LAST, depth=7):
    return Qos(history, depth, reliability, durability, ZERO, ZERO, QosLiveliness.AUTOMATIC, ZERO, False)


def test_a_bags_offer_is_offered_again():
    latched = qos.from_bag([offer(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, depth=1)])
    assert latched.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert (latched.reliability, latched.depth) == (ReliabilityPolicy.RELIABLE, 1)
    sensor = qos.from_bag([offer(QosReliability.BEST_EFFORT, QosDurability.VOLATILE)])
    assert (sensor.reliability, sensor.depth) == (ReliabilityPolicy.BEST_EFFORT, 7)
    everything = qos.from_bag([offer(QosReliability.RELIABLE, QosDurability.VOLATILE, QosHistory.KEEP_ALL, 0)])
    assert everything.history == HistoryPolicy.KEEP_ALL


def test_the_strictest_of_several_offers_wins_and_none_means_reliable():
    both = qos.from_bag(
        [
            offer(QosReliability.BEST_EFFORT, QosDurability.VOLATILE, depth=3),
            offer(QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, depth=1),
        ]
    )
    assert both.reliability == ReliabilityPolicy.RELIABLE
    assert (both.durability, both.depth) == (DurabilityPolicy.TRANSIENT_LOCAL, 3)
    assert qos.from_bag([]) == qos.RELIABLE


@pytest.mark.parametrize('reliability', [QosReliability.RELIABLE, QosReliability.BEST_EFFORT])
def test_a_profile_made_latched_serves_every_subscriber(reliability):
    made = qos.latched(qos.from_bag([offer(reliability, QosDurability.VOLATILE, depth=3)]))
    assert (made.durability, made.reliability) == (DurabilityPolicy.TRANSIENT_LOCAL, ReliabilityPolicy.RELIABLE)
    assert (made.history, made.depth) == (HistoryPolicy.KEEP_LAST, 3)


def test_a_rate_falls_when_the_stream_stops():
    now = [0.0]
    meter = RateMeter(window_s=3.0, clock=lambda: now[0])
    assert (meter.rate_hz, meter.age_s) == (0.0, None)
    for tick in range(31):
        now[0] = 0.1 * tick
        meter.tick()
    assert meter.rate_hz == pytest.approx(10.0)
    assert meter.age_s == 0.0
    now[0] += 1.5
    assert meter.rate_hz < 10.0
    assert meter.age_s == pytest.approx(1.5)
    now[0] += 10.0
    assert meter.rate_hz == 0.0
    assert meter.count == 31


@pytest.mark.parametrize(
    ('steering', 'acceleration', 'expected'),
    [
        (0.0, 0.0, (0.0, 0.0, 0.0)),
        (0.1, 1.25, (0.5, 0.0, -0.1 / math.radians(70.0))),  # CARLA steers positive to the right
        (-0.6, -3.5, (0.0, 0.5, 0.6 / math.radians(70.0))),
        (2.0, 99.0, (1.0, 0.0, -1.0)),
        (0.0, -99.0, (0.0, 1.0, 0.0)),
    ],
)
def test_carla_pedals(steering, acceleration, expected):
    config = ControlConfig(max_steering_rad=0.6, max_acceleration_mps2=2.5, max_braking_mps2=7.0)
    assert carla.pedals(ControlCommand(steering, acceleration), config) == pytest.approx(expected)


def test_carla_steers_by_the_vehicles_own_largest_angle():
    """Whatever the follower may ask for: 0.1 rad is 0.1 rad on the road."""
    for most_rad in (0.6, math.radians(48.0), math.radians(70.0)):
        for config in (ControlConfig(), ControlConfig(max_steering_rad=0.3)):
            _, _, steer = carla.pedals(ControlCommand(0.1, 0.0), config, most_rad)
            assert -steer * most_rad == pytest.approx(0.1)


def test_the_bridges_message_has_the_pedals_and_the_stamp(monkeypatch):
    monkeypatch.setattr(carla, 'control_message_type', lambda: lambda: SimpleNamespace(header=SimpleNamespace()))
    message = carla.to_control(ControlCommand(0.1, 0.0, hold=True), ControlConfig(), Time(sec=7), max_steer_rad=0.5)
    assert message.header.stamp == Time(sec=7)
    assert (message.throttle, message.steer) == pytest.approx((0.0, -0.2))
    assert message.brake > 0.3


@pytest.mark.parametrize('acceleration', [0.0, 0.4, -0.2])
def test_carla_holds_the_brake_while_the_vehicle_stands(acceleration):
    config = ControlConfig(max_braking_mps2=6.0, stale_braking_mps2=3.0)
    assert carla.pedals(ControlCommand(0.0, acceleration, hold=True), config)[:2] == pytest.approx((0.0, 0.5))
    assert carla.pedals(ControlCommand(0.0, -6.0, hold=True), config)[:2] == pytest.approx((0.0, 1.0))
