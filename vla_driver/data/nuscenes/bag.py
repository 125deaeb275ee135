# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A scene of nuScenes as a rosbag2 with the types and topics of `bag/schema.py`, which the nodes and tools here read.

Pictures go in as they are stored, at their own stamps.  What nuScenes does not have is made: speed and yaw rate of the
poses, a route and turn commands of the way that was driven.  The frame `odom` is the map's, moved to where the scene
begins, so that numbers stay small.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from vla_driver.bag.write import BagWriter
from vla_driver.data.nuscenes.boundaries import RoadMaps
from vla_driver.data.nuscenes.scenes import Scene, Track
from vla_driver.observation.guidance import TARGET_SPACING_M, RouteGuide
from vla_driver.sim.world.scene import Actor, SemanticClass
from vla_driver.types import EgoState, FloatArray, InvalidInput

#: The others are given at least so often: the figures of open loop look for them within 0.06 s.
AGENTS_HZ: Final = 10.0
#: Beyond the end of the scene the route goes straight on: to stop there is not what the driver did.
_ONWARD_M: Final = 2.0 * TARGET_SPACING_M
#: A vehicle that stands has no way; what it moves less than this between two points is noise.
_WAY_M: Final = 0.5
#: Beginning of nuScenes' category -> what it is here; others (cones, barriers, animals, debris) are left out.
_KINDS: Final = {
    'human.': SemanticClass.PEDESTRIAN,
    'vehicle.bicycle': SemanticClass.BICYCLE,
    'vehicle.motorcycle': SemanticClass.BICYCLE,
    'vehicle.truck': SemanticClass.TRUCK,
    'vehicle.bus': SemanticClass.TRUCK,
    'vehicle.trailer': SemanticClass.TRUCK,
    'vehicle.construction': SemanticClass.TRUCK,
    'vehicle.': SemanticClass.CAR,
}


@dataclass(frozen=True)
class Converted:
    """What a bag got: pictures, odometry, agents (bodies), metres driven, seconds.

    agents: None where the scene is not annotated.  boundary: lines of the road's boundary; None where the map is not
    there.
    """

    pictures: int
    odometry: int
    agents: int | None
    distance_m: float
    seconds: float
    boundary: int | None


def kind_of(category: str) -> SemanticClass | None:
    """Return what a nuScenes category is here; None for what is no road user."""
    return next((kind for begin, kind in _KINDS.items() if category.startswith(begin)), None)


