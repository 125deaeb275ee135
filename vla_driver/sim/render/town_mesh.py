# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The town's fixed geometry as one vertex and one index buffer, cut into spatial chunks.

The light of a run does not change, so it is baked into the vertex colours: the vertex shader only
projects.  Each chunk is one contiguous range of indices with a bounding sphere to cull it by.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import shapely
import sumolib
from shapely.geometry.base import BaseGeometry

from vla_driver.sim.render import polyline
from vla_driver.sim.render.light import Light
from vla_driver.sim.render.mesh import MeshArrays, MeshBuilder, triangulate
from vla_driver.sim.render.road_surface import Marking, RoadSurface, read_surface
from vla_driver.sim.render.scenery import place_scenery
from vla_driver.sim.render.textures import GROUND_TILE_M, Layer
from vla_driver.sim.world.scene import Look, SemanticClass
from vla_driver.types import FloatArray

CHUNK_M = 64.0
CURB_HEIGHT_M = 0.13
MARKING_HEIGHT_M = 0.012
TERRAIN_HEIGHT_M = -0.04
TERRAIN_REACH_M = 1500.0
#: The colour of a part that is painted later.
_UNPAINTED = (0.0, 0.0, 0.0)

#: What the static vertex shader reads.  colour: RGB, and the semantic class in alpha.
STATIC_VERTEX = np.dtype([('position', '<f4', 3), ('colour', 'u1', 4), ('detail', '<f4', 3)])


@dataclass(frozen=True)
class TownMesh:
    """vertices [V] of `STATIC_VERTEX`; indices [3 F]; chunk k is indices[first[k] : first[k] + count[k]].

    centres [K, 3], radii [K]: bounding spheres.  The last chunk is the terrain, which is always drawn.
    """

    vertices: npt.NDArray[np.void]
    indices: npt.NDArray[np.uint32]
    first: npt.NDArray[np.uint32]
    count: npt.NDArray[np.uint32]
    centres: FloatArray
    radii: FloatArray
    surface: RoadSurface


def build_town(net: sumolib.net.Net, look: Look) -> TownMesh:
    """Return the mesh of a network read with `withInternal=True`, in the light and colours of a look."""
    ground = _ground(net)
    paint = _Paint(np.random.default_rng((look.seed, 0)))
    light = Light.of(look)
    cells: dict[tuple[int, int], list[tuple[MeshArrays, SemanticClass]]] = {}
    for part in ground.parts:
        colours = np.broadcast_to(getattr(paint, part.paint), part.mesh.colours.shape)
        cells.setdefault(part.cell, []).append((replace(part.mesh, colours=colours), part.label))
    for item in place_scenery(ground.surface, look.seed):
        cells.setdefault(_cell(item.place), []).append((item.mesh, item.label))
    chunks = [_bake(parts, light) for _, parts in sorted(cells.items())]
    chunks = [chunk for chunk in chunks if len(chunk[1])]
    chunks.append(_bake([(_terrain(ground.surface, paint), SemanticClass.TERRAIN)], light))
    return _assemble(chunks, ground.surface)


@dataclass(frozen=True)
class _GroundPart:
    """A piece of the ground without its colour.  paint: the name of the colour in `_Paint`."""

    cell: tuple[int, int]
    mesh: MeshArrays
    label: SemanticClass
    paint: str


@dataclass(frozen=True)
class _Ground:
    """What is the same in every look of a town."""

    surface: RoadSurface
    parts: tuple[_GroundPart, ...]


@lru_cache(maxsize=8)  # as many as `load_network` keeps: one process draws a town in many looks
def _ground(net: sumolib.net.Net) -> _Ground:
    surface = read_surface(net)
    parts: list[_GroundPart] = []

    def put(place: npt.ArrayLike, mesh: MeshArrays, label: SemanticClass, paint: str) -> None:
        if len(mesh.indices):
            parts.append(_GroundPart(_cell(place), mesh, label, paint))

    for centre, cell in _grid(surface.paved):
        put(centre, _flat(surface.road.intersection(cell), 0.0, Layer.ASPHALT), SemanticClass.ROAD, 'asphalt')
        walk = surface.sidewalk.intersection(cell)
        put(centre, _flat(walk, CURB_HEIGHT_M, Layer.PAVING), SemanticClass.SIDEWALK, 'paving')
    for start, mesh in _curbs(surface.sidewalk):
        put(start, mesh, SemanticClass.SIDEWALK, 'curb')
    for marking in surface.markings:
        paint = 'yellow' if marking.yellow else 'white'
        put(marking.points.mean(axis=0), _strip(marking), marking.label, paint)
    return _Ground(surface, tuple(parts))


def _cell(place: npt.ArrayLike) -> tuple[int, int]:
    x, y = np.floor(np.asarray(place, dtype=np.float64) / CHUNK_M).astype(int)
    return int(x), int(y)


