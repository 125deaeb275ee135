# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The town's geometry, without a picture: surfaces, markings, scenery, chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
import sumolib
from shapely.geometry import LineString

from vla_driver.sim.render import polyline
from vla_driver.sim.render.light import Light
from vla_driver.sim.render.mesh import MeshBuilder, triangulate
from vla_driver.sim.render.road_surface import RoadSurface, read_surface
from vla_driver.sim.render.scenery import place_scenery
from vla_driver.sim.render.town_mesh import CURB_HEIGHT_M, STATIC_VERTEX, TownMesh, build_town
from vla_driver.sim.world.scene import Look, SemanticClass
from vla_driver.types import InvalidInput

NET = Path(__file__).parents[2] / 'networks' / 'crossroads.net.xml'


@pytest.fixture(scope='module')
def net() -> sumolib.net.Net:
    return sumolib.net.readNet(str(NET), withInternal=True)


@pytest.fixture(scope='module')
def surface(net: sumolib.net.Net) -> RoadSurface:
    return read_surface(net)


@pytest.fixture(scope='module')
def town(net: sumolib.net.Net) -> TownMesh:
    return build_town(net, Look(seed=4))


def test_roads_and_sidewalks_lie_where_the_network_puts_them(surface: RoadSurface) -> None:
    assert surface.road.intersection(surface.sidewalk).area < 0.5
    lane, middle, walk, grass = (115.0, 65.2), (160.0, 70.0), (115.0, 62.35), (115.0, 40.0)
    assert shapely.contains_xy(surface.road, *lane)
    assert shapely.contains_xy(surface.road, *middle)
    assert shapely.contains_xy(surface.sidewalk, *walk)
    assert not shapely.contains_xy(surface.paved, *grass)


def test_the_paving_has_no_slivers(surface: RoadSurface) -> None:
    # One piece of paving; the blocks it encloses are all large.
    parts = shapely.get_parts(surface.paved)
    assert [part.area > 1.0 for part in parts].count(True) == 1
    holes = [shapely.Polygon(ring).area for part in parts for ring in part.interiors]
    assert all(area > 20.0 or area < 1e-3 for area in holes)


def test_lane_lines_stop_at_junctions(surface: RoadSurface) -> None:
    lines = [m for m in surface.markings if m.label is SemanticClass.LANE_MARKING]
    inside = sum(LineString(m.points).intersection(surface.junctions).length for m in lines)
    assert inside < 0.5
    assert any(m.yellow for m in lines)
    assert any(m.pointed for m in lines)


def test_lane_lines_lie_between_the_lanes(surface: RoadSurface) -> None:
    # The two lanes from A0 to B0 are centred on y = 65.2 and 68.4; the opposite ones begin at y = 70.
    rows = {
        round(float(m.points[:, 1].mean()), 1): m
        for m in surface.markings
        if m.label is SemanticClass.LANE_MARKING
        and np.ptp(m.points[:, 1]) < 0.01
        and 90 < m.points[0, 0] < 140
        and np.ptp(m.points[:, 0]) > 2.5
    }
    assert rows[66.8].points[:, 0].tolist() == pytest.approx([rows[66.8].points[0, 0], rows[66.8].points[0, 0] + 3.0])
    assert not rows[66.8].yellow
    assert rows[69.9].yellow
    assert not rows[63.8].yellow


def test_zebra_bars_run_along_the_traffic(surface: RoadSurface) -> None:
    bars = [m for m in surface.markings if m.label is SemanticClass.CROSSWALK]
    # The crossing :B0_c3 goes north over the road that runs east: its bars are horizontal and 4 m long.
    over_east_road = [m for m in bars if np.abs(m.points[:, 0].mean() - 151.6) < 0.1]
    assert len(over_east_road) == 13
    for bar in over_east_road:
        assert np.ptp(bar.points[:, 0]) == pytest.approx(4.0, abs=0.01)
        assert np.ptp(bar.points[:, 1]) < 0.01


def test_scenery_keeps_off_the_pavement(surface: RoadSurface) -> None:
    items = place_scenery(surface, seed=4)
    assert {item.label for item in items} == {SemanticClass.BUILDING, SemanticClass.VEGETATION}
    for item in items:
        if item.label is SemanticClass.BUILDING:
            outline = shapely.convex_hull(shapely.MultiPoint(item.mesh.positions[:, :2]))
            assert outline.distance(surface.paved) > 0.5
        else:
            assert shapely.Point(item.place).distance(surface.paved) > 1.5


