# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The road's boundary of a small map in the format of nuScenes' map expansion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.nuscenes_drive import LOCATION, write_expansion
from shapely.geometry import LineString, box

from vla_driver.data.nuscenes.boundaries import RoadMaps
from vla_driver.sim.scoring import BOUNDARY_WITHIN_M
from vla_driver.types import InvalidInput

WAY = np.array([[5.0, 5.0], [95.0, 5.0]])

Tables = dict[str, Any]


def polygon(tables: Tables, points: list[tuple[float, float]]) -> str:
    """Add a polygon and its nodes; return its token."""
    token = f'p{len(tables["polygon"])}'
    nodes = [{'token': f'{token}-{k}', 'x': x, 'y': y} for k, (x, y) in enumerate(points)]
    tables['node'] += nodes
    names = [node['token'] for node in nodes]
    tables['polygon'].append({'token': token, 'exterior_node_tokens': names, 'holes': []})
    return token


def corners(left: float, low: float, right: float, high: float) -> list[tuple[float, float]]:
    return [(left, low), (right, low), (right, high), (left, high)]


@pytest.fixture
def tables() -> Tables:
    """A road of 100 m: a segment, a lane that begins within it, a hole in the lane, and an area that is no road."""
    made: Tables = {table: [] for table in ('node', 'polygon', 'road_segment', 'lane', 'drivable_area')}
    made['road_segment'].append({'token': 's', 'polygon_token': polygon(made, corners(0.0, 0.0, 60.0, 10.0))})
    made['lane'].append({'token': 'l', 'polygon_token': polygon(made, corners(50.0, 0.0, 100.0, 10.0))})
    hole = polygon(made, corners(70.0, 6.0, 80.0, 8.0))
    made['polygon'][1]['holes'] = [
        {'node_tokens': made['polygon'][2]['exterior_node_tokens']},
        {'node_tokens': []},
    ]
    apron = polygon(made, corners(0.0, 10.0, 100.0, 40.0))
    made['drivable_area'].append({'token': 'd', 'polygon_tokens': [hole, apron]})
    return made


def write(folder: Path, content: object) -> RoadMaps:
    maps = RoadMaps(folder)
    path = maps.path('here')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return maps


def test_segments_and_lanes_are_one_road_with_holes(tables: Tables, tmp_path: Path) -> None:
    lines = write(tmp_path, tables).boundary('here', WAY)
    assert lines is not None and len(lines) == 2
    hole, outline = sorted((LineString(line) for line in lines), key=lambda line: line.length)
    assert hole.is_ring and hole.bounds == (70.0, 6.0, 80.0, 8.0)
    # The seam between the two at 50 to 60 m is none of it, nor is the drivable area beside the road.
    assert outline.is_ring and outline.equals(box(0.0, 0.0, 100.0, 10.0).exterior)
    assert not any(LineString(WAY).intersects(line) for line in (hole, outline))


def test_only_what_is_near_the_way_is_told(tables: Tables, tmp_path: Path) -> None:
    polygon_token = polygon(tables, corners(500.0, 0.0, 900.0, 10.0))
    tables['lane'].append({'token': 'far', 'polygon_token': polygon_token})
    maps = write(tmp_path, tables)
    lines = maps.boundary('here', WAY)
    assert lines is not None and len(lines) == 2
    there = maps.boundary('here', WAY + [600.0, 0.0])
    assert there is not None and len(there) == 2  # its two edges, cut off at both ends
    assert max(LineString(WAY + [600.0, 0.0]).distance(LineString(line)) for line in there) == pytest.approx(5.0)
    ends = np.vstack(there)
    assert ends[:, 0].min() == pytest.approx(605.0 - BOUNDARY_WITHIN_M, abs=0.5)
    assert maps.boundary('here', WAY + [0.0, 5000.0]) == ()


def test_polygons_that_cross_themselves_are_left_out(tables: Tables, tmp_path: Path) -> None:
    bow = polygon(tables, [(0.0, 20.0), (20.0, 40.0), (20.0, 20.0), (0.0, 40.0)])
    tables['lane'].append({'token': 'bow', 'polygon_token': bow})
    lines = write(tmp_path, tables).boundary('here', WAY)
    assert lines is not None and len(lines) == 2


