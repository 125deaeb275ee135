# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Route progress and plan following."""

import numpy as np
import pytest

from vla_driver.bag.read import BagReader
from vla_driver.bag.sample import sample_bag_path
from vla_driver.geometry import se2, unicycle
from vla_driver.observation.route import RouteTracker, target_points
from vla_driver.planning.control import TrajectoryController
from vla_driver.sim.world.road import sample_route
from vla_driver.sim.world.scenario import scenarios
from vla_driver.sim.world.towns import load_network
from vla_driver.sim.world.vehicle import Bicycle
from vla_driver.types import EgoState, InvalidInput, Plan, TurnCommand


def ego(x=0.0, y=0.0, yaw=0.0, speed=5.0, stamp=0.0):
    return EgoState(stamp, x, y, yaw, speed)


def test_tracker_hands_out_the_next_two_points_and_never_goes_back():
    tracker = RouteTracker([[30.0, 0.0], [60.0, 10.0], [60.0, 40.0]])
    first = tracker.navigation(ego(), TurnCommand.LEFT, 20.0)
    np.testing.assert_allclose(first.target_points_m, [[30.0, 0.0], [60.0, 10.0]])
    second = tracker.navigation(ego(25.0), TurnCommand.LEFT, 0.0)
    np.testing.assert_allclose(second.target_points_m, [[35.0, 10.0], [35.0, 40.0]])
    again = tracker.navigation(ego(0.0), TurnCommand.LEFT, 0.0)
    np.testing.assert_allclose(again.target_points_m[0], [60.0, 10.0])
    last = tracker.navigation(ego(59.0, 9.0), TurnCommand.FOLLOW, 60.0)
    np.testing.assert_allclose(last.target_points_m[0], last.target_points_m[1])
    tracker.reset()
    np.testing.assert_allclose(tracker.navigation(ego(), TurnCommand.LEFT, 0.0).target_points_m[0], [30.0, 0.0])


def next_point(tracker, *at):
    points = tracker.navigation(ego(*at), TurnCommand.FOLLOW, 0.0).target_points_m
    return np.round(se2.points_to_global(ego(*at).pose, points)[0], 6).tolist()


@pytest.mark.parametrize('first', [[], [(20.0,), (50.0,)]])
def test_a_point_that_went_by_unseen_does_not_hold_the_route_up(first):
    """Starts in the middle, and gaps of two seconds and more."""
    tracker = RouteTracker([[30.0 * k, 0.0] for k in range(1, 8)])
    for at in first:
        next_point(tracker, *at)
    assert next_point(tracker, 110.0) == [120.0, 0.0]
    assert next_point(tracker, 140.0, 12.0) == [150.0, 0.0]
    assert next_point(tracker, 260.0) == [150.0, 0.0]  # off the route: nothing fits


def test_progress_goes_on_at_the_first_leg_that_fits():
    """A route that crosses itself at (60, 0), and one that comes back beside itself."""
    crossing = RouteTracker([[30.0, 0.0], [90.0, 0.0], [90.0, 60.0], [60.0, 60.0], [60.0, -60.0], [120.0, -60.0]])
    assert next_point(crossing, 62.0) == [90.0, 0.0]
    back = RouteTracker([[50.0, 0.0], [100.0, 0.0], [100.0, 12.0], [0.0, 12.0]])
    assert next_point(back, 75.0) == [100.0, 0.0]
    assert next_point(back, 60.0, 12.0, np.pi) == [0.0, 12.0]  # a gap since: it has turned and comes back
    start = RouteTracker([[50.0, 0.0], [100.0, 0.0], [100.0, 12.0], [0.0, 12.0]])
    assert next_point(start, 75.0, 12.0, np.pi) == [50.0, 0.0]
    assert next_point(start, 20.0, 12.0, np.pi) == [0.0, 12.0]


@pytest.mark.parametrize('step', [0.5, 1.0, 2.0, 10.0, 19.0])
def test_a_dense_route_is_thinned_to_target_points(step):
    """Straight on, then through a left bend: at least 25 m of the way from one to the next, and the end is the end."""
    way = np.arange(0.0, 311.0, step)
    angle = np.clip((way - 100.0) / 60.0, 0.0, np.pi / 2)
    steps = step * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    dense = np.cumsum(steps, axis=0)
    kept = target_points(dense)
    index = [int(np.flatnonzero((dense == point).all(axis=1))[0]) for point in kept]
    assert (index[0], index[-1]) == (0, len(dense) - 1)
    apart = np.diff(way[index])
    assert apart.min() >= 25.0
    assert apart[:-1].max() < 25.0 + step
    assert apart[-1] < 50.0 + step


def test_a_sparse_route_comes_out_as_it_went_in():
    rng = np.random.default_rng(0)
    for scenario in scenarios('test', 4, 0, 400.0):
        path = sample_route(load_network(scenario.network_path), rng, scenario.length_m)
        points = path.sparse_points(rng, 14.0)
        np.testing.assert_array_equal(target_points(points), points)
    with BagReader(sample_bag_path()) as bag:
        np.testing.assert_array_equal(target_points(bag.route()), bag.route())
    one_short_step = [[30.0, 0.0], [60.0, 0.0], [68.0, 0.0], [100.0, 0.0]]
    for points in ([[5.0, 0.0]], [[5.0, 0.0], [6.0, 0.0]], one_short_step):
        np.testing.assert_array_equal(target_points(points), points)


def test_a_short_dense_route_keeps_its_ends():
    dense = [[float(x), 0.0] for x in range(12)]
    np.testing.assert_array_equal(target_points(dense), [[0.0, 0.0], [11.0, 0.0]])


