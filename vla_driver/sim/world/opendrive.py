# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A town as an OpenDRIVE map, of which only the reference lines are told: every lane is a road without lanes.

CARLA's bridge publishes its map, and a navigation device finds the junctions in it (`geometry/opendrive.py`).  As in
CARLA a junction is where ways part or a light stands; where one lane simply becomes another there is none.
"""

from __future__ import annotations

import math
from itertools import count, pairwise
from typing import Any
from xml.etree import ElementTree

from vla_driver.sim.world.road import junction_lanes


def opendrive_of(network: Any) -> str:
    """Return the map of a sumolib network; its frame is the network's."""
    root = ElementTree.Element('OpenDRIVE')
    ElementTree.SubElement(root, 'header', revMajor='1', revMinor='4', name='vla_driver')
    numbers = count()
    for edge in network.getEdges(withInternal=False):
        for lane in edge.getLanes():
            _add_road(root, str(next(numbers)), '-1', [lane])
    junctions = {node.getID(): str(k) for k, node in enumerate(network.getNodes())}
    for edge in network.getEdges(withInternal=False):
        ways = [connection for lane in edge.getLanes() for connection in lane.getOutgoing()]
        parts = len({way.getTo() for way in ways if way.getDirection() != 't'}) > 1
        for way in ways:
            junction = junctions[edge.getToNode().getID()] if parts or way.getTLSID() else '-1'
            _add_road(root, str(next(numbers)), junction, junction_lanes(network, way))
    return ElementTree.tostring(root, encoding='unicode')


def _add_road(root: ElementTree.Element, number: str, junction: str, lanes: list[Any]) -> None:
    """Add a road along the shapes of lanes, straight from point to point."""
    points = [point[:2] for lane in lanes for point in lane.getShape()]
    lines = [(a, math.dist(a, b), math.atan2(b[1] - a[1], b[0] - a[0])) for a, b in pairwise(points) if a != b]
    if not lines:
        return
    road = ElementTree.SubElement(
        root, 'road', id=number, junction=junction, length=f'{sum(length for _, length, _ in lines):.3f}'
    )
    view = ElementTree.SubElement(road, 'planView')
    s_m = 0.0
    for (x_m, y_m), length_m, heading in lines:
        values = {'s': s_m, 'x': x_m, 'y': y_m, 'hdg': heading, 'length': length_m}
        piece = ElementTree.SubElement(view, 'geometry', {name: f'{value:.4f}' for name, value in values.items()})
        ElementTree.SubElement(piece, 'line')
        s_m += length_m
