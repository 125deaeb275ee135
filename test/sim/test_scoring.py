# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Penalties, success and the ends of a drive."""

import numpy as np
import pytest
from shapely.geometry import box

from vla_driver.sim.scoring import Scorer
from vla_driver.sim.world.road import RoutePath
from vla_driver.sim.world.scene import Actor, SemanticClass, SignalState
from vla_driver.sim.world.vehicle import FRONT_M, Bicycle


def drive(until_x=100.0, y=0.0, actors=(), signals=(), speed=5.0, area=None):
    points = np.stack([np.arange(0.0, 100.5, 0.5), np.zeros(201)], axis=-1)
    path = RoutePath(points, np.full(201, 11.0), (), (), ('e',))
    scorer = Scorer(area or box(-10.0, -3.0, 120.0, 3.0), path, 0.0, 60.0, 0.1)
    car = Bicycle(0.0, y, 0.0, speed_mps=speed)
    while not scorer.ended_by and car.x_m < until_x:
        car.step(0.0, 0.0, 0.1)
        scorer.observe(car, car.x_m, y, actors, signals)
    return scorer.result('town', 1)


def test_clean_drive_scores_100():
    result = drive()
    assert result.success and result.ended_by == 'finished'
    assert result.driving_score == pytest.approx(100.0) and result.route_completion == 1.0
    assert result.comfort == 1.0 and result.distance_m == pytest.approx(98.0 - FRONT_M, abs=1.0)


@pytest.mark.parametrize(
    ('kind', 'name', 'factor'),
    [
        (SemanticClass.PEDESTRIAN, 'pedestrian', 0.5),
        (SemanticClass.CAR, 'vehicle', 0.6),
    ],
)
def test_collision_ends_the_drive_with_its_factor(kind, name, factor):
    result = drive(actors=[Actor(3, kind, 50.0, 0.0, 0.0, 1.0, 1.0, 1.7)])
    assert result.collisions == {name: 1} and not result.success
    assert result.driving_score == pytest.approx(100.0 * result.route_completion * factor)
    assert 0.4 < result.route_completion < 0.55


def test_red_light_counts_once():
    result = drive(signals=[(40.0, SignalState.RED)])
    assert result.red_lights == 1 and result.ended_by == 'finished' and not result.success
    assert result.driving_score == pytest.approx(70.0)
    assert drive(signals=[(40.0, SignalState.GREEN)]).red_lights == 0


def test_off_road_excursion_is_one_event():
    area = box(-10.0, -3.0, 40.0, 3.0).union(box(50.0, -3.0, 120.0, 3.0))
    result = drive(area=area)
    assert result.off_road_events == 1 and result.ended_by == 'finished'
    assert 0.05 < result.off_road_fraction < 0.25
    assert result.driving_score == pytest.approx(65.0)


def test_staying_off_road_ends_the_drive():
    assert drive(y=5.0).ended_by == 'off road'


def test_standing_still_times_out():
    result = drive(speed=0.0)
    assert result.timed_out and result.route_completion < 0.01