@pytest.mark.parametrize('points', [[], [[1.0, float('nan')]], [[1.0, 2.0, 3.0]]])
def test_tracker_refuses_bad_routes(points):
    with pytest.raises(InvalidInput, match='route'):
        RouteTracker(np.array(points))


def test_controller_follows_a_curve():
    plan = Plan(0.0, unicycle.integrate(5.0, np.zeros(20), np.full(20, 0.08)), ego(), 'test', ttl_s=5.0)
    car, controller = Bicycle(0.0, 0.0, 0.0, speed_mps=5.0), TrajectoryController()
    for k in range(30):
        state = EgoState(0.1 * k, car.x_m, car.y_m, car.yaw_rad, car.speed_mps)
        command = controller.command(plan, state, 0.1 * k)
        car.step(command.steering_rad, command.acceleration_mps2, 0.1)
    radius = 1 / 0.08
    assert abs(np.hypot(car.x_m, car.y_m - radius) - radius) < 0.4
    assert car.speed_mps == pytest.approx(5.0, abs=0.2)


def test_controller_stops_on_stale_or_missing_plans():
    plan = Plan(0.0, unicycle.integrate(5.0, np.zeros(20), np.zeros(20)), ego(), 'test', ttl_s=0.5)
    controller = TrajectoryController()
    assert controller.command(plan, ego(), 0.4).acceleration_mps2 == pytest.approx(0.0, abs=1e-6)
    late = controller.command(plan, ego(stamp=0.6), 0.6)
    assert late.acceleration_mps2 < -1.0 and '0.60 s old' in late.reason
    missing = controller.command(None, ego(), 0.0)
    assert missing.acceleration_mps2 < -1.0 and missing.reason == 'no plan yet'


def test_controller_stands_where_a_plan_only_creeps():
    """A plan of 0.3 m/s for all its seconds means to stand; one that will pick up means to go."""
    creep = Plan(0.0, unicycle.integrate(0.3, np.zeros(20), np.zeros(20)), ego(speed=0.3), 'test', ttl_s=5.0)
    assert TrajectoryController().command(creep, ego(speed=0.3), 0.0).acceleration_mps2 == pytest.approx(-0.6)
    start = Plan(0.0, unicycle.integrate(0.3, np.full(20, 1.0), np.zeros(20)), ego(speed=0.3), 'test', ttl_s=5.0)
    assert TrajectoryController().command(start, ego(speed=0.3), 0.0).acceleration_mps2 > 0.5
    # Braking from a drive is followed as planned: only its end is below the limit.
    brake = Plan(0.0, unicycle.integrate(4.0, np.full(20, -2.0), np.zeros(20)), ego(speed=4.0), 'test', ttl_s=5.0)
    assert TrajectoryController().command(brake, ego(speed=4.0), 0.0).acceleration_mps2 == pytest.approx(-2.0)


def test_controller_holds_a_vehicle_that_stands_where_its_plan_stands():
    stand = Plan(0.0, unicycle.integrate(0.0, np.zeros(20), np.zeros(20)), ego(speed=0.0), 'test', ttl_s=5.0)
    creep = Plan(0.0, unicycle.integrate(0.3, np.zeros(20), np.zeros(20)), ego(speed=0.3), 'test', ttl_s=5.0)
    start = Plan(0.0, unicycle.integrate(0.0, np.full(20, 1.0), np.zeros(20)), ego(speed=0.0), 'test', ttl_s=5.0)
    for plan in (stand, creep):
        for speed in (-1.0, 0.0, 0.3):  # backwards: it rolls on a slope already
            assert TrajectoryController().command(plan, ego(speed=speed), 0.0).hold
        assert not TrajectoryController().command(plan, ego(speed=3.0), 0.0).hold  # still to be braked as planned
    assert not TrajectoryController().command(start, ego(speed=0.0), 0.0).hold


def test_controller_stops_where_the_odometry_cannot_have_come_from_the_plan():
    plan = Plan(0.0, unicycle.integrate(5.0, np.zeros(20), np.zeros(20)), ego(), 'test', ttl_s=1.0)
    controller = TrajectoryController()
    for x, y, stamp in ((2.5, 0.0, 0.5), (2.5, 1.2, 0.5), (6.9, 0.0, 0.8), (0.0, -1.4, 0.0)):
        assert controller.command(plan, ego(x, y, stamp=stamp), stamp).reason == ''
    for x, y, stamp in ((0.0, 3.0, 0.1), (-4.0, 0.0, 0.1), (89_500.0, 43_200.0, 0.2)):
        stopped = controller.command(plan, ego(x, y, stamp=stamp), stamp)
        assert stopped.acceleration_mps2 < -1.0
        assert f'{np.hypot(x, y):.1f} m from where the plan starts, {stamp:.2f} s later at 5.0 m/s' in stopped.reason


@pytest.mark.parametrize('speed', [0.0, 3.0, 8.0, 20.0])
def test_controller_stops_where_the_heading_cannot_have_come_from_the_plan(speed):
    plan = Plan(0.0, unicycle.integrate(speed, np.zeros(20), np.zeros(20)), ego(speed=speed), 'test', ttl_s=1.0)
    controller = TrajectoryController()
    sharpest = min(0.24 * speed, 6.0 / max(speed, 1.0))  # rad/s: by its steering, by its tyres
    for turned in (0.25, 0.25 + 0.5 * sharpest):
        there = ego(0.5 * speed, yaw=turned, speed=speed, stamp=0.5)
        assert controller.command(plan, there, 0.5).reason == ''
    for stamp in (0.0, 0.2, 0.5):
        stopped = controller.command(plan, ego(stamp * speed, yaw=-1.5, speed=speed, stamp=stamp), stamp)
        assert f'the odometry has turned by 86 degrees since the plan, {stamp:.2f} s later' in stopped.reason
        assert stopped.acceleration_mps2 < -1.0
