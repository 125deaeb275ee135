# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is true at a recorded tick: where the car went, who else was there, where the road is, what each token shows.

Which tokens count as foreground, per cell of the model's token grid, from the simulator's semantics:

- small foreground: at least 2 % of the cell's pixels are people, vehicles, signs and lights, or barriers;
- foreground: that, or at least 25 % of its pixels are any foreground, road and lane marks included.

2 % of a cell of the nano model's front camera (32 x 32 pixels) are 20 pixels, about a traffic light at 30 m; a cell of
which less than a quarter is road shows its rim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.bag.read import BagReader
from vla_driver.data.foreground.masks import mask_of_semantic, shares
from vla_driver.evaluate.displacement import STEP_TIMES_S, Boxes
from vla_driver.evaluate.open_loop import AgentTrack
from vla_driver.sim.world.vehicle import ego_rectangle
from vla_driver.types import CameraRig, FloatArray, InputNeeds, Observation

FOREGROUND_SHARE: Final = 0.25
SMALL_SHARE: Final = 0.02
#: Rows of `TokenTruth`: what recall is measured of.
KINDS: Final = ('foreground', 'small_foreground')

Mask = npt.NDArray[np.uint8]


class RoadArea:
    """Where cars may drive, of one SUMO network."""

    def __init__(self, network: Path) -> None:
        from shapely import prepare

        from vla_driver.sim.scoring import drivable_area
        from vla_driver.sim.world.towns import load_network

        self._area = drivable_area(load_network(network))
        prepare(self._area)

    def leaves(self, poses: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return [N]: whether a corner of the ego's footprint at each rear-axle pose [N, 3] lies off the road."""
        from shapely import contains_xy

        corners = np.stack([ego_rectangle(pose) for pose in np.asarray(poses, dtype=np.float64)])
        return np.asarray(~contains_xy(self._area, corners[..., 0], corners[..., 1]).all(axis=1))


@dataclass
class TickTruth:
    """One tick whose next 3 s were driven.

    driven [STEPS, 3]; agents: boxes at each step, None where not recorded; driven_off_road [STEPS], None without a
    road area; masks: camera -> foreground mask (data/foreground/masks.py), empty without semantics.
    """

    observation: Observation
    driven: FloatArray
    agents: list[Boxes] | None
    driven_off_road: npt.NDArray[np.bool_] | None
    masks: Mapping[str, Mask]
    _tokens: dict[tuple[str, int, int], npt.NDArray[np.bool_]] = field(default_factory=dict)

    def tokens(self, camera: str, rows: int, columns: int) -> npt.NDArray[np.bool_] | None:
        """Return [2, rows, columns]: which cells are of each of KINDS; None without a mask of the camera."""
        if camera not in self.masks:
            return None
        key = camera, rows, columns
        if key not in self._tokens:
            self._tokens[key] = foreground_tokens(self.masks[camera], rows, columns)
        return self._tokens[key]


def foreground_tokens(mask: Mask, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Return [2, rows, columns] bool: foreground, and small foreground, as the module's docstring defines them."""
    everything, small = shares(mask, columns, rows)
    is_small = small >= SMALL_SHARE
    return np.stack([(everything >= FOREGROUND_SHARE) | is_small, is_small])


def read_ticks(
    path: Path,
    *,
    network: Path | None = None,
    topics: Mapping[str, str] | None = None,
    rig: CameraRig | None = None,
    rectified: bool = False,
    needs: InputNeeds | None = None,
) -> Iterator[TickTruth]:
    """Yield every tick of a bag up to the last one with 3 s of driving after it.

    topics, rig, rectified: see `BagReader`.  needs: of the policy (`ObservationAssembler`).
    network: the SUMO network of the bag's world, whose frame is the odometry's; None: nothing is off the road.
    Raises InvalidInput for a bag that cannot be used (no cameras, odometry or route).
    """
    with BagReader(path, topics=topics, rig=rig, rectified=rectified) as bag:
        bag.inputs()
        track, agents = bag.track(), AgentTrack(list(bag.agents()))
        area = RoadArea(network) if network is not None else None
        semantics = {name: dict(_by_stamp(bag.semantic(name))) for name in bag.rig().names}
        for observation in bag.observations(needs=needs):
            t0 = observation.stamp_s
            driven = track.at(t0 + STEP_TIMES_S)
            if not np.isfinite(driven).all() or track.breaks(observation.ego.stamp_s, t0 + float(STEP_TIMES_S[-1])):
                continue
            boxes = [agents.at(t0 + float(step)) for step in STEP_TIMES_S]
            known = [box for box in boxes if box is not None]
            masks = {name: at[_key(t0)] for name, at in semantics.items() if _key(t0) in at}
            yield TickTruth(
                observation,
                driven,
                known if len(known) == len(boxes) else None,
                None if area is None else area.leaves(driven),
                masks,
            )


def _key(stamp_s: float) -> int:
    return round(1e3 * stamp_s)


def _by_stamp(labels: Iterator[tuple[float, Any]]) -> Iterator[tuple[int, Mask]]:
    for stamp_s, semantic in labels:
        yield _key(stamp_s), mask_of_semantic(semantic)


def most_telling(ticks: Sequence[TickTruth]) -> int:
    """Return the index of the tick with most small foreground in its pictures, for a report; the middle without any."""
    areas = [sum(float((shares(mask, 1, 1)[1]).sum()) for mask in tick.masks.values()) for tick in ticks]
    return int(np.argmax(areas)) if any(areas) else len(ticks) // 2
