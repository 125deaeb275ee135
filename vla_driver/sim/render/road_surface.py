# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What lies flat on the ground of a SUMO network: asphalt, sidewalks, markings, crossings.

All shapes are in the network's coordinates (metres).  Elevation is ignored: the town is flat.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
import sumolib
from shapely.geometry import LineString, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from vla_driver.sim.render import polyline
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import FloatArray, InvalidInput

LINE_WIDTH_M = 0.16
STOP_LINE_WIDTH_M = 0.45
#: Gaps in the paving up to twice this wide (turn-lane splits, lane ends) are paved over.
CLOSING_M = 0.7
#: How far before a lane's end its arrow begins, and the arrow's own length.
ARROW_DISTANCE_M, ARROW_LENGTH_M = 11.0, 4.5


@dataclass(frozen=True)
class Marking:
    """A painted strip: centre polyline [N, 2] and width; `yellow` or white; `pointed`: narrowing to its end.

    label: LANE_MARKING or CROSSWALK.
    """

    points: FloatArray
    width_m: float
    yellow: bool = False
    pointed: bool = False
    label: SemanticClass = SemanticClass.LANE_MARKING


@dataclass(frozen=True)
class RoadSurface:
    """road and sidewalk do not overlap; junctions is the union of the junction areas."""

    road: BaseGeometry
    sidewalk: BaseGeometry
    junctions: BaseGeometry
    markings: list[Marking] = field(default_factory=list)

    @cached_property
    def paved(self) -> BaseGeometry:
        """Road and sidewalk together."""
        return _areas_only(shapely.union_all([self.road, self.sidewalk]))


def _points(shape: Any) -> FloatArray:
    return polyline.clean(np.asarray([p[:2] for p in shape], dtype=np.float64))


def _area(shape: Any) -> BaseGeometry | None:
    return shapely.make_valid(Polygon([p[:2] for p in shape])) if len(shape) > 2 else None


def _is_sidewalk(lane: Any) -> bool:
    return bool(lane.allows('pedestrian')) and not lane.allows('passenger') and not lane.allows('bus')


def _is_drivable(lane: Any) -> bool:
    return any(lane.allows(kind) for kind in ('passenger', 'bus', 'delivery', 'truck', 'bicycle', 'taxi'))


def _band(points: FloatArray, width: float) -> BaseGeometry:
    return LineString(points).buffer(0.5 * width, cap_style='flat', join_style='mitre', mitre_limit=2.0)


def read_surface(net: sumolib.net.Net) -> RoadSurface:
    """Return the surface of a network read with `withInternal=True`; raise `InvalidInput` if it has no road."""
    roads: list[BaseGeometry] = []
    walks: list[BaseGeometry] = []
    markings: list[Marking] = []
    for edge in net.getEdges(withInternal=True):
        function = edge.getFunction()
        if function in ('connector', 'dead_end'):
            continue
        for lane in edge.getLanes():
            points = _points(lane.getShape())
            if function == 'walkingarea':
                area = _area(lane.getShape())
                if area is not None:
                    walks.append(area)
            elif len(points) < 2:
                continue
            elif function == 'crossing':
                markings += _zebra(points, lane.getWidth())
            elif _is_sidewalk(lane):
                walks.append(_band(points, lane.getWidth()))
            elif _is_drivable(lane):
                roads.append(_band(points, lane.getWidth()))
    if not roads:
        raise InvalidInput('the network has no lane a road vehicle may use; give a SUMO network with roads')
    junctions = [area for node in net.getNodes() if (area := _area(node.getShape())) is not None]
    junction_union = shapely.union_all(junctions)
    asphalt = shapely.union_all([*roads, junction_union])
    # A lane keeps its asphalt, also where it turns through a junction; elsewhere the sidewalk wins.
    sidewalk = shapely.union_all(walks).difference(shapely.union_all(roads)).simplify(0.04)
    grown = shapely.union_all([asphalt, sidewalk]).buffer(CLOSING_M, join_style='mitre')
    # Simplified before the cut: both sides of the curb keep the same corners, so no sliver opens.
    road = grown.buffer(-CLOSING_M, join_style='mitre').simplify(0.04).difference(sidewalk)
    markings += _lane_markings(net, shapely.STRtree(junctions))
    return RoadSurface(_areas_only(road), _areas_only(sidewalk), junction_union, markings)


def _areas_only(shape: BaseGeometry) -> BaseGeometry:
    """Return the polygons of a shape: cutting may leave lines and points behind."""
    return MultiPolygon([part for part in shapely.get_parts(shape) if part.geom_type == 'Polygon'])


def _zebra(points: FloatArray, width: float) -> list[Marking]:
    """Bars along the traffic's direction every metre, half a metre wide."""
    return [
        Marking(_crossbar(piece, width), 0.5, label=SemanticClass.CROSSWALK)
        for piece in polyline.pieces(points, 0.5, 0.5)
        if polyline.length(piece) > 0.3
    ]


