# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Whole scenes of a nuScenes folder: pictures of six cameras at 12 Hz, where the vehicle was, and the others' boxes.

Read from the JSON tables (nuScenes schema, v1.0).  Stamps are whole microseconds.  Poses are planar, in the map's
frame.  nuScenes tells poses, no speeds; they are made of the poses here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_driver.data.nuscenes.tables import CHANNELS, find_version, picture_of, read_table, rotation_matrix
from vla_driver.types import CameraRig, EgoState, FloatArray, InvalidInput

#: Odometry is given so often, from poses that come with every sensor's data (about 150 a second).
ODOMETRY_HZ: Final = 50.0
#: Speed and yaw rate are differences over so much time.
_DIFFERENCE_S: Final = 0.2
#: A gap longer than this in the poses is one.
_GAP_S: Final = 1.0


@dataclass(frozen=True)
class StampedFile:
    """A picture: when it was taken, by which camera, and its file below the nuScenes folder."""

    stamp_us: int
    camera: str
    file: str


@dataclass(frozen=True)
class Track:
    """One annotated body: times_s [N] of key frames, poses [N, 3] of its centre, size (length, width, height)."""

    number: int
    category: str
    times_s: FloatArray
    poses: FloatArray
    size_m: tuple[float, float, float]

    def at(self, time_s: float) -> FloatArray | None:
        """Return the pose [3] at a time, between key frames by interpolation; None where it is not annotated."""
        if not self.times_s[0] - 1e-6 <= time_s <= self.times_s[-1] + 1e-6:
            return None
        return np.array([np.interp(time_s, self.times_s, column) for column in self.poses.T])

    def speed_at(self, time_s: float) -> float:
        """Return the speed at a time in m/s."""
        if len(self.times_s) < 2:
            return 0.0
        k = int(np.clip(np.searchsorted(self.times_s, time_s), 1, len(self.times_s) - 1))
        moved = self.poses[k, :2] - self.poses[k - 1, :2]
        return float(np.hypot(*moved) / (self.times_s[k] - self.times_s[k - 1]))


@dataclass(frozen=True)
class Scene:
    """One scene.

    pictures: by time; poses [M, 4]: seconds, x, y, yaw (unwrapped), by time; tracks: of all bodies; location: the name
    of the map that poses and tracks are in; annotated_s: times of the first and the last key frame with boxes, outside
    of which nobody knows who was there, None where none has any (as in v1.0-test).
    """

    name: str
    rig: CameraRig
    pictures: tuple[StampedFile, ...]
    poses: FloatArray
    tracks: tuple[Track, ...]
    location: str
    annotated_s: tuple[float, float] | None

    def odometry(self) -> list[EgoState]:
        """Return the vehicle's states at `ODOMETRY_HZ`, from the first pose to the last."""
        times, columns = self.poses[:, 0], self.poses[:, 1:].T
        at = np.arange(times[0], times[-1] + 1e-9, 1.0 / ODOMETRY_HZ)
        half = 0.5 * _DIFFERENCE_S
        early, late = (np.clip(at + shift, times[0], times[-1]) for shift in (-half, half))
        (x, y, yaw), (x0, y0, yaw0), (x1, y1, yaw1) = (
            [np.interp(when, times, column) for column in columns] for when in (at, early, late)
        )
        passed = np.maximum(late - early, 1e-6)
        speed = ((x1 - x0) * np.cos(yaw) + (y1 - y0) * np.sin(yaw)) / passed
        rate = (yaw1 - yaw0) / passed
        acceleration = np.gradient(speed, at) if len(at) > 1 else np.zeros_like(speed)
        rows = zip(at, x, y, yaw, speed, rate, acceleration, strict=True)
        return [EgoState(*map(float, row)) for row in rows]


def scene_names(folder: Path, version: str | None = None) -> list[str]:
    """Return the names of the scenes, in the order of their table."""
    return [str(row['name']) for row in read_table(find_version(folder, version), 'scene', 'token', 'name')]


def read_scenes(folder: Path, names: list[str] | None = None, version: str | None = None) -> Iterator[Scene]:
    """Yield scenes by name; None: all.  The tables are read once.

    Raises InvalidInput for a scene that there is not, and for tables that do not fit.
    """
    tables = find_version(folder, version)
    scenes = {row['name']: row['token'] for row in read_table(tables, 'scene', 'token', 'name')}
    wanted = list(scenes) if names is None else names
    unknown = [name for name in wanted if name not in scenes]
    if unknown:
        raise InvalidInput(f'scene {", ".join(unknown)}: {tables} has {", ".join(list(scenes)[:20])}')
    reader = _Tables(tables)
    for name in wanted:
        yield reader.scene(name, scenes[name])


