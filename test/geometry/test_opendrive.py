# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Junctions along a route, found in OpenDRIVE maps written by hand, and the shapes of roads, against CARLA's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import fresnel

from vla_driver.geometry.opendrive import Crossing, JunctionMap, _plan_view, _shape
from vla_driver.types import FloatArray, InvalidInput

#: How far the lane that is driven lies to the right of its road's reference line.
LANE_M = 1.75
_HEADER = (
    '<header revMajor="1" revMinor="4" name="" version="1" date="" north="0" south="0" east="0" west="0">'
    '<geoReference><![CDATA[+proj=tmerc +lat_0=0 +lon_0=0]]></geoReference></header>'
)


def piece(x_m: float, y_m: float, heading: float, length_m: float, shape: str = '<line/>') -> str:
    return f'<geometry s="0" x="{x_m}" y="{y_m}" hdg="{heading}" length="{length_m}">{shape}</geometry>'


def road(number: str, junction: str, length_m: float, view: str, link: str = '', lanes: tuple[int, ...] = (-1,)) -> str:
    """Return a road with the lanes 3.5 m wide that CARLA asks for."""
    inner = '<link><predecessor id="-1"/><successor id="-1"/></link>' if junction != '-1' else '<link/>'
    left, right = (
        ''.join(
            f'<lane id="{k}" type="driving" level="false">{inner}<width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane>'
            for k in lanes
            if k * side > 0
        )
        for side in (1, -1)
    )
    return (
        f'<road name="" length="{length_m}" id="{number}" junction="{junction}"><link>{link}</link>'
        f'<planView>{view}</planView><elevationProfile/><lateralProfile/><lanes><laneSection s="0">'
        f'{f"<left>{left}</left>" if left else ""}<center><lane id="0" type="none" level="false"/></center>'
        f'{f"<right>{right}</right>" if right else ""}</laneSection></lanes></road>'
    )


