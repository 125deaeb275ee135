# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The cameras' key frames of a nuScenes folder, read from its JSON tables (nuScenes schema, v1.0).

Of the tables only scene, sample, sample_data, sensor and calibrated_sensor are needed.  nuScenes' ego frame lies on
the ground below the rear axle, x forward, as base_link does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_driver.types import CameraModel, FloatArray, InvalidInput

#: nuScenes channel -> camera name.
CHANNELS = {
    'CAM_FRONT_LEFT': 'front_left',
    'CAM_FRONT': 'front',
    'CAM_FRONT_RIGHT': 'front_right',
    'CAM_BACK_LEFT': 'back_left',
    'CAM_BACK': 'back',
    'CAM_BACK_RIGHT': 'back_right',
}


@dataclass(frozen=True)
class Picture:
    """One picture of a key frame: `file` below the nuScenes folder, and its camera in base_link."""

    file: str
    camera: CameraModel


@dataclass(frozen=True)
class Sample:
    """One key frame: its token, its scene's name, and the pictures by camera name."""

    token: str
    scene: str
    pictures: dict[str, Picture]


def find_version(folder: Path, version: str | None = None) -> Path:
    """Return the folder of tables below a nuScenes folder: `version`, or the only one there is."""
    if not folder.is_dir():
        raise InvalidInput(f'{folder} is no folder; give the nuScenes folder that holds samples/ and v1.0-...')
    if version is not None:
        if not (folder / version).is_dir():
            raise InvalidInput(f'{folder} holds no {version}/; it holds {_names(folder)}')
        return folder / version
    found = sorted(path for path in folder.glob('v1.0-*') if path.is_dir())
    if len(found) != 1:
        hint = 'give --version' if found else 'give the nuScenes folder that holds samples/ and v1.0-...'
        raise InvalidInput(f'{folder} holds {len(found)} folders v1.0-*, among {_names(folder)}: {hint}')
    return found[0]


def _names(folder: Path) -> str:
    return ', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'


def read_table(folder: Path, name: str, *columns: str) -> list[dict[str, Any]]:
    """Return the rows of a table; raise `InvalidInput` for one that is not there, is no table, or lacks a column."""
    path = folder / f'{name}.json'
    if not path.is_file():
        raise InvalidInput(f'{path}: this table is missing; unpack the metadata of nuScenes again')
    return check_rows(str(path), read_json(path, 'metadata'), 'nuScenes v1.0', *columns)


def read_json(path: Path, part: str) -> Any:
    """Return what a JSON file of a `part` of nuScenes holds; raise `InvalidInput` for one that is no JSON."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f'{path}: no JSON table ({error}); unpack the {part} of nuScenes again') from error


def check_rows(where: str, rows: Any, version: str, *columns: str) -> list[dict[str, Any]]:
    """Return the rows of the table `where`; raise `InvalidInput` for what is no table, or lacks a column.

    version: what a table with these columns belongs to, for errors.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidInput(f'{where}: expected a list of rows')
    for row in rows:
        missing = [column for column in columns if column not in row]
        if missing:
            raise InvalidInput(f'{where}: row {row.get("token")} has no {missing[0]!r}; is this {version}?')
    return rows


def rotation_matrix(quaternion: Any) -> FloatArray:
    """Return [3, 3] of a quaternion (w, x, y, z), which is normalised; raise `InvalidInput` for a zero one."""
    q = np.asarray(quaternion, dtype=np.float64)
    norm = float(np.linalg.norm(q)) if q.shape == (4,) else 0.0
    if not norm > 1e-9:
        raise InvalidInput(f'rotation {quaternion}: expected a quaternion (w, x, y, z) other than zero')
    w, x, y, z = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def read_samples(folder: Path, version: str | None = None) -> Iterator[Sample]:
    """Yield the key frames in the order of the sample table; raise `InvalidInput` for tables that do not fit."""
    tables = find_version(folder, version)
    scenes = {row['token']: row['name'] for row in read_table(tables, 'scene', 'token', 'name')}
    samples = read_table(tables, 'sample', 'token', 'scene_token')
    sensors = {row['token']: row['channel'] for row in read_table(tables, 'sensor', 'token', 'channel')}
    calibrated = {
        row['token']: row
        for row in read_table(
            tables, 'calibrated_sensor', 'token', 'sensor_token', 'translation', 'rotation', 'camera_intrinsic'
        )
    }
    columns = ('token', 'sample_token', 'calibrated_sensor_token', 'is_key_frame', 'filename')
    pictures: dict[str, dict[str, Picture]] = {}
    for row in read_table(tables, 'sample_data', *columns):
        calibration = calibrated.get(row['calibrated_sensor_token'])
        channel = None if calibration is None else sensors.get(calibration['sensor_token'])
        if channel is None or calibration is None:
            raise InvalidInput(f'{tables / "sample_data.json"}: row {row["token"]} names an unknown calibrated sensor')
        if row['is_key_frame'] and channel in CHANNELS:
            name = CHANNELS[channel]
            pictures.setdefault(row['sample_token'], {})[name] = picture_of(row, calibration, name)
    for sample in samples:
        scene = scenes.get(sample['scene_token'])
        if scene is None:
            raise InvalidInput(f'{tables / "sample.json"}: sample {sample["token"]} names an unknown scene')
        yield Sample(sample['token'], scene, pictures.get(sample['token'], {}))


def picture_of(row: dict[str, Any], calibration: dict[str, Any], name: str) -> Picture:
    """Return a picture of rows of sample_data and calibrated_sensor; raise `InvalidInput` for what is none."""
    try:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation_matrix(calibration['rotation']), calibration['translation']
        intrinsics = np.asarray(calibration['camera_intrinsic'], dtype=np.float64)
        # The tables give a picture's size (1600 x 900 in all of nuScenes).
        camera = CameraModel(name, int(row['width']), int(row['height']), intrinsics, pose)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f'calibration of {row["filename"]} cannot be used: {error}') from error
    return Picture(row['filename'], camera)
