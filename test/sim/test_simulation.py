# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""SUMO in the loop: the expert drives, the same seed drives the same, infractions are seen."""

import numpy as np
import pytest

from vla_driver.planning.control import ControlCommand, TrajectoryController
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world.scenario import Scenario, custom_scenario, scenarios
from vla_driver.sim.world.towns import town_path
from vla_driver.types import CAMERA_NAMES, InvalidInput


def expert_drive(scenario, seconds):
    poses = []
    with Simulation(scenario, render=False) as simulation:
        expert, controller = simulation.expert(), TrajectoryController()
        while not simulation.done and simulation.time_s < seconds:
            plan = expert.plan(simulation.observe())
            simulation.step(controller.command(plan, simulation.ego, simulation.time_s))
            poses.append(simulation.ego.pose)
        return np.array(poses), simulation.result()


def test_expert_finishes_a_route():
    _, result = expert_drive(Scenario('train_rand', 12, length_m=120.0), 200.0)
    assert result.success, result


def test_same_seed_same_drive_and_another_seed_another():
    first, _ = expert_drive(Scenario('train_grid', 5), 15.0)
    again, _ = expert_drive(Scenario('train_grid', 5), 15.0)
    other, _ = expert_drive(Scenario('train_grid', 6), 15.0)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[:100] - other[:100]).max() > 1.0


def test_shorter_steps_are_the_same_physics():
    """20 a second, as CARLA's bridge does by default: the same way under the same command, traffic that keeps time."""
    scenario, seen = Scenario('train_grid', 5), {}
    for step_s in (0.1, 0.05):
        with Simulation(scenario, render=False, step_s=step_s) as simulation:
            began_s = simulation._traffic.time_s
            for _ in range(round(4.0 / step_s)):
                simulation.step(ControlCommand(0.02, 1.0))
            assert simulation.time_s == pytest.approx(4.0)
            assert simulation._traffic.time_s - began_s == pytest.approx(4.0)
            walked = [actor.speed_mps for actor in simulation.actors()]
            seen[step_s] = simulation.ego.pose, simulation.result().distance_m, walked
    assert seen[0.05][0] == pytest.approx(seen[0.1][0], abs=0.1)
    assert seen[0.05][1] == pytest.approx(seen[0.1][1], rel=0.02)
    assert max(seen[0.05][2]) < 20.0  # nobody is twice as fast
    with pytest.raises(InvalidInput, match=r'step of 0\.0333 s: SUMO steps by whole milliseconds'):
        Simulation(scenario, render=False, step_s=0.0333)


def test_driving_straight_on_leaves_the_road():
    with Simulation(Scenario('train_web', 3), render=False) as simulation:
        simulation.disturb(yaw_rad=0.6, speed_mps=8.0)
        while not simulation.done and simulation.time_s < 60.0:
            simulation.step(ControlCommand(0.0, 0.0))
        result = simulation.result()
    assert not result.success
    assert result.off_road_events >= 1 or result.collisions


def test_observation_without_rendering_names_every_camera_missing():
    with Simulation(Scenario('train_grid', 1), render=False) as simulation:
        observation = simulation.observe()
        assert set(observation.missing) == set(CAMERA_NAMES) and not observation.frames
        assert np.hypot(*observation.navigation.target_points_m[0]) > 5.0
        with pytest.raises(InvalidInput, match='one SUMO simulation per process'):
            Simulation(Scenario('train_grid', 2), render=False)


def test_own_network_and_bad_files(tmp_path):
    scenario = custom_scenario(town_path('train_grid'), seed=4)
    with Simulation(scenario, render=False) as simulation:
        simulation.step(ControlCommand(0.0, 1.0))
        assert simulation.time_s == pytest.approx(0.1)
    with pytest.raises(InvalidInput, match=r'nowhere\.net\.xml'):
        custom_scenario(tmp_path / 'nowhere.net.xml')
    broken = tmp_path / 'broken.net.xml'
    broken.write_text('this is no network')
    with pytest.raises(InvalidInput, match='not a SUMO network'):
        Simulation(custom_scenario(broken), render=False)


def test_own_traffic_replaces_the_generated(tmp_path):
    import libsumo

    network = town_path('train_grid')
    routes = tmp_path / 'own.rou.xml'
    trip = '<trip id="only" type="taxi" depart="0" from="A0A1" to="C2C3"/>'
    routes.write_text(f'<routes><vType id="taxi"/>{trip}</routes>')
    with Simulation(custom_scenario(network, [routes], seed=1), render=False):
        assert set(libsumo.vehicle.getIDList()) <= {'only', 'ego'}


def test_scenarios_are_reproducible_and_splits_checked():
    assert scenarios('test', 4) == scenarios('test', 4)
    assert {s.town for s in scenarios('test', 4)} == {'test_web', 'test_ladder'}
    with pytest.raises(InvalidInput, match='allowed: train, val, test'):
        scenarios('holdout', 1)