def opendrive(*parts: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><OpenDRIVE>{_HEADER}{"".join(parts)}</OpenDRIVE>'


def crossing(number: int = 100, middle_m: float = 0.0) -> str:
    """Return a junction of 20 m around (middle_m, 0): what comes from the west may go straight on, left and right."""
    west, quarter = middle_m - 10.0, 5.0 * math.pi
    ways = [
        (number + 2, piece(west, 0.0, 0.0, 20.0), 20.0),
        (number + 3, piece(west, 0.0, 0.0, quarter, '<arc curvature="0.1"/>'), quarter),
        (number + 4, piece(west, 0.0, 0.0, quarter, '<arc curvature="-0.1"/>'), quarter),
    ]
    arms = [
        road(str(number + 1), '-1', 40.0, piece(west - 40.0, 0.0, 0.0, 40.0), _to('successor', number), (1, -1)),
        *(
            road(str(number + k), '-1', 40.0, piece(x_m, y_m, heading, 40.0), _to('predecessor', number), (1, -1))
            for k, x_m, y_m, heading in (
                (2, middle_m + 10.0, 0.0, 0.0),
                (3, middle_m, 10.0, 0.5 * math.pi),
                (4, middle_m, -10.0, -0.5 * math.pi),
            )
        ),
    ]
    within = [
        road(
            str(number + 10 + k),
            str(number),
            length_m,
            view,
            f'<predecessor elementType="road" elementId="{number + 1}" contactPoint="end"/>'
            f'<successor elementType="road" elementId="{to}" contactPoint="start"/>',
        )
        for k, (to, view, length_m) in enumerate(ways)
    ]
    connections = ''.join(
        f'<connection id="{k}" incomingRoad="{number + 1}" connectingRoad="{number + 10 + k}" contactPoint="start">'
        '<laneLink from="-1" to="-1"/></connection>'
        for k in range(len(ways))
    )
    return ''.join([*arms, *within, f'<junction id="{number}" name="">{connections}</junction>'])


def _to(which: str, junction: int) -> str:
    return f'<{which} elementType="junction" elementId="{junction}"/>'


def driven(start: tuple[float, float, float], *legs: tuple[float, float]) -> FloatArray:
    """Return a point every metre of a way of legs (length in metres, curvature) from a pose (x, y, heading) on."""
    ends = np.cumsum([0.0, *(length for length, _ in legs)])
    corners, way = [np.array(start)], np.arange(0.0, ends[-1] + 1e-9, 1.0)
    for length, curvature in legs:
        corners.append(_along(corners[-1], curvature, np.array([length]))[0])
    points = np.empty((len(way), 2))
    for corner, (_, curvature), first, last in zip(corners[:-1], legs, ends[:-1], ends[1:], strict=True):
        on = (way >= first) & (way <= last)
        points[on] = _along(corner, curvature, way[on] - first)[:, :2]
    return points


def _along(pose: FloatArray, curvature: float, s_m: FloatArray) -> FloatArray:
    """Return the poses [K, 3] of a circle or a line from a pose on, by the circle's own equation."""
    x, y, heading = pose
    yaw = heading + curvature * s_m
    if curvature == 0.0:
        return np.column_stack([x + s_m * np.cos(heading), y + s_m * np.sin(heading), yaw])
    middle = np.array([x, y]) + np.array([-np.sin(heading), np.cos(heading)]) / curvature
    return np.column_stack([middle + np.column_stack([np.sin(yaw), -np.cos(yaw)]) / curvature, yaw])


#: From 40 m before the crossing in the right lane: the radius of a way to the left is longer by that lane's offset.
START = (-50.0, -LANE_M, 0.0)
STRAIGHT = driven(START, (100.0, 0.0))
LEFT = driven(START, (40.0, 0.0), ((10.0 + LANE_M) * math.pi / 2, 1.0 / (10.0 + LANE_M)), (30.0, 0.0))
RIGHT = driven(START, (40.0, 0.0), ((10.0 - LANE_M) * math.pi / 2, -1.0 / (10.0 - LANE_M)), (30.0, 0.0))
WAYS = {'straight': (STRAIGHT, 20.0, 0), 'left': (LEFT, 18.46, 1), 'right': (RIGHT, 12.96, -1)}


@pytest.mark.parametrize('way', WAYS)
def test_a_crossing_is_found_where_it_begins_and_ends_and_with_its_side(way: str) -> None:
    route, length_m, side = WAYS[way]
    (found,) = JunctionMap(opendrive(crossing())).crossings(route)
    assert found.first == pytest.approx(40, abs=1)
    assert found.last == pytest.approx(40 + length_m, abs=1.5)
    assert found.side == side
    assert found.turn_rad == pytest.approx(side * math.pi / 2, abs=0.15)


@pytest.mark.parametrize('way', WAYS)
def test_a_road_may_be_driven_against_the_way_that_its_reference_line_runs(way: str) -> None:
    route, length_m, side = WAYS[way]
    (found,) = JunctionMap(opendrive(crossing())).crossings(route[::-1])
    last = len(route) - 1 - 40
    assert found.last == pytest.approx(last, abs=1)
    assert found.first == pytest.approx(last - length_m, abs=1.5)
    assert found.side == -side  # what was a turn to the left is one to the right


@pytest.mark.parametrize('turned_rad', np.linspace(-math.pi, math.pi, 9))
def test_neither_where_the_map_is_nor_how_it_is_turned_matters(turned_rad: float) -> None:
    """Away from the axes and from the origin, and across the heading of 180 degrees."""
    cos, sin = math.cos(turned_rad), math.sin(turned_rad)
    turned = ElementTree.fromstring(opendrive(crossing()))
    for geometry in turned.iter('geometry'):
        x, y, heading = (float(geometry.get(name, '')) for name in ('x', 'y', 'hdg'))
        geometry.set('x', str(700.0 + cos * x - sin * y))
        geometry.set('y', str(-300.0 + sin * x + cos * y))
        geometry.set('hdg', str(heading + turned_rad))
    junctions = JunctionMap(ElementTree.tostring(turned, encoding='unicode'))
    for route, length_m, side in WAYS.values():
        (found,) = junctions.crossings(route @ np.array([[cos, sin], [-sin, cos]]) + [700.0, -300.0])
        assert (found.first, found.last) == (pytest.approx(40, abs=1), pytest.approx(40 + length_m, abs=1.5))
        assert found.side == side


@pytest.mark.parametrize(
    'route',
    [
        driven((-50.0, -15.0, 0.0), (100.0, 0.0)),  # beside it
        driven((-50.0, -LANE_M, 0.0), (38.0, 0.0)),  # up to it
        driven((12.0, -LANE_M, 0.0), (30.0, 0.0)),  # from it on
        driven((25.0, -40.0, 0.5 * math.pi), (80.0, 0.0)),  # across an arm, from south to north
    ],
)
def test_what_does_not_go_through_the_junction_finds_none(route: FloatArray) -> None:
    assert JunctionMap(opendrive(crossing())).crossings(route) == ()


@pytest.mark.parametrize('between_m', [40.0, 10.0, 0.0])
def test_two_junctions_in_a_row_are_two_crossings(between_m: float) -> None:
    """From the west straight on through one, then to the left in the other."""
    second_m = 20.0 + between_m
    junctions = JunctionMap(opendrive(crossing(100), crossing(200, second_m)))
    ahead_m = 40.0 + second_m
    route = driven(START, (ahead_m, 0.0), ((10.0 + LANE_M) * math.pi / 2, 1.0 / (10.0 + LANE_M)), (30.0, 0.0))
    one, two = junctions.crossings(route)
    assert (one.first, one.last) == (pytest.approx(40, abs=1), pytest.approx(60, abs=1))
    assert (two.first, two.last) == (pytest.approx(ahead_m, abs=1), pytest.approx(ahead_m + 18.46, abs=1.5))
    assert (one.side, two.side) == (0, 1)


@pytest.mark.parametrize(('gap_m', 'count'), [(2.0, 1), (10.0, 2)])
def test_roads_of_one_junction_one_behind_the_other_are_one_crossing(gap_m: float, count: int) -> None:
    text = opendrive(
        road('1', '7', 10.0, piece(0.0, 0.0, 0.0, 10.0)), road('2', '7', 10.0, piece(10.0 + gap_m, 0.0, 0.0, 10.0))
    )
    found = JunctionMap(text).crossings(driven((-20.0, 0.0, 0.0), (70.0, 0.0)))
    assert len(found) == count
    assert found[0].first == pytest.approx(20, abs=1)
    assert found[-1].last == pytest.approx(40 + gap_m, abs=1)


@pytest.mark.parametrize(('y_m', 'last_m'), [(1.0, 30.0), (7.0, 36.0)])
def test_of_two_junctions_side_by_side_the_nearer_is_gone_through(y_m: float, last_m: float) -> None:
    """Two carriageways: what lies in both strips is of the road next to it, and that alone."""
    text = opendrive(road('1', '7', 20.0, piece(10, 0, 0, 20.0)), road('2', '8', 26.0, piece(10, 8, 0, 26.0)))
    (found,) = JunctionMap(text).crossings(driven((0.0, y_m, 0.0), (last_m, 0.0)))
    assert (found.first, found.last) == (pytest.approx(10, abs=1), pytest.approx(last_m, abs=1))


def test_a_junction_that_is_driven_through_twice_is_two_crossings() -> None:
    """Once around the block to the left: straight on over the crossing, and back to it from the west."""
    around = [leg for _ in range(4) for leg in ((60.0, 0.0), (10.0 * math.pi / 2, 0.1))]
    route = driven(START, (100.0, 0.0), *around[1:], (150.0, 0.0))
    found = JunctionMap(opendrive(crossing())).crossings(route)
    assert [c.side for c in found] == [0, 0]
    assert found[0].first == pytest.approx(40, abs=1)
    for c in found:
        assert route[c.first, 0] == pytest.approx(-10.0, abs=1.0)
        assert route[c.last, 0] == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize(('degrees', 'side'), [(30.0, 0), (-30.0, 0), (40.0, 1), (-40.0, -1), (170.0, 1)])
def test_a_turn_is_one_from_35_degrees_on(degrees: float, side: int) -> None:
    turn = math.radians(degrees)
    curvature = math.copysign(0.05, turn)
    length_m = abs(turn) / 0.05
    text = opendrive(road('1', '7', length_m, piece(0.0, 0.0, 0.0, length_m, f'<arc curvature="{curvature}"/>')))
    (found,) = JunctionMap(text).crossings(driven((-30.0, 0.0, 0.0), (30.0, 0.0), (length_m, curvature), (30.0, 0.0)))
    assert found.side == side
    assert found.turn_rad == pytest.approx(turn, abs=0.07)


def test_side_is_told_of_the_turn() -> None:
    assert [Crossing(0, 1, turn).side for turn in (0.7, 0.5, 0.0, -0.5, -0.7)] == [1, 0, 0, 0, -1]


@pytest.mark.parametrize('text', [opendrive(), '<OpenDRIVE/>', opendrive(road('1', '-1', 9.0, piece(0, 0, 0, 9.0)))])
def test_a_map_without_junctions_has_no_crossings(text: str) -> None:
    assert JunctionMap(text).crossings(STRAIGHT) == ()


def test_a_route_of_no_length_crosses_nothing() -> None:
    junctions = JunctionMap(opendrive(crossing()))
    for points in (np.empty((0, 2)), STRAIGHT[45:46], STRAIGHT[45:47]):
        assert junctions.crossings(points) == ()


def test_a_junction_is_found_wherever_it_is_and_nowhere_else() -> None:
    """Beside every single point of all roads, as by looking at each: some of these lie by the edges of the map."""
    junctions = JunctionMap(opendrive(crossing(), crossing(200, 26.0)))
    rng = np.random.default_rng(5)
    poses = junctions._poses[rng.integers(len(junctions._poses), size=400)]
    routes = poses + rng.normal(0.0, [8.0, 8.0, 0.3], (400, 3))
    routes[:20, :2] += rng.choice([-1.0, 1.0], (20, 2)) * 10.0 ** rng.uniform(2.0, 9.0, (20, 1))
    found = 0
    for pose, name in zip(routes, junctions._junctions_at(routes), strict=True):
        ahead = junctions._poses[:, :2] - pose[:2]
        back = np.array([math.cos(pose[2]), math.sin(pose[2])])
        # Where the pose is, seen from each point of the roads.
        heading = junctions._poses[:, 2]
        along_m = -(ahead * np.column_stack([np.cos(heading), np.sin(heading)])).sum(axis=1)
        beside_m = np.abs(ahead[:, 0] * np.sin(heading) - ahead[:, 1] * np.cos(heading))
        aligned = np.abs(np.column_stack([np.cos(heading), np.sin(heading)]) @ back) > math.cos(math.radians(30.0))
        near = np.flatnonzero((np.abs(along_m) <= 0.75) & (beside_m <= 12.0) & aligned)
        nearest = {junctions._junctions[k] for k in near[beside_m[near] < beside_m[near].min(initial=99.0) + 1e-9]}
        assert name in (nearest or {''})
        found += name != ''
    assert 50 < found < 380


def _of_one_piece(view: str) -> str:
    return f'<OpenDRIVE><road id="73" junction="1"><planView>{view}</planView></road></OpenDRIVE>'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', r'map: 0 characters that are no XML \(no element found'),
        ('a town', r'map: 6 characters that are no XML \(syntax error.*expected OpenDRIVE'),
        (opendrive(crossing())[:-5], 'that are no XML'),
        ('<osm version="0.6"/>', "root element is 'osm', expected OpenDRIVE"),
        (_of_one_piece('<geometry/>'), 'road 73: its planView cannot be read: geometry has no x'),
        (_of_one_piece(piece(0, 0, 0, 5).replace('hdg="0"', '')), 'road 73: .* geometry has no hdg'),
        (_of_one_piece(piece(0, 0, 0, 5).replace('x="0"', 'x="ten"')), "road 73: .* to float: 'ten'"),
        (_of_one_piece(piece(0, 0, 0, math.nan)), 'road 73: .* length is nan, expected a finite number'),
        (_of_one_piece(piece(0, 0, 0, math.inf)), 'road 73: .* length is inf, expected a finite number'),
        (_of_one_piece(piece(0, 0, 0, 1e14)), 'road 73: .* length 1.*, expected 0 to 100000 m'),
        (_of_one_piece(piece(0, 0, 0, -5)), 'road 73: .* length -5.0, expected 0 to'),
        (_of_one_piece(piece(3e9, 0, 0, 5)), r'road 73: .* it comes to \(3e\+09, 0\), expected at most 1e\+08 m'),
        (
            _of_one_piece(piece(0, 0, 0, 5, '<paramPoly3 bU="1e300"/>')),
            r'road 73: .* it comes to \(',
        ),
        (_of_one_piece(piece(math.nan, 0, 0, 5)), 'road 73: .* x is nan'),
        (_of_one_piece(piece(0, 0, 0, 5, '<arc/>')), 'road 73: .* arc has no curvature'),
        ('\udcff', 'that are no XML'),
        (_of_one_piece(piece(0, 0, 0, 5, '<arc curvature="tight"/>')), "road 73: .* to float: 'tight'"),
        (_of_one_piece(piece(0, 0, 0, 5, '<helix/>')), "road 73: .* shape 'helix', expected line, arc, spiral, poly3"),
    ],
)
def test_what_is_no_map_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        JunctionMap(text)


