# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where traffic-light heads stand: one beyond the junction (seen while waiting), one at the stop line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from shapely.geometry import LineString, Polygon

_FAR_HEIGHT_M = 5.0
_NEAR_HEIGHT_M = 3.4


@dataclass(frozen=True)
class HeadSite:
    """A head's place and the state it shows: position `link` of the light's state string."""

    light: str
    link: int
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float


def head_sites(network: Any) -> list[HeadSite]:
    """Return two heads for every group of lanes of an approach that shares one signal.

    The far head hangs over the approach's own axis beyond the junction, facing the approach; a vehicle at the
    stop line still sees it.  The near one stands to the right of the stop line.
    """
    sites: list[HeadSite] = []
    for node in network.getNodes():
        if not node.getType().startswith('traffic_light'):
            continue
        shape = node.getShape()
        area = Polygon([p[:2] for p in shape]).buffer(0) if len(shape) > 2 else None
        for edge in node.getIncoming():
            lanes = [lane for lane in edge.getLanes() if lane.allows('passenger')]
            linked = [(lane, link) for lane in lanes if (link := _link(lane)) is not None]
            if not linked:
                continue
            ends = np.array([lane.getShape()[-1][:2] for lane, _ in linked])
            before = np.array(linked[0][0].getShape()[-2][:2])
            forward = ends[0] - before
            forward = forward / max(np.hypot(*forward), 1e-6)
            right = np.array([forward[1], -forward[0]])
            stop = ends.mean(axis=0)
            light, index = linked[len(linked) // 2][1]
            yaw = float(np.arctan2(-forward[1], -forward[0]))
            far = stop + forward * (_depth(area, stop, forward) + 2.0)
            sites.append(HeadSite(light, index, far[0], far[1], _FAR_HEIGHT_M, yaw))
            side = max(float((end - stop) @ right) for end in ends) + 0.5 * linked[0][0].getWidth() + 1.0
            near = stop + right * side + forward * 0.5
            sites.append(HeadSite(light, index, near[0], near[1], _NEAR_HEIGHT_M, yaw))
    return sites


def _link(lane: Any) -> tuple[str, int] | None:
    for connection in lane.getOutgoing():
        light, link = connection.getTLSID(), connection.getTLLinkIndex()
        if light and link >= 0 and connection.getDirection() != 't':
            return light, link
    return None


def _depth(area: Polygon | None, stop: np.ndarray, forward: np.ndarray) -> float:
    """Return how far the junction reaches along the approach, at least 8 m and at most 32 m."""
    if area is None:
        return 12.0
    ray = LineString([stop, stop + forward * 60.0]).intersection(area)
    if ray.is_empty:
        return 12.0
    reach = max(
        float((np.array(point[:2]) - stop) @ forward) for part in getattr(ray, 'geoms', [ray]) for point in part.coords
    )
    return float(np.clip(reach, 8.0, 32.0))
