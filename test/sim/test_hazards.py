# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the expert takes for a hazard, and what it does about it."""

import numpy as np
import pytest

from vla_driver.sim.expert import Cause, WorldState, plan_ahead
from vla_driver.sim.world.road import RoutePath
from vla_driver.sim.world.scene import Actor, SemanticClass, SignalState
from vla_driver.sim.world.vehicle import FRONT_M


@pytest.fixture
def road():
    points = np.stack([np.arange(0.0, 200.0, 0.5), np.zeros(400)], axis=-1)
    return RoutePath(points, np.full(400, 11.0), (), (), ('e',))


def answer(road, actors=(), signals=(), speed=8.0, limits=None, pose=(20.0, 0.0, 0.0)):
    return plan_ahead(WorldState(np.array(pose), speed, pose[0], road, actors, limits or {}, signals))


def car(x, y=0.0, yaw=0.0, speed=0.0):
    return Actor(7, SemanticClass.CAR, x, y, yaw, 4.5, 1.8, 1.5, speed)


def test_free_road_keeps_speed(road):
    found = answer(road)
    assert found.cause is Cause.NONE
    assert found.trajectory.speed_mps[-1] == pytest.approx(8.4, abs=0.3)
    assert np.abs(found.trajectory.positions_m[:, 1]).max() < 0.05


def test_stops_behind_a_standing_car(road):
    found = answer(road, [car(50.0)])
    assert found.cause is Cause.LEAD
    assert found.trajectory.positions_m[-1, 0] < 50.0 - 2.25 - 20.0 - FRONT_M
    assert found.trajectory.speed_mps[-1] < 2.0


def test_stops_at_red_but_not_at_green(road):
    red = answer(road, signals=[(50.0, SignalState.RED)])
    assert red.cause is Cause.SIGNAL and red.red_light_m == pytest.approx(50.0 - 20.0 - FRONT_M)
    assert red.trajectory.positions_m[-1, 0] + FRONT_M + 20.0 < 50.0
    assert answer(road, signals=[(50.0, SignalState.GREEN)]).cause is Cause.NONE


def test_amber_is_passed_when_too_near_to_stop(road):
    assert answer(road, signals=[(30.0, SignalState.AMBER)]).cause is Cause.NONE
    assert answer(road, signals=[(50.0, SignalState.AMBER)]).cause is Cause.SIGNAL


def test_yields_to_crossing_traffic_unless_its_light_is_red(road):
    crossing = car(45.0, -15.0, np.pi / 2, 7.0)
    assert answer(road, [crossing]).cause is Cause.CROSSING
    assert answer(road, [crossing], limits={7: 8.0}).cause is Cause.NONE


def test_walking_person_ahead_and_standing_person_beside(road):
    walking = Actor(9, SemanticClass.PEDESTRIAN, 38.0, -3.0, np.pi / 2, 0.5, 0.5, 1.7, 1.3)
    standing = Actor(9, SemanticClass.PEDESTRIAN, 38.0, -3.0, np.pi / 2, 0.5, 0.5, 1.7, 0.0)
    assert answer(road, [walking]).cause is Cause.CROSSING
    assert answer(road, [standing]).cause is Cause.NONE


def test_oncoming_and_following_traffic_is_no_hazard(road):
    assert answer(road, [car(60.0, 3.4, np.pi, 9.0), car(12.0, 0.0, 0.0, 9.0)]).cause is Cause.NONE


def test_recovers_from_an_offset(road):
    found = answer(road, pose=(20.0, 1.0, 0.1))
    end = found.trajectory.positions_m[-1]
    across = 1.0 + np.sin(0.1) * end[0] + np.cos(0.1) * end[1]
    assert abs(across) < 0.25