def test_what_newer_maps_have_is_read_as_well() -> None:
    """A namespace (1.6 and later), and data of users before a shape."""
    text = opendrive(crossing())
    newer = text.replace('<OpenDRIVE>', '<OpenDRIVE xmlns="http://code.asam.net/simulation/standard/opendrive_schema">')
    newer = newer.replace('<line', '<userData code="a" value="b"/><line')
    assert newer != text
    assert JunctionMap(newer).crossings(STRAIGHT) == JunctionMap(text).crossings(STRAIGHT) != ()


def test_a_broken_road_outside_of_junctions_does_not_matter() -> None:
    JunctionMap(_of_one_piece('<geometry/>').replace('junction="1"', 'junction="-1"'))


# The shapes --------------------------------------------------------------------------------------------------------


def poses_of(shape: str, length_m: float) -> FloatArray:
    poses = _shape(ElementTree.fromstring(shape), length_m)
    assert np.hypot(*np.diff(poses[:, :2], axis=0).T).max() < 1.5  # no holes
    return poses


@pytest.mark.parametrize('length_m', [0.4, 7.0, 33.3])
def test_a_line_runs_straight(length_m: float) -> None:
    poses = poses_of('<line/>', length_m)
    assert poses == pytest.approx(np.column_stack([np.linspace(0.0, length_m, len(poses)), *np.zeros((2, len(poses)))]))


