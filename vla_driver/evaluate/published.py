# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Open-loop figures of nuScenes as three published evaluations count them, grids and quirks included.

The same trajectories get different figures from each, so a figure is only worth its protocol's name, the number of
plans that counted, and how often the driven way itself collides (PARA-Drive, CVPR 2024; BEV-Planner, CVPR 2024).
All look at points every 0.5 s up to 3 s, at an ego of 4.084 m by 1.85 m whose middle lies 0.5 m ahead of the scored
point, on a grid of 100 m by 100 m about it, and at no step where the driven way collides, too:

| protocol      | source              | error and collision at T    | who is in the way   | ego turns | cell  |
|---------------|---------------------|-----------------------------|---------------------|-----------|-------|
| `st-p3`       | stp3/metrics.py     | mean of steps up to T       | vehicles and people | no        | 0.5 m |
| `uniad`       | planning_metrics.py | step T                      | vehicles            | no        | 0.5 m |
| `bev-planner` | metric_stp3.py      | mean up to T, any step to T | vehicles            | with way  | 0.1 m |

`uniad` keeps plans whose future was not recorded whole: a step without a future has error 0 and no collision, and
counts; of a plan without any nothing is said of collisions.  The others count plans with 3 s of future.  The scored
point is nuScenes' LIDAR_TOP in `st-p3` and `uniad`, the rear axle in `bev-planner`; `st-p3` has the others' boxes about
the rear axle all the same.  `bev-planner` also says how often the ego touches a line of the road's boundary by T: it is
cut to a patch about the ego and drawn through a few points of each piece.  What leaves the grid is moved to its border,
as published.

The arithmetic is the published one; what goes in is not, so figures are near those of papers, not comparable with them:

- Published figures are of key frames (2 Hz), these of all plans.  ST-P3 also drops the first two key frames of a scene,
  and windows that reach into the next one.
- Published `uniad` counts a plan without any recorded step as free of collisions.
- Published `bev-planner` leaves out boxes without a point of lidar or radar.  ST-P3 leaves out instances that are
  hidden (visibility 1) now and in the two key frames before, and what appears only after that.  Here all boxes count.
- Emergency vehicles are in nobody's way in published `uniad` and `bev-planner`; here they are cars, as in `st-p3`.
- A ring of the boundary that lies in the patch as a whole is drawn from another first point than there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from vla_driver.evaluate.displacement import HORIZONS_S, STEP_S, STEPS, Boxes
from vla_driver.geometry import se2
from vla_driver.sim.world.vehicle import rectangle
from vla_driver.types import FloatArray, InvalidInput

#: The ego of nuScenes, a Renault Zoe, and how far its middle lies ahead of the point that is scored.
EGO_LENGTH_M, EGO_WIDTH_M, EGO_AHEAD_M = 4.084, 1.85, 0.5
#: nuScenes' LIDAR_TOP lies so far ahead of the rear axle.
LIDAR_M: Final = 0.985793
#: The grid reaches so far in all four directions.
REACH_M: Final = 50.0
#: Below this step the way has no direction (`bev-planner`).
_STANDS_M: Final = 1.0
#: The boundary counts so far ahead, behind, and to the sides: a patch of 102.4 m by 50 m, less 0.2 m at its border.
PATCH_AHEAD_M, PATCH_ASIDE_M = 51.0, 24.8
#: Each of its lines in the patch is drawn through so many points, at equal distances along it.
LINE_POINTS: Final = 20
_AT: Final = [round(horizon / STEP_S) for horizon in HORIZONS_S]

