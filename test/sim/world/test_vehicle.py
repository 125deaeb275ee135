# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The kinematic bicycle and footprints."""

import numpy as np
import pytest

from vla_driver.sim.world.vehicle import WHEELBASE_M, Bicycle, ego_rectangle, rectangle, rectangles_overlap


def test_constant_steering_drives_a_circle():
    car = Bicycle(0.0, 0.0, 0.0, speed_mps=5.0, steering_rad=0.2)
    radius = WHEELBASE_M / np.tan(0.2)
    for _ in range(round(2.0 * np.pi * radius / 5.0 / 0.1)):
        car.step(0.2, 0.0, 0.1)
    assert np.hypot(car.x_m, car.y_m) < 0.5
    car.step(0.2, 0.0, 0.1)
    assert car.yaw_rate_rps == pytest.approx(5.0 / radius)


def test_braking_stops_and_never_reverses():
    car = Bicycle(0.0, 0.0, 0.0, speed_mps=3.0)
    for _ in range(20):
        car.step(0.0, -5.0, 0.1)
    assert car.speed_mps == 0.0
    assert car.x_m == pytest.approx(3.0**2 / (2 * 5.0), abs=0.1)


def test_steering_and_acceleration_are_limited():
    car = Bicycle(0.0, 0.0, 0.0, speed_mps=1.0)
    car.step(5.0, 50.0, 0.1)
    assert car.steering_rad == pytest.approx(0.09)
    assert car.speed_mps == pytest.approx(1.25)


def test_overlap_of_turned_boxes():
    ego = ego_rectangle(np.array([0.0, 0.0, 0.0]))
    assert rectangles_overlap(ego, rectangle(4.5, 0.0, np.pi / 2, 4.5, 1.8))
    assert not rectangles_overlap(ego, rectangle(4.8, 0.0, np.pi / 2, 4.5, 1.8))
    # Bounding boxes overlap here, the boxes themselves do not.
    assert not rectangles_overlap(ego, rectangle(5.4, 2.8, np.pi / 4, 4.5, 1.0))