@pytest.mark.parametrize('curvature', [0.2, 0.08, -0.03, -0.15])
def test_an_arc_is_a_piece_of_its_circle(curvature: float) -> None:
    poses = poses_of(f'<arc curvature="{curvature}"/>', 18.5)
    want = _along(np.zeros(3), curvature, np.linspace(0.0, 18.5, len(poses)))
    assert poses == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize('begin', [0.0, 0.1, -0.02])
@pytest.mark.parametrize('end', [0.12, -0.05, 0.0])
def test_a_spiral_is_what_its_curvature_adds_up_to(begin: float, end: float) -> None:
    length_m = 22.0
    poses = poses_of(f'<spiral curvStart="{begin}" curvEnd="{end}"/>', length_m)
    for s, pose in zip(np.linspace(0.0, length_m, len(poses)), poses, strict=True):

        def yaw(t: float) -> float:
            return begin * t + (end - begin) * t * t / (2.0 * length_m)

        want = [quad(lambda t: math.cos(yaw(t)), 0.0, s)[0], quad(lambda t: math.sin(yaw(t)), 0.0, s)[0], yaw(s)]
        assert pose == pytest.approx(want, abs=1e-3)


def test_a_spiral_from_a_line_on_is_fresnels() -> None:
    length_m, end = 30.0, -0.09
    poses = poses_of(f'<spiral curvStart="0" curvEnd="{end}"/>', length_m)
    scale_m = math.sqrt(math.pi * length_m / abs(end))
    sine, cosine = fresnel(np.linspace(0.0, length_m, len(poses)) / scale_m)
    assert poses[:, :2] == pytest.approx(scale_m * np.column_stack([cosine, -sine]), abs=1e-3)


