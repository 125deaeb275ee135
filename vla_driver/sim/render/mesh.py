# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Low-poly meshes: a builder that collects flat polygons, and the few solids everything is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from vla_driver.types import FloatArray


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return a x b [N, 3]; numpy's own spends most of its time on other shapes."""
    ax, ay, az = a.T
    bx, by, bz = b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _rows(value: npt.ArrayLike, count: int, width: int) -> FloatArray:
    """Return [count, width] of a row or of rows; `np.broadcast_to` takes five times as long for so few."""
    rows = np.empty((count, width))
    rows[:] = value
    return rows


@dataclass(frozen=True)
class MeshArrays:
    """positions, normals, colours [V, 3]; parts [V, P] (what P holds is the user's); indices [F, 3]."""

    positions: FloatArray
    normals: FloatArray
    colours: FloatArray
    parts: FloatArray
    indices: npt.NDArray[np.int32]


@dataclass
class MeshBuilder:
    """Collects triangles.  `parts` columns ride along with every vertex (texture place, or moving part)."""

    part_width: int
    _positions: list[FloatArray] = field(default_factory=list)
    _normals: list[FloatArray] = field(default_factory=list)
    _colours: list[FloatArray] = field(default_factory=list)
    _parts: list[FloatArray] = field(default_factory=list)
    _indices: list[npt.NDArray[np.int32]] = field(default_factory=list)
    vertex_count: int = 0

    def add(
        self,
        positions: npt.ArrayLike,
        indices: npt.ArrayLike,
        normals: npt.ArrayLike,
        colour: npt.ArrayLike,
        part: npt.ArrayLike,
    ) -> None:
        """Add vertices [V, 3] with triangles [F, 3]; normals, colour and part are broadcast over V.

        `build` turns triangles so that they wind counter-clockwise seen from where their normal points.
        """
        p = np.asarray(positions, dtype=np.float64)
        self._positions.append(p)
        self._normals.append(_rows(normals, len(p), 3))
        self._colours.append(_rows(colour, len(p), 3))
        self._parts.append(_rows(part, len(p), self.part_width))
        self._indices.append(np.asarray(indices, dtype=np.int32).reshape(-1, 3) + np.int32(self.vertex_count))
        self.vertex_count += len(p)

    def polygon(
        self, corners: npt.ArrayLike, colour: npt.ArrayLike, part: npt.ArrayLike, outward: npt.ArrayLike
    ) -> None:
        """Add a flat convex polygon [V, 3] whose normal lies on the side of the vector `outward` [3]."""
        p = np.asarray(corners, dtype=np.float64)
        # The sum over the fan: robust also with collinear corners.
        spokes = p - p[0]
        normal = _cross(spokes[1:-1], spokes[2:]).sum(axis=0)
        normal /= max(float(np.linalg.norm(normal)), 1e-12)
        if normal @ np.asarray(outward, dtype=np.float64) < 0:
            normal = -normal
        fan = [(0, k, k + 1) for k in range(1, len(p) - 1)]
        self.add(p, fan, normal, colour, part)

    def frustum(
        self,
        low: npt.ArrayLike,
        high: npt.ArrayLike,
        colour: npt.ArrayLike,
        part: npt.ArrayLike,
        top_colour: npt.ArrayLike | None = None,
        bottom: bool = False,
    ) -> None:
        """Add the solid between two polygons [N, 3] with the same number of corners (box, prism, cabin)."""
        a, b = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        centre = 0.5 * (a.mean(axis=0) + b.mean(axis=0))
        for k in range(len(a)):
            j = (k + 1) % len(a)
            side = np.stack([a[k], a[j], b[j], b[k]])
            self.polygon(side, colour, part, side.mean(axis=0) - centre)
        self.polygon(b, colour if top_colour is None else top_colour, part, b.mean(axis=0) - centre)
        if bottom:
            self.polygon(a, colour, part, a.mean(axis=0) - centre)

    def box(
        self,
        low: Sequence[float],
        high: Sequence[float],
        colour: npt.ArrayLike,
        part: npt.ArrayLike,
        bottom: bool = True,
    ) -> None:
        """Add an axis-aligned box between two corners."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        base = np.array([[x0, y0, z0], [x1, y0, z0], [x1, y1, z0], [x0, y1, z0]])
        self.frustum(base, base + [0, 0, z1 - z0], colour, part, bottom=bottom)

    def rectangle(
        self,
        axis: int,
        at: float,
        low: tuple[float, float],
        high: tuple[float, float],
        colour: npt.ArrayLike,
        part: npt.ArrayLike,
    ) -> None:
        """Add a rectangle in the plane where coordinate `axis` equals `at`, facing away from the origin's side.

        low and high are its corners in the two other coordinates, in their order (y, z for axis 0).
        """
        (a0, b0), (a1, b1) = low, high
        corners = np.insert([[a0, b0], [a1, b0], [a1, b1], [a0, b1]], axis, at, axis=1)
        outward = np.zeros(3)
        outward[axis] = np.copysign(1.0, at)
        self.polygon(corners, colour, part, outward)

    def build(self) -> MeshArrays:
        """Return the arrays (empty ones when nothing was added)."""
        if not self._positions:
            none = np.zeros((0, 3))
            return MeshArrays(none, none, none, np.zeros((0, self.part_width)), np.zeros((0, 3), np.int32))
        p, n = np.concatenate(self._positions), np.concatenate(self._normals)
        f = np.concatenate(self._indices)
        # All at once: a house is a dozen small additions, a town thousands of houses.
        facing = _cross(p[f[:, 1]] - p[f[:, 0]], p[f[:, 2]] - p[f[:, 0]])
        turned = np.einsum('ij,ij->i', facing, n[f].sum(axis=1)) < 0
        f = np.where(turned[:, None], f[:, ::-1], f).astype(np.int32)
        return MeshArrays(p, n, np.concatenate(self._colours), np.concatenate(self._parts), f)


def triangulate(area: BaseGeometry) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Return vertices [V, 2] and triangles [F, 3] of a polygon or a collection of them (holes kept open)."""
    polygons = [g for g in shapely.get_parts(area) if g.geom_type == 'Polygon' and g.area > 1e-4]
    if not polygons:
        return np.zeros((0, 2)), np.zeros((0, 3), np.int32)
    triangles = shapely.get_parts(shapely.constrained_delaunay_triangles(polygons))
    corners = shapely.get_coordinates(triangles).reshape(-1, 4, 2)[:, :3].reshape(-1, 2)
    vertices, inverse = np.unique(corners, axis=0, return_inverse=True)
    return vertices, inverse.reshape(-1, 3).astype(np.int32)


def unit_blob(rings: int = 2, sides: int = 5) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Return a coarse unit sphere: vertices [V, 3] (also its normals) and triangles [F, 3]."""
    points = [[0.0, 0.0, -1.0]]
    for ring in range(1, rings + 1):
        polar = np.pi * ring / (rings + 1)
        turn = 0.5 * ring
        for side in range(sides):
            a = 2 * np.pi * (side + turn) / sides
            points.append([np.sin(polar) * np.cos(a), np.sin(polar) * np.sin(a), -np.cos(polar)])
    points.append([0.0, 0.0, 1.0])
    faces: list[tuple[int, int, int]] = []
    top = len(points) - 1
    for side in range(sides):
        after = (side + 1) % sides
        faces.append((0, 1 + side, 1 + after))
        for ring in range(rings - 1):
            a, b = 1 + ring * sides, 1 + (ring + 1) * sides
            faces += [(a + side, a + after, b + side), (a + after, b + after, b + side)]
        faces.append((top, top - sides + side, top - sides + after))
    return np.array(points), np.array(faces, dtype=np.int32)