def write_scene(
    folder: Path,
    scene: Scene,
    out: Path,
    on_picture: Callable[[], None] = lambda: None,
    maps: RoadMaps | None = None,
) -> Converted:
    """Write a scene as a bag to `out`, which must not exist yet.

    folder: of nuScenes, where the pictures lie.  maps: of the same folder, so that each is read once for all scenes.
    Without the scene's map the bag has no road boundary, without annotations no agents; it has none after the last key
    frame.  The bag is written beside `out`, which is there only once it is whole.  Raises InvalidInput for a picture
    that is not there or is none, and for a map that cannot be used.
    """
    for picture in scene.pictures:
        if not (folder / picture.file).is_file():
            raise InvalidInput(f'scene {scene.name}: {folder / picture.file} is missing; unpack this part of nuScenes')
    origin = scene.poses[0, 1:3].copy()
    states = [replace(state, x_m=state.x_m - origin[0], y_m=state.y_m - origin[1]) for state in scene.odometry()]
    way = _way(states)
    guide = RouteGuide()
    guide.take(way, states[0].pose)
    boundary = (maps or RoadMaps(folder)).boundary(scene.location, way + origin)
    tracks = [(track, kind) for track in scene.tracks if (kind := kind_of(track.category)) is not None]
    # By time; at one time what a picture needs goes before it.
    events: list[tuple[float, int, Callable[[], None]]] = []
    with _whole(out) as path, BagWriter(path, scene.rig) as bag:
        start_s = states[0].stamp_s
        bag.write_mountings(start_s)
        bag.write_route(start_s, guide.targets_m())
        if boundary is not None:
            bag.write_road_boundary(start_s, [line - origin for line in boundary])
        for state in states:
            events.append((state.stamp_s, 0, lambda state=state: bag.write_odometry(state)))  # type: ignore[misc]
        for stamp_s in _agent_times(scene, states):
            events.append((float(stamp_s), 1, lambda s=float(stamp_s): _write_agents(bag, s, tracks, origin)))  # type: ignore[misc]
        for picture in scene.pictures:

            def write(
                stamp_s: float = 1e-6 * picture.stamp_us, name: str = picture.camera, file: str = picture.file
            ) -> None:
                if name == 'front':
                    bag.write_turn_command(stamp_s, *guide.next_turn(_pose_at(states, stamp_s)))
                try:
                    bag.write_picture_file(name, stamp_s, (folder / file).read_bytes())
                except InvalidInput as error:
                    raise InvalidInput(f'scene {scene.name}: {folder / file}: {error}') from error
                on_picture()

            events.append((1e-6 * picture.stamp_us, 2, write))
        for _, _, event in sorted(events, key=lambda event: event[:2]):
            event()
    moved = np.hypot(*np.diff([state.pose[:2] for state in states], axis=0).T).sum()
    return Converted(
        len(scene.pictures),
        len(states),
        None if scene.annotated_s is None else len(tracks),
        float(moved),
        states[-1].stamp_s - start_s,
        None if boundary is None else len(boundary),
    )


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Yield where to write a folder that is moved to `out` at the end, and is removed where that is not reached.

    What a run that was killed left there is removed first.
    """
    part = out.with_name(f'{out.name}.part')
    if out.exists():
        raise InvalidInput(f'{out} exists already; give another path, or remove it')
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise InvalidInput(f'{part} cannot be made: {error}') from error
    try:
        # Below `part` under its own name: a bag's files are named after its folder.
        yield part / out.name
        (part / out.name).rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _agent_times(scene: Scene, states: list[EgoState]) -> FloatArray:
    """Return when the others are told: between the first and the last annotated key frame, both included."""
    if scene.annotated_s is None:
        return np.zeros(0)
    first_s, last_s = (float(np.clip(time_s, states[0].stamp_s, states[-1].stamp_s)) for time_s in scene.annotated_s)
    return np.linspace(first_s, last_s, math.ceil((last_s - first_s) * AGENTS_HZ - 1e-6) + 1)


def _way(states: list[EgoState]) -> FloatArray:
    """Return the way that was driven [N, 2], and straight on."""
    points = [states[0].pose[:2]]
    for state in states:
        if np.hypot(*(state.pose[:2] - points[-1])) >= _WAY_M:
            points.append(state.pose[:2])
    yaw = states[-1].yaw_rad
    ahead = np.arange(1.0, _ONWARD_M)[:, None] * np.array([np.cos(yaw), np.sin(yaw)])
    return np.vstack([points, points[-1] + ahead])


def _pose_at(states: list[EgoState], stamp_s: float) -> FloatArray:
    nearest = min(
        max(
            0,
            round(
                (stamp_s - states[0].stamp_s) * (len(states) - 1) / max(1e-9, states[-1].stamp_s - states[0].stamp_s)
            ),
        ),
        len(states) - 1,
    )
    return states[nearest].pose


def _write_agents(
    bag: BagWriter, stamp_s: float, tracks: list[tuple[Track, SemanticClass]], origin: FloatArray
) -> None:
    actors = []
    for track, kind in tracks:
        pose = track.at(stamp_s)
        if pose is not None:
            x_m, y_m = pose[:2] - origin
            length_m, width_m, height_m = track.size_m
            speed_mps = track.speed_at(stamp_s)
            yaw_rad = float(pose[2])
            actors.append(
                Actor(track.number, kind, float(x_m), float(y_m), yaw_rad, length_m, width_m, height_m, speed_mps)
            )
    bag.write_agents(stamp_s, actors)