#: u = 20 p - 4 p^3, v = 12 p^2 - 3 p^3, all of it over p from 0 to 1.
_PARAMETERS = 'aU="0" bU="20" cU="0" dU="-4" aV="0" bV="0" cV="12" dV="-3"'


@pytest.mark.parametrize('kind', ['pRange="normalized"', ''])
def test_a_parametric_cubic_runs_from_0_to_1(kind: str) -> None:
    poses = poses_of(f'<paramPoly3 {kind} {_PARAMETERS}/>', 19.2)
    p = np.linspace(0.0, 1.0, len(poses))
    assert poses[:, 0] == pytest.approx(20.0 * p - 4.0 * p**3)
    assert poses[:, 1] == pytest.approx(12.0 * p**2 - 3.0 * p**3)
    assert np.tan(poses[:, 2]) == pytest.approx((24.0 * p - 9.0 * p**2) / (20.0 - 12.0 * p**2))
    assert poses[-1] == pytest.approx([16.0, 9.0, math.atan2(15.0, 8.0)])


def test_a_parametric_cubic_may_run_along_its_length() -> None:
    poses = poses_of('<paramPoly3 pRange="arcLength" aU="1" bU="1" cU="0" dU="-0.0004" aV="2" cV="0.03"/>', 18.0)
    p = np.linspace(0.0, 18.0, len(poses))
    assert poses[:, 0] == pytest.approx(1.0 + p - 0.0004 * p**3)
    assert poses[:, 1] == pytest.approx(2.0 + 0.03 * p**2)
    assert np.tan(poses[:, 2]) == pytest.approx(0.06 * p / (1.0 - 0.0012 * p**2))