class _Tables:
    """The tables that scenes are made of, by what they are asked for."""

    def __init__(self, tables: Path) -> None:
        self._where = tables
        self._log_of = {row['token']: row['log_token'] for row in read_table(tables, 'scene', 'token', 'log_token')}
        self._location = {row['token']: str(row['location']) for row in read_table(tables, 'log', 'token', 'location')}
        self._scene_of = {
            row['token']: row['scene_token'] for row in read_table(tables, 'sample', 'token', 'scene_token')
        }
        self._time_of = {row['token']: int(row['timestamp']) for row in read_table(tables, 'sample', 'timestamp')}
        sensors = {row['token']: row['channel'] for row in read_table(tables, 'sensor', 'token', 'channel')}
        calibration = ('token', 'sensor_token', 'translation', 'rotation', 'camera_intrinsic')
        self._calibrated = {row['token']: row for row in read_table(tables, 'calibrated_sensor', *calibration)}
        self._channel = {token: sensors.get(row['sensor_token'], '') for token, row in self._calibrated.items()}
        self._poses = {
            row['token']: row for row in read_table(tables, 'ego_pose', 'token', 'timestamp', 'translation', 'rotation')
        }
        self._data: dict[str, list[dict[str, Any]]] = {}
        data = ('token', 'sample_token', 'ego_pose_token', 'calibrated_sensor_token', 'timestamp', 'filename')
        for row in read_table(tables, 'sample_data', *data):
            self._data.setdefault(self._scene_of.get(row['sample_token'], ''), []).append(row)
        instances = read_table(tables, 'instance', 'token', 'category_token')
        categories = {row['token']: row['name'] for row in read_table(tables, 'category', 'token', 'name')}
        self._category = {row['token']: categories.get(row['category_token'], '') for row in instances}
        self._boxes: dict[str, list[dict[str, Any]]] = {}
        box = ('token', 'sample_token', 'instance_token', 'translation', 'size', 'rotation')
        for row in read_table(tables, 'sample_annotation', *box):
            self._boxes.setdefault(self._scene_of.get(row['sample_token'], ''), []).append(row)

    def scene(self, name: str, token: str) -> Scene:
        rows = sorted(self._data.get(token, []), key=lambda row: int(row['timestamp']))
        pictures, cameras = [], {}
        for row in rows:
            camera = CHANNELS.get(self._channel.get(row['calibrated_sensor_token'], ''))
            if camera is not None:
                pictures.append(StampedFile(int(row['timestamp']), camera, str(row['filename'])))
                if camera not in cameras:
                    cameras[camera] = picture_of(row, self._calibrated[row['calibrated_sensor_token']], camera).camera
        if 'front' not in cameras:
            raise InvalidInput(f'scene {name}: no pictures of CAM_FRONT in {self._where / "sample_data.json"}')
        rig = CameraRig(f'nuscenes {name}', tuple(cameras[camera] for camera in CHANNELS.values() if camera in cameras))
        location = self._location.get(self._log_of[token])
        if location is None:
            raise InvalidInput(f'{self._where / "scene.json"}: scene {name} names an unknown log')
        tracks = self._tracks(token)
        times = [float(time_s) for track in tracks for time_s in track.times_s[[0, -1]]]
        annotated_s = (min(times), max(times)) if times else None
        return Scene(name, rig, tuple(pictures), self._ego_poses(name, rows), tracks, location, annotated_s)

    def _ego_poses(self, name: str, rows: list[dict[str, Any]]) -> FloatArray:
        found: dict[int, list[float]] = {}
        for row in rows:
            pose = self._poses.get(row['ego_pose_token'])
            if pose is None:
                raise InvalidInput(f'{self._where / "sample_data.json"}: row {row["token"]} names an unknown ego pose')
            found[int(pose['timestamp'])] = [*map(float, pose['translation'][:2]), _yaw(pose['rotation'])]
        if len(found) < 2:
            raise InvalidInput(f'scene {name}: {len(found)} ego poses, expected two or more')
        stamps = sorted(found)
        poses = np.array([[1e-6 * stamp, *found[stamp]] for stamp in stamps])
        if (gap_s := float(np.diff(poses[:, 0]).max())) > _GAP_S:
            raise InvalidInput(f'scene {name}: {gap_s:.1f} s between two ego poses, expected {_GAP_S:g} s at most')
        poses[:, 3] = np.unwrap(poses[:, 3])
        return poses

    def _tracks(self, token: str) -> tuple[Track, ...]:
        by_instance: dict[str, list[dict[str, Any]]] = {}
        for row in self._boxes.get(token, []):
            by_instance.setdefault(row['instance_token'], []).append(row)
        tracks = []
        for number, (instance, rows) in enumerate(sorted(by_instance.items()), start=1):
            rows = sorted(rows, key=lambda row: self._time_of[row['sample_token']])
            times = np.array([1e-6 * self._time_of[row['sample_token']] for row in rows])
            poses = np.array([[*map(float, row['translation'][:2]), _yaw(row['rotation'])] for row in rows])
            poses[:, 2] = np.unwrap(poses[:, 2])
            width, length, height = (float(value) for value in rows[0]['size'])  # nuScenes' order
            category = self._category.get(instance, '')
            tracks.append(Track(number, category, times, poses, (length, width, height)))
        return tuple(tracks)


def _yaw(rotation: Any) -> float:
    matrix = rotation_matrix(rotation)
    return math.atan2(matrix[1, 0], matrix[0, 0])


def categories_of(scene: Scene) -> Mapping[str, int]:
    """Return category -> how many bodies of the scene have it."""
    found: dict[str, int] = {}
    for track in scene.tracks:
        found[track.category] = found.get(track.category, 0) + 1
    return found
