# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The lines around the area that vehicles may use, near the route."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import shapely
from shapely.geometry import LineString, box

from vla_driver.sim.scoring import BOUNDARY_WITHIN_M, drivable_area, road_boundary
from vla_driver.sim.world.road import sample_route
from vla_driver.sim.world.towns import load_network, town_path
from vla_driver.types import FloatArray, InvalidInput

WAY = np.array([[0.0, 0.0], [100.0, 0.0]])


def length_of(lines: Iterable[FloatArray]) -> float:
    return float(sum(LineString(line).length for line in lines))


def test_exterior_and_holes_are_lines_that_close() -> None:
    area = box(-20.0, -10.0, 120.0, 10.0).difference(box(40.0, -2.0, 60.0, 2.0))
    lines = road_boundary(area, WAY)
    assert len(lines) == 2
    assert all(np.array_equal(line[0], line[-1]) for line in lines)
    assert sorted(LineString(line).length for line in lines) == pytest.approx([48.0, 320.0])
    assert all(line.shape == (5, 2) for line in lines)


def test_areas_of_several_parts_are_all_bounded() -> None:
    area = box(-20.0, -10.0, 30.0, 10.0).union(box(50.0, -10.0, 120.0, 10.0))
    assert sorted(LineString(line).length for line in road_boundary(area, WAY)) == pytest.approx([140.0, 180.0])


def test_lines_are_cut_off_far_from_the_way() -> None:
    area = box(-1000.0, -5.0, 1000.0, 5.0)
    lines = road_boundary(area, WAY)
    # Where a ring begins is no end of a line: there are two edges, not three pieces.
    assert len(lines) == 2
    beyond = np.sqrt(BOUNDARY_WITHIN_M**2 - 5.0**2)
    for line in lines:
        assert np.ptp(line[:, 1]) == pytest.approx(0.0, abs=1e-9)
        assert (line[:, 0].min(), line[:, 0].max()) == pytest.approx((-beyond, 100.0 + beyond), abs=0.5)
    assert road_boundary(shapely.affinity.translate(area, 0.0, 500.0), WAY) == ()
    assert road_boundary(shapely.Polygon(), WAY) == ()


def test_a_ring_that_begins_in_the_middle_of_a_piece_is_whole_there() -> None:
    # A square that begins at a corner near the way, whose far side is cut off.
    area = shapely.Polygon([(50.0, 10.0), (90.0, 10.0), (90.0, 200.0), (10.0, 200.0), (10.0, 10.0)])
    (line,) = road_boundary(area, WAY)
    assert line[:, 1].min() == 10.0 and line[:, 1].max() == pytest.approx(80.0, abs=0.1)
    assert not np.array_equal(line[0], line[-1])


def test_points_are_left_out_where_the_line_moves_little() -> None:
    x = np.linspace(0.0, 100.0, 1001)
    wavy = np.stack([x, 10.0 + 0.02 * np.sin(x)], axis=-1)
    area = shapely.Polygon([*wavy, (100.0, -10.0), (0.0, -10.0)])
    (coarse,), (fine,) = road_boundary(area, WAY), road_boundary(area, WAY, tolerance_m=0.0)
    assert len(coarse) < 20 and len(fine) > 900
    assert shapely.hausdorff_distance(LineString(coarse), LineString(fine)) < 0.06


@pytest.mark.parametrize('way', [[[0.0, 0.0]], [[0.0, 0.0], [np.nan, 0.0]], [0.0, 1.0]])
def test_a_way_that_is_none_is_refused(way: list[Any]) -> None:
    with pytest.raises(InvalidInput, match='way along the boundary'):
        road_boundary(box(0.0, 0.0, 1.0, 1.0), way)


def test_a_town_is_bounded_beside_its_route_and_the_route_crosses_nothing() -> None:
    network = load_network(town_path('test_web'))
    area = drivable_area(network)
    way = sample_route(network, np.random.default_rng(1), 400.0).points_m
    lines = road_boundary(area, way)
    route = LineString(way)
    assert not any(route.intersects(LineString(line)) for line in lines)
    assert max(shapely.distance(shapely.points(np.vstack(lines)), route)) < BOUNDARY_WITHIN_M + 0.01
    assert max(shapely.distance(shapely.points(np.vstack(lines)), area.boundary)) < 1e-6
    # Nothing of it is missing but what the simpler lines cut short.
    near = shapely.intersection(area.boundary, route.buffer(BOUNDARY_WITHIN_M))
    assert length_of(lines) == pytest.approx(near.length, rel=0.01)
    # From every point of the route the road ends soon: there are but a few lanes beside it.
    edges = shapely.multilinestrings([LineString(line) for line in lines])
    assert max(shapely.distance(shapely.points(way), edges)) < 20.0


def test_a_corner_that_touches_the_zone_in_one_point_is_no_line() -> None:
    corner = shapely.Polygon([(0.0, BOUNDARY_WITHIN_M), (-10.0, 200.0), (10.0, 200.0)])
    assert road_boundary(corner, [[-10.0, 0.0], [10.0, 0.0]]) == ()
