# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Houses and trees beside the roads, placed at random by the look's seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from vla_driver.sim.render import polyline
from vla_driver.sim.render.mesh import MeshArrays, MeshBuilder, unit_blob
from vla_driver.sim.render.road_surface import RoadSurface
from vla_driver.sim.render.textures import FACADE_TILE_M, Layer
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import FloatArray

_WALLS = np.array(
    [
        [0.86, 0.80, 0.70],
        [0.76, 0.58, 0.48],
        [0.80, 0.80, 0.83],
        [0.66, 0.70, 0.66],
        [0.90, 0.86, 0.78],
        [0.62, 0.48, 0.42],
        [0.72, 0.74, 0.80],
    ]
)
_ROOFS = np.array([[0.50, 0.26, 0.20], [0.36, 0.33, 0.32], [0.42, 0.32, 0.26], [0.55, 0.36, 0.28]])
_PLAIN = (0.0, 0.0, float(Layer.PLAIN))
_BLOCK_FRONTS = (Layer.FACADE_GRID, Layer.FACADE_BAND, Layer.FACADE_HOUSE)


@dataclass(frozen=True)
class SceneryItem:
    """One house or tree, standing at `place` [2] in the world; mesh parts: texture u, v, layer."""

    place: FloatArray
    label: SemanticClass
    mesh: MeshArrays


def place_scenery(surface: RoadSurface, seed: int) -> list[SceneryItem]:
    """Return houses first, then trees; none touches the paved ground or blocks the view into a junction."""
    rng = np.random.default_rng((seed, 1))
    paved = surface.paved
    houses = _place_houses(paved, rng)
    trees = _place_trees(paved, surface.junctions, houses, rng)
    return [item for item, _ in houses] + trees


def _outward(points: FloatArray, at_m: float, blocked: BaseGeometry) -> tuple[FloatArray, FloatArray]:
    """Return the point [2] at an arc length of a ring and the unit normal [2] that leaves `blocked`."""
    at_m = min(max(at_m, 0.5), polyline.length(points) - 0.5)
    a, b = polyline.part(points, at_m - 0.5, at_m + 0.5)[[0, -1]]
    along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-9)
    normal = np.array([-along[1], along[0]])
    middle = 0.5 * (a + b)
    if shapely.contains_xy(blocked, *(middle + normal)):
        normal = -normal
    return middle, normal


