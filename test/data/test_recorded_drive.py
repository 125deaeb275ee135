# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a recorded drive of the expert holds beside its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shapely.geometry import LineString

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.data.recorded_drive import START_S, record_drive
from vla_driver.sim.scoring import road_boundary
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world.scenario import scenarios


def test_a_drive_tells_where_the_road_ends_and_stays_on_it(tmp_path: Path) -> None:
    with Simulation(scenarios('val', 1)[0], render=False) as simulation:
        result, ticks = record_drive(simulation, tmp_path / 'bag', seconds=5.0)
        want = road_boundary(simulation.area, simulation.path.points_m)
    assert ticks == 50 and result.off_road_events == 0
    with BagReader(tmp_path / 'bag') as bag:
        found = bag.road_boundary()
        ((_, logged_ns, _),) = bag.messages([schema.ROAD_BOUNDARY_TOPIC])
        driven = LineString([(state.x_m, state.y_m) for state in bag.odometry()])
    assert logged_ns == round(START_S * 1e9)
    assert len(found) == len(want) > 0
    for got, line in zip(found, want, strict=True):
        np.testing.assert_array_equal(got, line)
    assert driven.length > 5.0
    assert not any(driven.intersects(LineString(line)) for line in found)
    assert min(driven.distance(LineString(line)) for line in found) < 10.0
