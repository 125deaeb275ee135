# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the road ends in nuScenes: outlines of the map expansion (v1.3), which is unpacked beside the data set.

They are made as MapTR's class "boundary", with which BEV-Planner counts plans that leave the road: the outlines, holes
included, of all road segments and lanes in one.  Polygons that are none in geometry (that cross themselves) are left
out, as there.  There the lines are cut to a patch about the vehicle, here they are whole near the way;
`evaluate.published` cuts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from vla_driver.data.nuscenes.tables import check_rows, read_json
from vla_driver.types import FloatArray, InvalidInput
from vla_driver.types.checks import finite

_PART: Final = 'map expansion'
#: Layer -> the columns that are read of it.
_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    'node': ('token', 'x', 'y'),
    'polygon': ('token', 'exterior_node_tokens', 'holes'),
    'road_segment': ('token', 'polygon_token'),
    'lane': ('token', 'polygon_token'),
}
#: What the road is made of.
_ROAD: Final = ('road_segment', 'lane')


class RoadMaps:
    """The maps of a nuScenes folder, each read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._areas: dict[str, Any] = {}

    def path(self, location: str) -> Path:
        """Return where the map of a location is expected."""
        return self._folder / 'maps' / 'expansion' / f'{location}.json'

    def boundary(self, location: str, way: npt.ArrayLike) -> tuple[FloatArray, ...] | None:
        """Return the lines [N, 2] where the road ends near a way [M, 2], both in the map's frame, in metres.

        See `sim.scoring.road_boundary`.  None where the map is not there; raises InvalidInput for one that cannot be
        used, naming the file and what is wrong.
        """
        path = self.path(location)
        if not path.is_file():
            return None
        from vla_driver.sim.scoring import road_boundary

        if location not in self._areas:
            self._areas[location] = _Expansion(path).road()
        # Nothing is left out but points in the middle of straight lines.
        return road_boundary(self._areas[location], way, tolerance_m=0.0)


class _Expansion:
    """The tables of one map."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = read_json(path, _PART)
        if not isinstance(found, dict):
            raise InvalidInput(f'{path}: expected an object of tables; unpack the {_PART} of nuScenes again')
        absent = [name for name in _TABLES if name not in found]
        if absent:
            raise InvalidInput(f'{path}: no table {", ".join(absent)}; unpack the {_PART} of nuScenes (v1.3) again')
        self._rows = {
            name: check_rows(f'{path}: {name}', found[name], f'the {_PART} v1.3', *columns)
            for name, columns in _TABLES.items()
        }
        self._nodes = {row['token']: row for row in self._rows['node']}

    def road(self) -> Any:
        """Return the shapely area of all road segments and lanes."""
        import shapely

        polygons = {row['token']: row for row in self._rows['polygon']}
        parts = []
        for layer in _ROAD:
            for row in self._rows[layer]:
                polygon = polygons.get(row['polygon_token'])
                if polygon is None:
                    raise InvalidInput(f'{self._path}: {layer} {row["token"]} names an unknown polygon')
                exterior, *holes = self._rings(polygon)
                parts.append(shapely.Polygon(exterior, holes))
        return shapely.union_all([part for part in parts if part.is_valid])

    def _rings(self, polygon: dict[str, Any]) -> Iterator[FloatArray]:
        """Yield the points [N, 2] around a polygon and around each of its holes."""
        what = f'polygon {polygon["token"]}'
        yield self._ring(what, polygon['exterior_node_tokens'])
        where = f'{self._path}: holes of {what}'
        for hole in check_rows(where, polygon['holes'], f'the {_PART} v1.3', 'node_tokens'):
            if hole['node_tokens']:  # the map has holes of nothing
                yield self._ring(f'hole of {what}', hole['node_tokens'])

    def _ring(self, what: str, tokens: Any) -> FloatArray:
        if not isinstance(tokens, list) or len(tokens) < 3:
            raise InvalidInput(f'{self._path}: {what} is no list of three nodes or more')
        unknown = [token for token in tokens if token not in self._nodes]
        if unknown:
            raise InvalidInput(f'{self._path}: {what} names the unknown node {unknown[0]}')
        rows = [self._nodes[token] for token in tokens]
        try:
            return finite(f'{self._path}: {what}', [(row['x'], row['y']) for row in rows], (None, 2))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f'{self._path}: {what} has nodes whose x and y are no numbers ({error})') from error