def test_a_parametric_cubic_may_turn_back() -> None:
    """Half around: the heading passes 90 degrees, where a slope would not know which way it runs."""
    poses = poses_of('<paramPoly3 bU="30" cU="-30" cV="30" dV="-20"/>', 22.0)
    assert poses[0] == pytest.approx([0.0, 0.0, 0.0])
    assert poses[-1, :2] == pytest.approx([0.0, 10.0])
    assert abs(poses[-1, 2]) == pytest.approx(math.pi)


def test_a_cubic_is_its_polynomial() -> None:
    poses = poses_of('<poly3 a="0.5" b="0.1" c="-0.02" d="0.0006"/>', 16.0)
    u = poses[:, 0]
    assert u[0] == 0.0
    assert u[-1] == pytest.approx(16.0, abs=0.3)
    assert poses[:, 1] == pytest.approx(0.5 + 0.1 * u - 0.02 * u**2 + 0.0006 * u**3)
    assert np.tan(poses[:, 2]) == pytest.approx(0.1 - 0.04 * u + 0.0018 * u**2)


def test_pieces_lie_where_their_starts_are() -> None:
    """A line and an arc behind it, turned: the arc's points lie on the circle around its own middle."""
    view = piece(3.0, -2.0, 0.7, 10.0) + piece(20.0, 30.0, 2.9, 12.0, '<arc curvature="0.125"/>')
    line, arc = _plan_view(ElementTree.fromstring(f'<road id="1"><planView>{view}</planView></road>'))
    assert line[-1] == pytest.approx([3.0 + 10.0 * math.cos(0.7), -2.0 + 10.0 * math.sin(0.7), 0.7])
    middle = np.array([20.0 - 8.0 * math.sin(2.9), 30.0 + 8.0 * math.cos(2.9)])
    assert np.hypot(*(arc[:, :2] - middle).T) == pytest.approx(np.full(len(arc), 8.0), abs=1e-3)
    assert arc[0] == pytest.approx([20.0, 30.0, 2.9])
    assert arc[-1, 2] == pytest.approx(2.9 + 1.5 - 2.0 * math.pi)


def _clothoid(s_m: float) -> tuple[float, float]:
    yaw: Callable[[float], float] = lambda t: 0.1 * t * t / 40.0  # noqa: E731
    return quad(lambda t: math.cos(yaw(t)), 0.0, s_m)[0], quad(lambda t: math.sin(yaw(t)), 0.0, s_m)[0]


@pytest.mark.parametrize(
    ('shape', 'length_m', 'end'),
    [
        ('<line/>', 20.0, (20.0, 0.0, 0.0)),
        ('<arc curvature="0.05"/>', 20.0, (20.0 * math.sin(1.0), 20.0 - 20.0 * math.cos(1.0), 1.0)),
        ('<spiral curvStart="0" curvEnd="0.1"/>', 20.0, (*_clothoid(20.0), 1.0)),
        (f'<paramPoly3 {_PARAMETERS}/>', 19.19, (16.0, 9.0, math.atan2(15.0, 8.0))),
        ('<poly3 a="0" b="0" c="0.01" d="0"/>', 20.5, (20.0, 4.0, math.atan(0.4))),
    ],
)
def test_a_connecting_road_of_any_shape_is_found_on_the_way(
    shape: str, length_m: float, end: tuple[float, float, float]
) -> None:
    """From 30 m before it, through points of a road that is written down here, to 30 m beyond it."""
    text = opendrive(road('1', '5', length_m, piece(0.0, 0.0, 0.0, length_m, shape)))
    before, beyond = driven((-30.0, 0.0, 0.0), (29.0, 0.0)), driven(end, (30.0, 0.0))
    # A cubic from end to end with its headings (Hermite's) is no farther from any of them than the lane is wide.
    t, pull = np.linspace(0.0, 1.0, 20, endpoint=False)[:, None], length_m
    onward = np.array([math.cos(end[2]), math.sin(end[2])])
    inside = (3 * t**2 - 2 * t**3) * np.array(end[:2]) + pull * (
        (t - 2 * t**2 + t**3) * np.array([1.0, 0.0]) + (t**3 - t**2) * onward
    )
    (found,) = JunctionMap(text).crossings(np.vstack([before, inside, beyond]))
    assert found.first == pytest.approx(30, abs=1)
    assert found.last == pytest.approx(50, abs=1.5)
    assert found.turn_rad == pytest.approx(end[2], abs=0.1)