def test_a_map_is_read_once_and_its_absence_is_no_error(tables: Tables, tmp_path: Path) -> None:
    maps = write(tmp_path, tables)
    assert maps.boundary('elsewhere', WAY) is None
    assert maps.path('elsewhere') == tmp_path / 'maps' / 'expansion' / 'elsewhere.json'
    first = maps.boundary('here', WAY)
    maps.path('here').write_text('{}')
    again = maps.boundary('here', WAY)
    assert first is not None and again is not None
    assert [line.tolist() for line in first] == [line.tolist() for line in again]


def test_the_small_data_sets_map_is_the_area_that_it_is_made_of(tmp_path: Path) -> None:
    area = box(0.0, 0.0, 200.0, 30.0).difference(box(20.0, 8.0, 190.0, 12.0))
    write_expansion(tmp_path, area)
    found = json.loads(RoadMaps(tmp_path).path(LOCATION).read_text())
    assert len(found['road_segment']) >= 2 and len(found['lane']) >= 2
    lines = RoadMaps(tmp_path).boundary(LOCATION, np.array([[0.0, 4.0], [200.0, 4.0]]))
    assert lines is not None
    assert sorted(LineString(line).length for line in lines) == pytest.approx([348.0, 460.0])


def without(table: str, column: str) -> Callable[[Tables], object]:
    def change(tables: Tables) -> Tables:
        del tables[table][0][column]
        return tables

    return change


def having(table: str, row: int, column: str, value: object) -> Callable[[Tables], object]:
    def change(tables: Tables) -> Tables:
        tables[table][row][column] = value
        return tables

    return change


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda _: [], 'expected an object of tables'),
        (lambda t: {name: t[name] for name in ('node', 'lane')}, 'no table polygon, road_segment; unpack the map exp'),
        (lambda t: t | {'lane': {}}, 'lane: expected a list of rows'),
        (without('node', 'y'), "node: row p0-0 has no 'y'; is this the map expansion v1.3"),
        (without('polygon', 'exterior_node_tokens'), "polygon: row p0 has no 'exterior_node_tokens'"),
        (without('road_segment', 'polygon_token'), "road_segment: row s has no 'polygon_token'"),
        (having('lane', 0, 'polygon_token', 'gone'), 'lane l names an unknown polygon'),
        (having('polygon', 0, 'exterior_node_tokens', ['p0-0', 'p0-1']), 'polygon p0 is no list of three nodes'),
        (having('polygon', 0, 'exterior_node_tokens', 'p0-0'), 'polygon p0 is no list of three nodes'),
        (having('polygon', 0, 'exterior_node_tokens', ['p0-0', 'p0-1', 'q']), 'polygon p0 names the unknown node q'),
        (having('polygon', 1, 'holes', [{}]), "holes of polygon p1: row None has no 'node_tokens'"),
        (having('polygon', 1, 'holes', [{'node_tokens': ['p2-0']}]), 'hole of polygon p1 is no list of three nodes'),
        (having('node', 0, 'x', 'east'), 'polygon p0 has nodes whose x and y are no numbers'),
        (having('node', 1, 'x', float('nan')), r'polygon p0: not finite at index \[1, 0\]: nan'),
    ],
)
def test_maps_that_do_not_fit_are_named(
    change: Callable[[Tables], object], words: str, tables: Tables, tmp_path: Path
) -> None:
    maps = write(tmp_path, change(tables))
    with pytest.raises(InvalidInput, match=words) as caught:
        maps.boundary('here', WAY)
    assert str(maps.path('here')) in str(caught.value)


def test_what_is_no_json_is_named(tables: Tables, tmp_path: Path) -> None:
    maps = write(tmp_path, tables)
    maps.path('here').write_text('{')
    with pytest.raises(InvalidInput, match=r'here.json: no JSON table .*; unpack the map expansion of nuScenes again'):
        maps.boundary('here', WAY)