def test_chunks_cover_all_triangles_and_their_spheres_hold_them(town: TownMesh) -> None:
    assert town.count.sum() == len(town.indices)
    assert np.array_equal(town.first, np.concatenate([[0], np.cumsum(town.count)[:-1]]))
    assert town.vertices.dtype == STATIC_VERTEX
    for first, count, centre, radius in zip(town.first, town.count, town.centres, town.radii):
        corners = town.vertices['position'][town.indices[first : first + count]]
        assert (np.linalg.norm(corners - centre, axis=1) <= radius * 1.0001).all()
    assert np.isfinite(town.vertices['position']).all()


def test_curbs_have_side_faces(town: TownMesh) -> None:
    triangles = town.vertices[town.indices.reshape(-1, 3)]
    walk = triangles['colour'][:, 0, 3] == SemanticClass.SIDEWALK
    height = np.ptp(triangles['position'][walk][..., 2], axis=1)
    assert (height > CURB_HEIGHT_M).any()
    assert (height == 0).any()


def test_a_network_without_roads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'empty.net.xml'
    frame = 'netOffset="0,0" convBoundary="0,0,1,1" origBoundary="0,0,1,1" projParameter="!"'
    path.write_text(f'<net version="1.20"><location {frame}/></net>')
    with pytest.raises(InvalidInput, match='no lane'):
        read_surface(sumolib.net.readNet(str(path), withInternal=True))


def test_a_network_without_sidewalks_or_signals_has_roads_and_houses() -> None:
    path = NET.with_name('plain_junction.net.xml')
    plain = build_town(sumolib.net.readNet(str(path), withInternal=True), Look(seed=1))
    labels = set(np.unique(plain.vertices['colour'][:, 3]).tolist())
    assert {SemanticClass.ROAD, SemanticClass.LANE_MARKING, SemanticClass.BUILDING, SemanticClass.TERRAIN} <= labels
    assert not labels & {SemanticClass.SIDEWALK, SemanticClass.CROSSWALK}
    assert plain.surface.sidewalk.is_empty


def test_offset_of_a_bent_line_keeps_its_distance() -> None:
    bent = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    assert polyline.offset(bent, 1.0) == pytest.approx(np.array([[0, 1], [9, 1], [9, 10]]))
    assert polyline.offset(bent, -1.0) == pytest.approx(np.array([[0, -1], [11, -1], [11, 10]]))


def test_dashes_have_their_length_and_gap() -> None:
    dashes = list(polyline.pieces(np.array([[0.0, 0.0], [30.0, 0.0]]), 3.0, 6.0))
    assert [d[0, 0] for d in dashes] == pytest.approx([3.0, 12.0, 21.0])
    assert all(polyline.length(d) == pytest.approx(3.0) for d in dashes)
    whole = list(polyline.pieces(np.array([[0.0, 0.0], [30.0, 0.0]]), 8.0, 0.0))
    assert sum(polyline.length(d) for d in whole) == pytest.approx(30.0)


def test_triangulation_keeps_holes_open() -> None:
    ring = shapely.box(0, 0, 10, 10).difference(shapely.box(3, 3, 6, 6))
    points, faces = triangulate(ring)
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = 0.5 * np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum()
    assert area == pytest.approx(91.0)


def test_a_box_faces_outwards_everywhere() -> None:
    mesh = MeshBuilder(1)
    mesh.box((-1, -2, 0), (1, 2, 3), (1, 1, 1), (0,))
    box = mesh.build()
    a, b, c = (box.positions[box.indices[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)
    outward = (a + b + c) / 3 - [0, 0, 1.5]
    assert (np.einsum('ij,ij->i', facing, outward) > 0).all()
    assert np.einsum('ij,ij->', facing, outward) / 6 == pytest.approx(2 * 4 * 3)


def test_light_follows_the_look() -> None:
    light = Light.of(Look(sun_azimuth_rad=0.0, sun_elevation_rad=0.5))
    east, west = light.shade(np.array([[1.0, 0, 0], [-1.0, 0, 0]]))
    assert (east > west).all()
    warm, cold = Light.of(Look(warmth=0.5)), Light.of(Look(warmth=-0.5))
    assert warm.sun[0] / warm.sun[2] > cold.sun[0] / cold.sun[2]
    assert Light.of(Look(haze=2.0)).haze_per_m > Light.of(Look(haze=0.5)).haze_per_m