def _place_houses(paved: BaseGeometry, rng: np.random.Generator) -> list[tuple[SceneryItem, Polygon]]:
    free = paved.buffer(3.0, quad_segs=2)
    margin = paved.buffer(1.8, quad_segs=2)
    shapely.prepare(free)
    shapely.prepare(margin)
    placed: list[tuple[SceneryItem, Polygon]] = []
    taken: dict[tuple[int, int], list[Polygon]] = {}
    for ring in shapely.get_parts(shapely.get_parts(shapely.boundary(free))):
        points = polyline.clean(shapely.get_coordinates(ring))
        total, at = polyline.length(points), float(rng.uniform(0, 15))
        if total < 20:
            continue
        while at < total:
            width, depth = float(rng.choice([9.6, 12.8, 12.8, 16.0, 19.2])), float(rng.choice([9.6, 12.8, 16.0]))
            setback = float(rng.choice([0.5, 2.0, 5.0], p=[0.4, 0.35, 0.25]))
            middle, normal = _outward(points, (at + 0.5 * width) % total, free)
            at += width + float(rng.choice([1.0, 4.0, 14.0], p=[0.5, 0.3, 0.2]))
            along = np.array([-normal[1], normal[0]])
            centre = middle + normal * (setback + 0.5 * depth)
            corners = np.array(
                [
                    centre + sx * 0.5 * width * along + sy * 0.5 * depth * normal
                    for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
                ]
            )
            plot = Polygon(corners)
            cell = tuple((centre // 32).astype(int))
            near = [q for dx in (-1, 0, 1) for dy in (-1, 0, 1) for q in taken.get((cell[0] + dx, cell[1] + dy), [])]
            if margin.intersects(plot) or any(plot.intersects(q) for q in near):
                continue
            taken.setdefault((int(cell[0]), int(cell[1])), []).append(plot.buffer(0.4))
            item = SceneryItem(centre, SemanticClass.BUILDING, _house(corners, rng))
            placed.append((item, plot))
    return placed


def _house(corners: FloatArray, rng: np.random.Generator) -> MeshArrays:
    """A block of flats with a flat roof, or a low house with a gable roof, on a plot with `corners` [4, 2]."""
    mesh = MeshBuilder(3)
    wall = rng.choice(_WALLS) * rng.uniform(0.8, 1.08)
    gabled = rng.random() < 0.4
    height = float(rng.choice([3.2, 6.4])) if gabled else float(rng.choice([6.4, 9.6, 12.8, 16.0, 22.4]))
    layer = Layer.FACADE_HOUSE if gabled else _BLOCK_FRONTS[int(rng.integers(len(_BLOCK_FRONTS)))]
    storeys = height / FACADE_TILE_M
    offset = float(rng.integers(4)) / 4
    base = np.column_stack([corners, np.full(4, -0.05)])
    for k in range(4):
        a, b = base[k], base[(k + 1) % 4]
        up = np.array([0, 0, height + 0.05])
        run = max(1.0, round(float(np.linalg.norm(b - a)) / 3.2)) / 4
        quad = np.stack([a, b, b + up, a + up])
        uv = np.array([[offset, 0], [offset + run, 0], [offset + run, storeys], [offset, storeys]])
        normal = np.append(0.5 * (a + b)[:2] - corners.mean(axis=0), 0.0)
        normal /= np.linalg.norm(normal)
        mesh.add(quad, [[0, 1, 2], [0, 2, 3]], normal, wall, np.column_stack([uv, np.full(4, float(layer))]))
    top = np.column_stack([corners, np.full(4, height)])
    if not gabled:
        mesh.polygon(top, (0.42, 0.41, 0.40), _PLAIN, (0, 0, 1))
        return mesh.build()
    roof = rng.choice(_ROOFS)
    rise = np.array([0, 0, float(rng.uniform(2.0, 3.4))])
    ridge = 0.5 * (top[[0, 1]] + top[[3, 2]]) + rise
    for quad in (np.stack([top[0], top[1], ridge[1], ridge[0]]), np.stack([top[2], top[3], ridge[0], ridge[1]])):
        mesh.polygon(quad, roof, _PLAIN, (0, 0, 1))
    for a, b, tip in ((top[0], top[3], ridge[0]), (top[1], top[2], ridge[1])):
        mesh.polygon(np.stack([a, b, tip]), wall, _PLAIN, tip - top.mean(axis=0) - rise)
    return mesh.build()


def _place_trees(
    paved: BaseGeometry, junctions: BaseGeometry, houses: list[tuple[SceneryItem, Polygon]], rng: np.random.Generator
) -> list[SceneryItem]:
    verge = paved.buffer(2.0, quad_segs=2)
    plots = shapely.STRtree([plot for _, plot in houses])
    clear_of = junctions.buffer(9.0, quad_segs=2)
    shapely.prepare(clear_of)
    shapely.prepare(paved)
    trees: list[SceneryItem] = []
    for ring in shapely.get_parts(shapely.get_parts(shapely.boundary(verge))):
        points = polyline.clean(shapely.get_coordinates(ring))
        total, at = polyline.length(points), float(rng.uniform(0, 20))
        if total < 20:
            continue
        while at < total:
            middle, normal = _outward(points, at, verge)
            at += float(rng.uniform(9, 30))
            place = middle + normal * float(rng.choice([0.2, 0.2, 3.0, 12.0]) + rng.uniform(0, 0.8))
            spot = shapely.Point(place)
            if clear_of.contains(spot) or len(plots.query(spot.buffer(1.5), predicate='intersects')):
                continue
            if shapely.distance(paved, spot) < 1.6:
                continue
            trees.append(SceneryItem(place, SemanticClass.VEGETATION, _tree(place, rng)))
    return trees


def _tree(place: FloatArray, rng: np.random.Generator) -> MeshArrays:
    """A trunk and two or three rough blobs, darker below."""
    mesh = MeshBuilder(3)
    scale = float(rng.uniform(0.8, 1.5))
    foot = np.append(place, 0.0)
    angle = 2 * np.pi * np.arange(4) / 4
    ring = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(4)])
    fork = foot + 0.11 * scale * ring + [0, 0, 2.6 * scale]
    mesh.frustum(foot + 0.16 * scale * ring, fork, (0.34, 0.26, 0.19), _PLAIN)
    green = np.array([0.30, 0.45, 0.20]) * rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.06, 3))
    tall = rng.random() < 0.25
    directions, faces = unit_blob(2, 6)
    for level in range(2 if tall else 3):
        radius = scale * float(rng.uniform(1.0, 1.35)) * np.array([1, 1, 1.7 if tall else 0.9])
        spread = 0.15 if tall else 0.75
        rise = scale * (3.0 + (1.1 if tall else 0.55) * level)
        middle = foot + np.append(rng.normal(0, spread * scale, 2).clip(-1, 1), rise)
        bumps = 1 + rng.normal(0, 0.10, (len(directions), 1))
        colour = green * (0.88 + 0.18 * directions[:, 2:]) * rng.uniform(0.9, 1.1)
        # A skewed projection: no side of the crown is seen edge-on, where the texture would smear.
        uv = 0.3 * (directions[:, :2] + directions[:, 2:] * [0.9, -0.7]) + rng.random(2)
        uv = np.column_stack([uv, np.full(len(directions), float(Layer.GRASS))])
        mesh.add(middle + directions * radius * bumps, faces, directions, colour, uv)
    return mesh.build()