Flags = npt.NDArray[np.bool_]
Grid = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Protocol:
    """What tells a published evaluation from another.

    cell_m: of the grid, whose first axis is forward.  lidar: LIDAR_TOP is scored, not the rear axle; boxes_m: where
    the others' boxes are counted from, ahead of the rear axle.  mirrored: the grid's second axis is to the right.
    people: whether they are in the way, too.  turned: whether the ego turns along its way.  whole: only plans with all
    of their future count.  at_step: a value at T is that of the step; else the mean of those up to it, and `ever` for
    collisions: whether there was one.
    """

    name: str
    cell_m: float
    lidar: bool = True
    boxes_m: float = 0.0
    mirrored: bool = False
    people: bool = False
    turned: bool = False
    whole: bool = True
    at_step: bool = False
    ever: bool = False

    @property
    def cells(self) -> int:
        """How many cells the grid has along each axis."""
        return round(2.0 * REACH_M / self.cell_m)


PROTOCOLS: Final = {
    protocol.name: protocol
    for protocol in (
        Protocol('st-p3', 0.5, people=True),
        Protocol('uniad', 0.5, boxes_m=LIDAR_M, mirrored=True, whole=False, at_step=True),
        Protocol('bev-planner', 0.1, lidar=False, turned=True, ever=True),
    )
}


@dataclass(frozen=True)
class Around:
    """The others at one time in base_link at t0.  boxes: [N, 5] x, y, yaw, length, width; people: [N], who walks."""

    boxes: Boxes
    people: Flags = field(default_factory=lambda: np.zeros(0, dtype=bool))


@dataclass(frozen=True)
class Counted:
    """One plan as a protocol counts it; all [STEPS].

    error_m: 0 where nothing was driven.  collides: without the steps where the driven way does, too (driven_collides);
    None without agents.  off_road, driven_off_road: the same against the road's boundary; None without one.
    agents: whether any were recorded, be it at other times.
    """

    error_m: FloatArray
    recorded: Flags
    collides: Flags | None = None
    driven_collides: Flags | None = None
    off_road: Flags | None = None
    driven_off_road: Flags | None = None
    agents: bool = False


def occupied(boxes: Boxes, protocol: Protocol) -> Grid:
    """Return the grid [cells, cells] with 1 where one of the boxes [N, 5] is (x forward and y left of its origin)."""
    canvas = _Canvas(protocol)
    for box in boxes:
        cells = canvas.cells(rectangle(*map(float, box)))
        cv2.fillPoly(
            canvas.drawn, [(np.trunc(cells) if protocol.turned else np.round(cells + 0.5)).astype(np.int32)], 1
        )
    return canvas.grid


def boundary_grid(lines: Sequence[FloatArray], protocol: Protocol) -> Grid:
    """Return the grid with 1 along lines [N, 2] (x forward, y left), one cell wide."""
    canvas = _Canvas(protocol)
    for line in lines:
        cells = np.clip(canvas.cells(np.asarray(line, dtype=np.float64)), 0, protocol.cells - 1).astype(np.int32)
        for begin, end in pairwise(cells.tolist()):
            cv2.line(canvas.drawn, begin, end, 1, thickness=1)
    return canvas.grid


def drawn_boundary(lines: Sequence[FloatArray]) -> list[FloatArray]:
    """Return the lines [LINE_POINTS, 2] that are drawn of lines [N, 2] of the road's boundary, all in base_link at t0.

    A bend between two points is cut short, by metres on a long line, as published.
    """
    import shapely

    patch = shapely.box(-PATCH_AHEAD_M, -PATCH_ASIDE_M, PATCH_AHEAD_M, PATCH_ASIDE_M)
    at = np.linspace(0.0, 1.0, LINE_POINTS)
    drawn = []
    for line in lines:
        parts = shapely.get_parts(shapely.intersection(shapely.LineString(line), patch))
        # A line may touch the patch in a point; a ring that begins within it comes in two pieces.
        pieces = [part for part in parts if part.geom_type == 'LineString' and not part.is_empty]
        for piece in shapely.get_parts(shapely.line_merge(shapely.MultiLineString(pieces))):
            drawn.append(shapely.get_coordinates(shapely.line_interpolate_point(piece, at, normalized=True)))
    return drawn