# Against CARLA's own reader ----------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def carla() -> Any:
    return pytest.importorskip('carla', reason="CARLA's client is on PyPI for x86 alone")


@pytest.mark.parametrize('way', WAYS)
def test_junctions_of_a_route_are_those_of_carlas_waypoints(carla: Any, way: str) -> None:
    """CARLA's y points to the right, ours to the left."""
    text = opendrive(crossing())
    route, _, _ = WAYS[way]
    town = carla.Map('crossing', text)
    waypoints = [town.get_waypoint(carla.Location(float(x), float(-y), 0.0)) for x, y in route]
    there = np.array([(w.transform.location.x, -w.transform.location.y) for w in waypoints])
    assert (
        np.hypot(*(there - route).T).max() < 0.3
    )  # the route is on CARLA's lanes, whose places it finds about so well
    theirs = np.flatnonzero([waypoint.is_junction for waypoint in waypoints])
    assert len(theirs) > 10 and (np.diff(theirs) == 1).all()
    (found,) = JunctionMap(text).crossings(route)
    assert found.first == pytest.approx(theirs[0], abs=2)
    assert found.last == pytest.approx(theirs[-1], abs=2)


@pytest.mark.parametrize(
    ('shape', 'length_m'),
    [
        ('<line/>', 20.0),
        ('<arc curvature="-0.08"/>', 18.0),
        ('<spiral curvStart="0" curvEnd="0.1"/>', 15.0),
        ('<spiral curvStart="-0.02" curvEnd="0.12"/>', 15.0),
        ('<poly3 a="0" b="0" c="0.006" d="-0.0002"/>', 16.0),
        (f'<paramPoly3 pRange="normalized" {_PARAMETERS}/>', 19.187),
        ('<paramPoly3 pRange="arcLength" bU="1" cU="0" dU="-0.00006" cV="0.01" dV="0"/>', 15.0),
    ],
)
def test_a_shape_runs_where_carla_has_it(carla: Any, shape: str, length_m: float) -> None:
    xml = road('1', '-1', length_m, piece(5.0, -3.0, 0.7, length_m, _all_of(shape)))
    town = carla.Map('road', opendrive(xml))
    at_m = np.linspace(1e-3, length_m - 1e-3, 400)
    theirs = np.array([_reference(town.get_waypoint_xodr(1, -1, float(s))) for s in at_m])
    (ours,) = _plan_view(ElementTree.fromstring(xml))
    away_m = np.hypot(*(ours[:, None, :2] - theirs[None]).transpose(2, 0, 1))
    assert away_m.min(axis=1).max() < 0.1
    assert ours[[0, -1], :2] == pytest.approx(theirs[[0, -1]], abs=0.1)


def _all_of(shape: str) -> str:
    """Return a shape with every coefficient, those that are 0 as well: CARLA asks for them."""
    element = ElementTree.fromstring(shape)
    if element.tag == 'paramPoly3':
        for name in [f'{letter}{axis}' for axis in 'UV' for letter in 'abcd']:
            element.set(name, element.get(name, '0'))
    return ElementTree.tostring(element, encoding='unicode')


def _reference(waypoint: Any) -> tuple[float, float]:
    """Return where a road's reference line is: beside the middle of its first lane to the right."""
    place, yaw = waypoint.transform.location, -math.radians(waypoint.transform.rotation.yaw)
    return place.x - LANE_M * math.sin(yaw), -place.y + LANE_M * math.cos(yaw)
