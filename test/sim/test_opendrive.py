# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Junctions found in the map of a town, against the manoeuvres that the simulator's navigation says."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.observation.guidance import turns_by_map
from vla_driver.sim.world.opendrive import opendrive_of
from vla_driver.sim.world.road import SAMPLE_M, junction_lanes, sample_route
from vla_driver.sim.world.towns import TOWNS, load_network, town_path

ALL = [town for towns in TOWNS.values() for town in towns]
#: Routes begin and end where an edge does, at a junction that they do not go through.
END_M = 4.0


def network_of(town: str) -> Any:
    return load_network(town_path(town))


def test_manoeuvres_of_the_map_are_those_that_the_navigation_says() -> None:
    said = agree = 0
    for town in ALL:
        network = network_of(town)
        junctions = JunctionMap(opendrive_of(network))
        for seed in range(4):
            path = sample_route(network, np.random.default_rng(seed), 600.0)
            cut = round(END_M / SAMPLE_M)
            found = turns_by_map(junctions, path.points_m[cut:-cut])
            assert len(found) == len(path.manoeuvres), f'{town}, seed {seed}'
            for ours, true in zip(found, path.manoeuvres, strict=True):
                ends = np.array([ours.start_m, ours.end_m]) + path.s_m[cut]
                assert ends == pytest.approx([true.start_m, true.end_m], abs=5.0), f'{town}, seed {seed}'
                said, agree = said + 1, agree + (ours.command is true.command)
    assert said > 120
    assert agree / said >= 0.95


@pytest.mark.parametrize('town', ['train_grid', 'val_rand'])
def test_every_lane_is_a_road_and_every_way_across_one_of_its_junction(town: str) -> None:
    network = network_of(town)
    roads = ElementTree.fromstring(opendrive_of(network)).findall('road')
    assert len({road.get('id') for road in roads}) == len(roads)
    lanes = [lane for edge in network.getEdges(withInternal=False) for lane in edge.getLanes()]
    ways = [way for lane in lanes for way in lane.getOutgoing()]
    assert len(roads) == len(lanes) + sum(bool(junction_lanes(network, way)) for way in ways)
    inside = [road for road in roads if road.get('junction') != '-1']
    assert len(lanes) <= len(roads) - len(inside)
    assert 1 < len({road.get('junction') for road in inside}) <= len(network.getNodes())


def test_lines_of_a_road_run_from_point_to_point_of_its_lane() -> None:
    """Each begins where the one before ends, all of them as long as the road says."""
    roads = list(ElementTree.fromstring(opendrive_of(network_of('val_rand'))).iter('road'))
    for road in roads:
        values = np.array(
            [
                [float(piece.get(name, '')) for name in ('s', 'x', 'y', 'hdg', 'length')]
                for piece in road.iterfind('planView/geometry')
            ]
        )
        s_m, places, heading, length_m = values[:, 0], values[:, 1:3], values[:, 3], values[:, 4]
        ends = places + length_m[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])
        assert ends[:-1] == pytest.approx(places[1:], abs=0.02)
        assert s_m == pytest.approx(np.cumsum([0.0, *length_m[:-1]]), abs=0.01)
        assert float(road.get('length', '')) == pytest.approx(length_m.sum(), abs=0.01)


