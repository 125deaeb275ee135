# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Turns that are made of a route alone, against those that the simulator's navigation says."""

from __future__ import annotations

import numpy as np

from vla_driver.observation.guidance import WITHIN_M, RouteGuide
from vla_driver.sim.world.road import sample_route
from vla_driver.sim.world.towns import TOWNS, load_network, town_path
from vla_driver.types import TurnCommand


def test_bends_of_routes_are_the_turns_that_the_navigation_says() -> None:
    turns = missed = others = invented = 0
    errors_m = []
    for town in (*TOWNS['val'], *TOWNS['train'])[:4]:
        network = load_network(town_path(town))
        for seed in range(3):
            path, guide = sample_route(network, np.random.default_rng(seed), 600.0), RouteGuide()
            guide.take(path.points_m, path.at(0.0))
            for s_m in np.arange(8.0, path.length_m - 5.0, 4.0):
                said, distance_m = guide.next_turn(path.at(s_m))
                true, true_m = path.next_manoeuvre(s_m)
                if true in (TurnCommand.LEFT, TurnCommand.RIGHT):
                    turns, missed = turns + 1, missed + (said is not true)
                    if said is true and true_m < WITHIN_M:
                        errors_m.append(distance_m - true_m)
                else:
                    others, invented = others + 1, invented + (said is not TurnCommand.FOLLOW)
    assert turns > 300
    assert missed / turns < 0.04
    assert invented / others < 0.06
    assert abs(float(np.median(errors_m))) < 2.0
