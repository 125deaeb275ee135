# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Routes over the shipped towns."""

import numpy as np
import pytest

from vla_driver.sim.world.road import sample_route
from vla_driver.sim.world.towns import TOWNS, load_network, town_path
from vla_driver.types import InvalidInput, TurnCommand

EVERY_TOWN = [town for towns in TOWNS.values() for town in towns]


@pytest.mark.parametrize('town', EVERY_TOWN)
def test_routes_are_long_continuous_and_drivable(town):
    network = load_network(town_path(town))
    rng = np.random.default_rng(3)
    for _ in range(5):
        route = sample_route(network, rng, 200.0)
        assert route.length_m >= 199.0
        assert np.hypot(*np.diff(route.points_m, axis=0).T).max() < 1.5
        # The ego's steering reaches 0.244 1/m; the pursuit cuts the few sharper kinks of a junction's lanes.
        assert (np.abs(route.curvature_per_m) > 0.244).mean() < 0.03
        assert (route.speed_limit_mps > 2.0).all()


def test_towns_are_split_without_overlap():
    assert len(set(EVERY_TOWN)) == len(EVERY_TOWN)
    assert len(TOWNS['train']) >= 4 and len(TOWNS['val']) == 1 and len(TOWNS['test']) == 2


def test_projection_inverts_position():
    route = sample_route(load_network(town_path('train_grid')), np.random.default_rng(0), 200.0)
    for s in (20.0, 77.7, 150.0):
        pose = route.at(s)
        left = np.array([-np.sin(pose[2]), np.cos(pose[2])])
        found_s, found_d = route.project(pose[:2] + 1.2 * left, near_m=s + 3.0)
        assert found_s == pytest.approx(s, abs=0.4)
        assert found_d == pytest.approx(1.2, abs=0.1)


def test_turn_command_counts_down_to_the_junction():
    route = sample_route(load_network(town_path('train_grid')), np.random.default_rng(1), 200.0)
    first = route.manoeuvres[0]
    command, distance = route.next_manoeuvre(first.start_m - 30.0)
    assert (command, distance) == (first.command, pytest.approx(30.0))
    assert route.next_manoeuvre(first.start_m - 61.0)[0] is TurnCommand.FOLLOW
    assert route.next_manoeuvre(0.5 * (first.start_m + first.end_m)) == (first.command, 0.0)


def test_turn_commands_match_the_geometry():
    network = load_network(town_path('train_grid'))
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(10):
        route = sample_route(network, rng, 250.0)
        for m in route.manoeuvres:
            before, after = np.interp([m.start_m - 3.0, m.end_m + 3.0], route.s_m, route.yaw_rad)
            expected = {TurnCommand.LEFT: np.pi / 2, TurnCommand.RIGHT: -np.pi / 2}.get(m.command, 0.0)
            assert after - before == pytest.approx(expected, abs=0.35)
            seen.add(m.command)
    assert seen == {TurnCommand.LEFT, TurnCommand.RIGHT, TurnCommand.STRAIGHT}


def test_target_points_are_sparse_and_noisy():
    route = sample_route(load_network(town_path('train_web')), np.random.default_rng(4), 300.0)
    clean = route.sparse_points(np.random.default_rng(9), 14.0, noise_m=0.0)
    noisy = route.sparse_points(np.random.default_rng(9), 14.0)
    s = [route.project(point)[0] for point in clean]
    assert np.diff(s).min() > 25.0
    assert 0.2 < np.abs(noisy - clean).mean() < 3.0


def test_unknown_town_lists_the_shipped_ones():
    with pytest.raises(InvalidInput, match='train_grid'):
        town_path('atlantis')