#: West to east over a light, then over a mere joint, each with a way to turn around, to a fork whose way to the left
#: has two pieces, as SUMO makes them where one waits within the junction.
_LANES = {
    'a': '0,0 80,0',
    'b': '100,0 180,0',
    '-a': '80,4 0,4',
    '-b': '180,4 100,4',
    'c': '184,0 280,0',
    'd': '300,0 380,0',
    'e': '290,20 290,100',
    ':light_0': '80,0 100,0',
    ':light_1': '80,0 82,2 80,4',
    ':joint_0': '180,0 184,0',
    ':joint_1': '180,0 182,2 180,4',
    ':fork_0': '280,0 300,0',
    ':fork_1': '280,0 285,2',
    ':fork_2': '285,2 289,10 290,20',
}
_WAYS = [
    'from="a" to="b" via=":light_0_0" dir="s" state="O" tl="light" linkIndex="0"',
    'from="a" to="-a" via=":light_1_0" dir="t" state="o" tl="light" linkIndex="1"',
    'from="b" to="c" via=":joint_0_0" dir="s" state="M"',
    'from="b" to="-b" via=":joint_1_0" dir="t" state="m"',
    'from="c" to="d" via=":fork_0_0" dir="s" state="M"',
    'from="c" to="e" via=":fork_1_0" dir="l" state="m"',
    'from=":light_0" to="b" dir="s" state="M"',
    'from=":light_1" to="-a" dir="t" state="M"',
    'from=":joint_0" to="c" dir="s" state="M"',
    'from=":joint_1" to="-b" dir="t" state="M"',
    'from=":fork_0" to="d" dir="s" state="M"',
    'from=":fork_1" to="e" via=":fork_2_0" dir="l" state="m"',
    'from=":fork_2" to="e" dir="l" state="M"',
]
_ENDS = {
    'a': ('west', 'light'),
    'b': ('light', 'joint'),
    '-a': ('light', 'west'),
    '-b': ('joint', 'light'),
    'c': ('joint', 'fork'),
    'd': ('fork', 'east'),
    'e': ('fork', 'north'),
}


def written_network(folder: Path) -> Any:
    edges = []
    for name, shape in _LANES.items():
        ends = f'from="{_ENDS[name][0]}" to="{_ENDS[name][1]}" priority="1"' if name in _ENDS else 'function="internal"'
        lane = f'<lane id="{name}_0" index="0" speed="13.9" length="20" shape="{shape}"/>'
        edges.append(f'<edge id="{name}" {ends}>{lane}</edge>')
    nodes = [
        f'<junction id="{name}" type="{"traffic_light" if name == "light" else "priority"}" x="0" y="0" incLanes="" '
        'intLanes="" shape="0,0 1,0 1,1"/>'
        for name in dict.fromkeys(node for ends in _ENDS.values() for node in ends)
    ]
    ways = [f'<connection {way} fromLane="0" toLane="0"/>' for way in _WAYS]
    light = '<tlLogic id="light" type="static" programID="0" offset="0"><phase duration="30" state="Gg"/></tlLogic>'
    location = '<location netOffset="0,0" convBoundary="0,0,380,100" origBoundary="0,0,380,100" projParameter="!"/>'
    path = folder / 'written.net.xml'
    path.write_text(f'<net version="1.20">{location}{"".join([*edges, light, *nodes, *ways])}</net>', encoding='utf-8')
    return load_network(path)


def test_a_junction_is_where_ways_part_or_a_light_stands_and_not_where_a_lane_becomes_another(tmp_path: Path) -> None:
    """To turn around is no way that parts, as the navigation has it."""
    text = opendrive_of(written_network(tmp_path))
    (light, fork) = JunctionMap(text).crossings([[x, 0.0] for x in range(381)])
    assert (light.first, light.last, light.side) == (pytest.approx(80, abs=1), pytest.approx(100, abs=1), 0)
    assert (fork.first, fork.last, fork.side) == (pytest.approx(280, abs=1), pytest.approx(300, abs=1), 0)
    outside = [road for road in ElementTree.fromstring(text).iter('road') if road.get('junction') == '-1']
    assert len(outside) == 7 + 2  # the lanes, and the joint's two ways


def test_a_way_across_a_junction_may_have_several_pieces(tmp_path: Path) -> None:
    text = opendrive_of(written_network(tmp_path))
    left = [(float(x), 0.0) for x in range(200, 280)]
    for begin, end in (((280, 0), (285, 2)), ((285, 2), (289, 10)), ((289, 10), (290, 20)), ((290, 20), (290, 60))):
        left += [tuple(place) for place in np.linspace(begin, end, round(np.hypot(*np.subtract(end, begin))) + 1)[:-1]]
    (fork,) = JunctionMap(text).crossings(left)
    assert fork.side == 1
    assert left[fork.first] == pytest.approx((280.0, 0.0), abs=1.0)
    assert left[fork.last] == pytest.approx((290.0, 20.0), abs=1.5)