def _crossbar(points: FloatArray, width: float) -> FloatArray:
    """Return the two-point line [2, 2] of length `width` that crosses a short polyline at its middle."""
    middle = 0.5 * (points[0] + points[-1])
    along = (points[-1] - points[0]) / max(float(np.linalg.norm(points[-1] - points[0])), 1e-9)
    across = np.array([-along[1], along[0]])
    return np.stack([middle - 0.5 * width * across, middle + 0.5 * width * across])


def _lane_markings(net: sumolib.net.Net, junctions: shapely.STRtree) -> list[Marking]:
    found: list[Marking] = []
    for edge in net.getEdges(withInternal=False):
        lanes = [lane for lane in edge.getLanes() if _is_drivable(lane) and not _is_sidewalk(lane)]
        two_way = any(
            back.getToNode() is edge.getFromNode() and back.getFunction() == ''
            for back in edge.getToNode().getOutgoing()
        )
        for place, lane in enumerate(lanes):
            points = _points(lane.getShape())
            if len(points) < 2:
                continue
            half = 0.5 * lane.getWidth()
            if place + 1 < len(lanes):
                solid = lane.allows('passenger') != lanes[place + 1].allows('passenger')
                found += _clipped(polyline.offset(points, half), junctions, dashed=not solid)
            else:
                found += _clipped(polyline.offset(points, half - 0.13), junctions, yellow=two_way)
            if place == 0:
                found += _clipped(polyline.offset(points, 0.18 - half), junctions)
            found += _stop_line(lane, points)
            if len(lanes) > 1:
                found += _arrow(lane, points)
    return found


def _clipped(
    points: FloatArray, junctions: shapely.STRtree, dashed: bool = False, yellow: bool = False
) -> list[Marking]:
    """Return a line's pieces outside the junctions, as 3 m dashes every 9 m or solid."""
    outside: BaseGeometry = LineString(points)
    # One by one: cutting with the union of a whole town's junctions takes milliseconds per line.
    for crossed in junctions.query(outside, predicate='intersects'):
        outside = outside.difference(junctions.geometries[crossed])
    dash, gap = (3.0, 6.0) if dashed else (30.0, 0.0)
    return [
        Marking(piece, LINE_WIDTH_M, yellow)
        for run in shapely.get_parts(outside)
        if run.length > 0.3
        for piece in polyline.pieces(polyline.clean(shapely.get_coordinates(run)), dash, gap)
    ]


def _stop_line(lane: Any, points: FloatArray) -> list[Marking]:
    """A bar across the lane's end where traffic is told to stop; broken where it only gives way."""
    node = lane.getEdge().getToNode()
    links = lane.getOutgoing()
    states = {link.getState() for link in links}
    signals = bool(links) and any(link.getTLSID() for link in links)
    if not signals and not states & set('mswz'):
        return []
    total = polyline.length(points)
    if total < 3.0 or len(node.getIncoming()) < 2:
        return []
    bar = _crossbar(polyline.part(points, total - 0.7, total - 0.2), lane.getWidth() - 0.3)
    if signals or states & set('sw'):
        return [Marking(bar, STOP_LINE_WIDTH_M)]
    return [Marking(piece, STOP_LINE_WIDTH_M) for piece in polyline.pieces(bar, 0.45, 0.35)]


def _arrow(lane: Any, points: FloatArray) -> list[Marking]:
    """The arrow on a lane that tells where it leads, before a junction where the lanes of an edge differ."""
    ways = {link.getDirection().lower() for link in lane.getOutgoing()} & set('lsr')
    total = polyline.length(points)
    if not ways or total < ARROW_DISTANCE_M + 5 or len(lane.getEdge().getOutgoing()) < 2:
        return []
    a, b = polyline.part(points, total - ARROW_DISTANCE_M, total - ARROW_DISTANCE_M + ARROW_LENGTH_M)[[0, -1]]
    along = (b - a) / np.linalg.norm(b - a)
    left = np.array([-along[1], along[0]])
    shaft = 0.18
    found = []
    neck = a + along * (0.7 * ARROW_LENGTH_M)
    if 's' in ways:
        found += [Marking(np.stack([a, neck]), shaft), Marking(np.stack([neck, b]), 0.6, pointed=True)]
    for way, sign in (('l', 1.0), ('r', -1.0)):
        if way in ways:
            bend = a + along * (0.45 * ARROW_LENGTH_M)
            foot = bend + sign * 0.35 * left + along * 0.25
            tip = foot + sign * 0.75 * left
            found += [
                Marking(np.stack([a, bend + along * 0.1]), shaft),
                Marking(np.stack([bend, foot]), 0.3),
                Marking(np.stack([foot, tip]), 1.1, pointed=True),
            ]
    return found