class _Canvas:
    """A grid that is drawn on as published: which axis the columns are decides where lines between cells go."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self.drawn: Grid = np.zeros((protocol.cells, protocol.cells), dtype=np.uint8)

    def cells(self, points: FloatArray) -> FloatArray:
        """Return (column, row) [N, 2] of points (x forward, y left); a whole number is the middle of a cell."""
        side = points[:, 1] * (-1.0 if self._protocol.mirrored else 1.0)
        pair = (points[:, 0], side) if self._protocol.turned else (side, points[:, 0])
        return (np.column_stack(pair) + REACH_M) / self._protocol.cell_m - 0.5

    @property
    def grid(self) -> Grid:
        """The grid, first axis forward."""
        return self.drawn.T if self._protocol.turned else self.drawn


def _footprint(protocol: Protocol) -> FloatArray:
    """Return [K, 2] the cells (forward, sideways) whose middles the ego covers at the origin, as whole numbers."""
    ahead_m = EGO_AHEAD_M + (0.0 if protocol.lidar else LIDAR_M)
    first = 0.5 - REACH_M / protocol.cell_m  # cell k has its middle at (k + first) * cell_m
    axes = []
    for middle_m, size_m in ((ahead_m, EGO_LENGTH_M), (0.0, EGO_WIDTH_M)):
        low, high = ((middle_m + sign * 0.5 * size_m) / protocol.cell_m - first for sign in (-1.0, 1.0))
        axes.append(np.arange(np.ceil(low), np.floor(high) + 1.0))
    rows, columns = np.meshgrid(*axes, indexing='ij')
    return np.column_stack([rows.ravel(), columns.ravel()])


def touches(points: npt.ArrayLike, grids: Sequence[Grid], protocol: Protocol) -> Flags:
    """Return [T]: whether the ego at points [T, 2] (x forward, y left of the scored point at t0) meets grid t."""
    way = np.asarray(points, dtype=np.float64) * [1.0, -1.0 if protocol.mirrored else 1.0]
    footprint = _footprint(protocol)
    steps = np.diff(np.vstack([np.zeros((1, 2)), way]), axis=0)
    answer = np.zeros(len(way), dtype=bool)
    for t, (point, step) in enumerate(zip(way, steps, strict=True)):
        cells = footprint
        if protocol.turned:
            yaw = 0.0 if np.hypot(*step) < _STANDS_M else np.arctan2(step[1], step[0])
            cos, sin = np.cos(yaw), np.sin(yaw)
            middle = 0.5 - REACH_M / protocol.cell_m
            cells = np.round((footprint + middle) @ np.array([[cos, sin], [-sin, cos]]) - middle)
        index = np.clip(np.trunc(point / protocol.cell_m + cells), 0, protocol.cells - 1).astype(int)
        answer[t] = bool(grids[t][index[:, 0], index[:, 1]].any())
    return answer


def count(
    protocol: Protocol,
    planned: npt.ArrayLike,
    driven: npt.ArrayLike,
    others: Sequence[Around | None] | None = None,
    boundary: Sequence[FloatArray] | None = None,
) -> Counted:
    """Return what a protocol counts of planned poses [STEPS, 3] against driven ones, all in base_link at t0.

    driven: a step that was not recorded is NaN.  others: at each step, None where nothing is known of them; boundary:
    lines [N, 2] of the road's boundary.  Nothing is said of collisions where no step is recorded or the others of a
    recorded one are unknown, and of the road without its boundary.
    """
    plan, way = np.asarray(planned, dtype=np.float64), np.asarray(driven, dtype=np.float64)
    if plan.shape != (STEPS, 3) or way.shape != (STEPS, 3):
        raise InvalidInput(f'{protocol.name}: poses of shapes {plan.shape} and {way.shape}, expected {(STEPS, 3)}')
    recorded: Flags = np.asarray(np.isfinite(way).all(axis=1))
    points = [_scored(poses, protocol) for poses in (plan, np.where(recorded[:, None], way, 0.0))]
    error = np.where(recorded, np.hypot(*(points[0] - points[1]).T), 0.0)
    hit: Flags | None = None
    fault: Flags | None = None
    left: Flags | None = None
    left_driven: Flags | None = None
    if others is not None and len(others) != STEPS:
        raise InvalidInput(f'{protocol.name}: others at {len(others)} times, expected {STEPS}')
    if others is not None and _known(others, recorded):
        grids = [occupied(_in_the_way(item, protocol), protocol) for item in others]
        hit, fault = (np.logical_and(touches(each, grids, protocol), recorded) for each in points)
        hit = hit & ~fault
    if boundary is not None and protocol.ever:
        grids = [boundary_grid(drawn_boundary(boundary), protocol)] * STEPS
        left, left_driven = (np.logical_and(touches(each, grids, protocol), recorded) for each in points)
        left = left & ~left_driven
    return Counted(error, recorded, hit, fault, left, left_driven, agents=others is not None)


def _known(others: Sequence[Around | None], recorded: Flags) -> bool:
    """Return whether the others are known at every recorded step, and there is one."""
    # A step of which nobody knows who was there cannot be called free of collisions.
    return bool(recorded.any()) and all(item is not None for item, there in zip(others, recorded, strict=True) if there)


def _scored(poses: FloatArray, protocol: Protocol) -> FloatArray:
    """Return [STEPS, 2] the way of the scored point, from where it is at t0, of poses of the rear axle."""
    if not protocol.lidar:
        return poses[:, :2]
    lidar = np.array([LIDAR_M, 0.0, 0.0])
    moved: FloatArray = se2.compose(poses, np.tile(lidar, (len(poses), 1)))[:, :2] - lidar[:2]
    return moved


def _in_the_way(others: Around | None, protocol: Protocol) -> Boxes:
    if others is None:
        return np.zeros((0, 5))
    boxes = others.boxes if protocol.people or not len(others.people) else others.boxes[~others.people]
    return boxes - [protocol.boxes_m, 0.0, 0.0, 0.0, 0.0]


def summarise(protocol: Protocol, plans: Sequence[Counted]) -> dict[str, Any]:
    """Return `samples` (how many plans counted), l2_m and rates at 1, 2, 3 s and their mean, for JSON.

    Rates: collision_rate and off_road_rate of the plans, driven_... of what was driven; those that no plan can tell
    are left out.  Raises InvalidInput where no plan counts.
    """
    counted = [plan for plan in plans if plan.recorded.all() or not protocol.whole]
    if not counted:
        raise InvalidInput(f'{protocol.name}: no plan counts; it wants {HORIZONS_S[-1]} s of driving after each')
    answer: dict[str, Any] = {'samples': len(counted)}
    answer['l2_m'] = _named(_means(protocol, np.array([plan.error_m for plan in counted])))
    for key, name in (
        ('collides', 'collision_rate'),
        ('driven_collides', 'driven_collision_rate'),
        ('off_road', 'off_road_rate'),
        ('driven_off_road', 'driven_off_road_rate'),
    ):
        flags = [values for plan in counted if (values := getattr(plan, key)) is not None]
        if flags:
            answer[name] = _named(_ever(np.array(flags)) if protocol.ever else _means(protocol, np.array(flags)))
            answer[f'samples_with_{"agents" if "collides" in key else "boundary"}'] = len(flags)
    return answer


def _means(protocol: Protocol, steps: npt.NDArray[Any]) -> FloatArray:
    """Return [3] the means over plans of values [N, STEPS] at the horizons."""
    columns = [steps[:, k - 1 : k] if protocol.at_step else steps[:, :k] for k in _AT]
    return np.array([column.mean() for column in columns], dtype=np.float64)


def _ever(steps: npt.NDArray[np.bool_]) -> FloatArray:
    """Return [3] the share of plans [N, STEPS] with a flag by each horizon."""
    return np.array([steps[:, :k].any(axis=1).mean() for k in _AT], dtype=np.float64)


def _named(values: FloatArray) -> dict[str, float]:
    columns = {f'{horizon}s': float(value) for horizon, value in zip(HORIZONS_S, values, strict=True)}
    return columns | {'mean': float(values.mean())}