class _Paint:
    """The ground's colours, a little different in every run."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.asphalt = np.full(3, rng.uniform(0.30, 0.42)) * np.array([1.0, 1.0, rng.uniform(0.98, 1.06)])
        self.paving = np.array([0.62, 0.60, 0.57]) * rng.uniform(0.88, 1.08)
        self.curb = self.paving * 0.92
        self.grass = np.array([0.37, 0.46, 0.24]) * rng.uniform(0.85, 1.1) * (1 + rng.normal(0, 0.05, 3))
        wear = rng.uniform(0.82, 1.0)
        self.white = np.array([0.93, 0.93, 0.91]) * wear
        self.yellow = np.array([0.92, 0.70, 0.14]) * wear


def _grid(area: BaseGeometry) -> list[tuple[FloatArray, BaseGeometry]]:
    x0, y0, x1, y1 = np.asarray(area.bounds) // CHUNK_M
    return [
        (np.array([x + 0.5 * CHUNK_M, y + 0.5 * CHUNK_M]), shapely.box(x, y, x + CHUNK_M, y + CHUNK_M))
        for x in CHUNK_M * np.arange(x0, x1 + 1)
        for y in CHUNK_M * np.arange(y0, y1 + 1)
    ]


def _flat(area: BaseGeometry, height: float, layer: Layer, colour: npt.ArrayLike = _UNPAINTED) -> MeshArrays:
    points, faces = triangulate(area)
    mesh = MeshBuilder(3)
    if len(points):
        detail = np.column_stack([points / GROUND_TILE_M, np.full(len(points), float(layer))])
        mesh.add(np.column_stack([points, np.full(len(points), height)]), faces, (0, 0, 1), colour, detail)
    return mesh.build()


def _strip(marking: Marking) -> MeshArrays:
    """A flat ribbon along the marking's polyline [N, 2]; an arrow's tip narrows to a point."""
    mesh = MeshBuilder(3)
    points, half = marking.points, 0.5 * marking.width_m
    n = len(points)
    left, right = polyline.offset(points, half), polyline.offset(points, -half)
    if marking.pointed:
        left[-1] = right[-1] = points[-1]
    both = np.vstack([left, right])
    k = np.arange(n - 1)
    faces = np.vstack([np.column_stack([k, n + k, k + 1]), np.column_stack([k + 1, n + k, n + k + 1])])
    detail = np.column_stack([both / GROUND_TILE_M, np.full(2 * n, float(Layer.ASPHALT))])
    mesh.add(np.column_stack([both, np.full(2 * n, MARKING_HEIGHT_M)]), faces, (0, 0, 1), _UNPAINTED, detail)
    return mesh.build()


def _curbs(sidewalk: BaseGeometry) -> list[tuple[FloatArray, MeshArrays]]:
    """Vertical faces all around the sidewalk, in pieces shorter than a chunk: (start [2], mesh)."""
    found = []
    for polygon in shapely.get_parts(sidewalk):
        if polygon.geom_type != 'Polygon':
            continue
        # Counter-clockwise outer ring and clockwise holes: outside is always on the right.
        oriented = shapely.geometry.polygon.orient(polygon)
        for ring in (oriented.exterior, *oriented.interiors):
            for piece in polyline.pieces(polyline.clean(shapely.get_coordinates(ring)), 30.0, 0.0):
                mesh = MeshBuilder(3)
                for a, b in itertools.pairwise(piece):
                    normal = np.array([b[1] - a[1], a[0] - b[0], 0.0]) / max(float(np.linalg.norm(b - a)), 1e-9)
                    quad = [[*a, TERRAIN_HEIGHT_M], [*b, TERRAIN_HEIGHT_M], [*b, CURB_HEIGHT_M], [*a, CURB_HEIGHT_M]]
                    mesh.add(quad, [[0, 1, 2], [0, 2, 3]], normal, _UNPAINTED, (0, 0, float(Layer.PLAIN)))
                found.append((piece[0], mesh.build()))
    return found


def _terrain(surface: RoadSurface, paint: _Paint) -> MeshArrays:
    x0, y0, x1, y1 = np.asarray(surface.road.bounds) + TERRAIN_REACH_M * np.array([-1, -1, 1, 1])
    return _flat(shapely.box(x0, y0, x1, y1), TERRAIN_HEIGHT_M, Layer.GRASS, paint.grass)


def _bake(
    parts: list[tuple[MeshArrays, SemanticClass]], light: Light
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]:
    vertices, indices, base = [], [], 0
    for mesh, label in parts:
        if not len(mesh.indices):
            continue
        out = np.zeros(len(mesh.positions), STATIC_VERTEX)
        out['position'] = mesh.positions
        out['colour'][:, :3] = np.clip(255 * mesh.colours * light.shade(mesh.normals), 0, 255).round()
        out['colour'][:, 3] = label
        out['detail'] = mesh.parts
        vertices.append(out)
        indices.append((mesh.indices + base).astype(np.uint32).ravel())
        base += len(out)
    if not vertices:
        return np.zeros(0, STATIC_VERTEX), np.zeros(0, np.uint32)
    return np.concatenate(vertices), np.concatenate(indices)


def _assemble(chunks: list[tuple[npt.NDArray[np.void], npt.NDArray[np.uint32]]], surface: RoadSurface) -> TownMesh:
    first, count, centres, radii, indices = [], [], [], [], []
    base, at = 0, 0
    for vertices, chunk_indices in chunks:
        low, high = vertices['position'].min(axis=0), vertices['position'].max(axis=0)
        centre = 0.5 * (low + high).astype(np.float64)
        centres.append(centre)
        radii.append(float(np.linalg.norm(vertices['position'] - centre, axis=1).max()))
        first.append(at)
        count.append(len(chunk_indices))
        indices.append(chunk_indices + np.uint32(base))
        base += len(vertices)
        at += len(chunk_indices)
    return TownMesh(
        np.concatenate([vertices for vertices, _ in chunks]),
        np.concatenate(indices),
        np.array(first, np.uint32),
        np.array(count, np.uint32),
        np.array(centres),
        np.array(radii),
        surface,
    )
