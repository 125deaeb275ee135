# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One driven episode on disk: what the cameras saw, what the expert would do, and dense labels.

An episode is one uncompressed .npz, written whole or not at all.  Being uncompressed, its members lie
in the file as plain .npy images and can be memory-mapped: a training set larger than memory costs
only the pages that a clip touches, and worker processes share them.

Members (T ticks; C = the six cameras in the order of types.CAMERA_NAMES; O = the same without the front):
    jpeg_bytes [N] uint8, jpeg_offsets [T, C, 2] int64 (start, end; start == end: no picture)
    intrinsics [C, 3, 3] of the stored pictures, base_from_camera [C, 4, 4], present [C] bool
    label_front [T, 48, 80] uint8, depth_front [T, 48, 80] float16 m   (0: unknown)
    label_other [T, 5, 24, 40] uint8, depth_other [T, 5, 24, 40] float16 m
    stamp, pose [T, 3], speed, yaw_rate, command, command_distance, targets [T, 2, 2]
    expert_acceleration, expert_curvature, expert_speed [T, 20], expert_positions [T, 20, 2]
    red_light_distance, lead_gap, lead_speed [T] (inf: none), hazard [T] uint8 (values of Hazard)
    town, seed, version
Version 2 adds the tracks of everybody and what the expert reacted to (data/tracks.py); version 1 is read as well.
"""

from __future__ import annotations

import enum
import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from numpy.lib import format as npy_format

from vla_driver.observation.resize import resize
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import (
    ANCHOR_CAMERA,
    CAMERA_NAMES,
    PLAN_STEPS,
    CameraModel,
    CameraRig,
    Image,
    InvalidInput,
    Observation,
    Trajectory,
)

#: Members by name, as `open_episode` returns them.
Episode = Mapping[str, npt.NDArray[Any]]

#: Versions that are read; an episode without tracks is written as the first.
FORMAT_VERSIONS = (1, 2)
#: Stored picture sizes (width, height): the front camera sees farther, the others watch the flanks.
FRONT_SIZE = (320, 192)
OTHER_SIZE = (160, 96)
#: Labels are kept at a quarter of the stored picture's resolution.
LABEL_STRIDE = 4
OTHER_CAMERAS = tuple(name for name in CAMERA_NAMES if name != ANCHOR_CAMERA)
#: Beyond this depth labels say "far": float16 and the depth head need no more.
MAX_DEPTH_M = 200.0

# Small things that matter.  A cell shows one of these when at least a tenth of its pixels do: sampling
# one pixel per cell would lose most traffic lights and people.
_SMALL_CLASSES = (SemanticClass.TRAFFIC_LIGHT, SemanticClass.BICYCLE, SemanticClass.PEDESTRIAN)
_SMALL_SHARE = 0.1


class Hazard(enum.IntEnum):
    """What the expert brakes for."""

    NONE = 0
    RED_LIGHT = 1
    LEAD_VEHICLE = 2
    CONFLICT = 3


@dataclass(frozen=True)
class Tick:
    """One moment of an episode: the model's input, the expert's answer, and the simulator's labels.

    semantic: camera -> uint8 [H, W]; depth_m: camera -> float [H, W] along the optical axis, of any size
    with the camera's aspect.  Distances are inf where there is nothing.
    """

    observation: Observation
    expert: Trajectory
    semantic: Mapping[str, npt.NDArray[np.uint8]]
    depth_m: Mapping[str, npt.NDArray[np.float32]]
    red_light_distance_m: float = float('inf')
    lead_gap_m: float = float('inf')
    lead_speed_mps: float = float('inf')
    hazard: Hazard = Hazard.NONE


def stored_size(camera: str) -> tuple[int, int]:
    """Return (width, height) at which the pictures of `camera` are stored."""
    return FRONT_SIZE if camera == ANCHOR_CAMERA else OTHER_SIZE


def episode_key(path: Path) -> str:
    """Return a name for what is made of an episode: its own, and its folder's, for equal names come from several."""
    place = hashlib.sha256(os.fsencode(path.resolve().parent)).hexdigest()[:8]
    return f'{path.stem}-{place}'


def shrink_semantic(semantic: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Return [rows, columns] labels: the pixel at each cell's centre, or a small class that shows there."""
    height, width = semantic.shape
    if height % rows or width % columns:
        raise InvalidInput(f'semantic image {width}x{height} does not divide into {columns}x{rows} cells')
    cells = semantic.reshape(rows, height // rows, columns, width // columns)
    result = cells[:, height // rows // 2, :, width // columns // 2].copy()
    for kind in _SMALL_CLASSES:
        result[(cells == kind).mean(axis=(1, 3)) >= _SMALL_SHARE] = kind
    return result


def shrink_depth(depth_m: npt.NDArray[Any], rows: int, columns: int) -> npt.NDArray[np.float16]:
    """Return [rows, columns] depths at the cells' centres, clipped to MAX_DEPTH_M; 0 where unknown."""
    height, width = depth_m.shape
    if height % rows or width % columns:
        raise InvalidInput(f'depth image {width}x{height} does not divide into {columns}x{rows} cells')
    row, column = height // rows, width // columns
    picked = depth_m[row // 2 :: row, column // 2 :: column].astype(np.float32)
    picked = np.clip(np.nan_to_num(picked, nan=0.0, posinf=MAX_DEPTH_M, neginf=0.0), 0.0, MAX_DEPTH_M)
    return picked.astype(np.float16)


class EpisodeWriter:
    """Collects ticks and writes them as one episode: append(), append(), ..., save()."""

    def __init__(self, path: str | os.PathLike[str], rig: CameraRig, *, town: str, seed: int, quality: int = 90):
        """`path` ends in .npz; an existing file is replaced by save().  quality: of the stored JPEGs."""
        self.path = Path(path)
        if self.path.suffix != '.npz':
            raise InvalidInput(f'episode path {self.path} must end in .npz')
        unknown = sorted(set(rig.names) - set(CAMERA_NAMES))
        if unknown:
            raise InvalidInput(f'rig {rig.name} has cameras {unknown}; an episode holds {", ".join(CAMERA_NAMES)}')
        self._rig, self._town, self._seed, self._quality = rig, town, seed, quality
        self._jpegs: list[bytes] = []
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, tick: Tick) -> None:
        """Add one tick; raise `InvalidInput` when its stamps do not increase or its labels are missing."""
        observation, expert = tick.observation, tick.expert
        if len(expert) != PLAN_STEPS:
            raise InvalidInput(f'expert trajectory has {len(expert)} points, expected {PLAN_STEPS}')
        if self._rows and observation.stamp_s <= self._rows[-1]['stamp']:
            raise InvalidInput(f'tick at {observation.stamp_s} s does not follow {self._rows[-1]["stamp"]} s')
        for name in observation.frames:
            if name not in tick.semantic or name not in tick.depth_m:
                raise InvalidInput(f'camera {name} has a picture but no semantic or depth labels')
        ego, navigation = observation.ego, observation.navigation
        label_front, depth_front, label_other, depth_other = self._labels(tick)
        row = {
            'jpeg_offsets': self._encode(observation),
            'label_front': label_front,
            'depth_front': depth_front,
            'label_other': label_other,
            'depth_other': depth_other,
            'stamp': observation.stamp_s,
            'pose': ego.pose,
            'speed': np.float32(ego.speed_mps),
            'yaw_rate': np.float32(ego.yaw_rate_rps),
            'command': np.uint8(navigation.command),
            'command_distance': np.float32(navigation.distance_m),
            'targets': navigation.target_points_m.astype(np.float32),
            'expert_acceleration': expert.acceleration_mps2.astype(np.float32),
            'expert_curvature': expert.curvature_per_m.astype(np.float32),
            'expert_positions': expert.positions_m.astype(np.float32),
            'expert_speed': expert.speed_mps.astype(np.float32),
            'red_light_distance': np.float32(tick.red_light_distance_m),
            'lead_gap': np.float32(tick.lead_gap_m),
            'lead_speed': np.float32(tick.lead_speed_mps),
            'hazard': np.uint8(Hazard(tick.hazard)),
        }
        self._rows.append(row)

    def _encode(self, observation: Observation) -> npt.NDArray[np.int64]:
        """Append this tick's JPEGs; return their [C, 2] offsets into jpeg_bytes."""
        offsets = np.zeros((len(CAMERA_NAMES), 2), dtype=np.int64)
        position = self._rows[-1]['jpeg_offsets'].max() if self._rows else 0
        for index, name in enumerate(CAMERA_NAMES):
            frame = observation.frames.get(name)
            start = position
            if frame is not None:
                image = np.ascontiguousarray(resize(frame.image, *stored_size(name)))
                # 4:4:4 keeps the colour of a traffic light that is three pixels wide.
                data = simplejpeg.encode_jpeg(image, quality=self._quality, colorsubsampling='444')
                self._jpegs.append(data)
                position += len(data)
            offsets[index] = start, position
        return offsets

    @staticmethod
    def _labels(tick: Tick) -> tuple[Any, Any, Any, Any]:
        rows, columns = FRONT_SIZE[1] // LABEL_STRIDE, FRONT_SIZE[0] // LABEL_STRIDE
        other_rows, other_columns = OTHER_SIZE[1] // LABEL_STRIDE, OTHER_SIZE[0] // LABEL_STRIDE
        label_front = np.zeros((rows, columns), np.uint8)
        depth_front = np.zeros((rows, columns), np.float16)
        label_other = np.zeros((len(OTHER_CAMERAS), other_rows, other_columns), np.uint8)
        depth_other = np.zeros((len(OTHER_CAMERAS), other_rows, other_columns), np.float16)
        for name in tick.observation.frames:
            if name == ANCHOR_CAMERA:
                label_front = shrink_semantic(tick.semantic[name], rows, columns)
                depth_front = shrink_depth(tick.depth_m[name], rows, columns)
            else:
                index = OTHER_CAMERAS.index(name)
                label_other[index] = shrink_semantic(tick.semantic[name], other_rows, other_columns)
                depth_other[index] = shrink_depth(tick.depth_m[name], other_rows, other_columns)
        return label_front, depth_front, label_other, depth_other

    def save(self, tracks: Mapping[str, npt.NDArray[Any]] | None = None) -> Path:
        """Write the episode atomically and return its path; raise `InvalidInput` when it is empty.

        tracks: members of version 2 (data/tracks.py); without them it is of version 1.
        """
        if not self._rows:
            raise InvalidInput(f'episode {self.path}: no ticks to save; call append() first')
        arrays: dict[str, Any] = {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}
        arrays['jpeg_bytes'] = np.frombuffer(b''.join(self._jpegs), dtype=np.uint8)
        arrays['intrinsics'] = np.tile(np.eye(3), (len(CAMERA_NAMES), 1, 1))
        arrays['base_from_camera'] = np.tile(np.eye(4), (len(CAMERA_NAMES), 1, 1))
        arrays['present'] = np.array([name in self._rig for name in CAMERA_NAMES])
        for index, name in enumerate(CAMERA_NAMES):
            if name in self._rig:
                camera = self._rig[name].resized(*stored_size(name))
                arrays['intrinsics'][index] = camera.intrinsics
                arrays['base_from_camera'][index] = camera.base_from_camera
        version = FORMAT_VERSIONS[0 if tracks is None else 1]
        arrays |= {'town': np.str_(self._town), 'seed': np.int64(self._seed), 'version': np.int64(version)}
        arrays |= tracks or {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f'.{self.path.stem}.{os.getpid()}.tmp')
        try:
            with temporary.open('wb') as stream:
                np.savez(stream, **arrays)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        return self.path


def open_npz_mapped(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the members of an uncompressed .npz as read-only memory maps (numpy's own mmap_mode ignores .npz).

    Raises `InvalidInput` for a file that is no .npz, is compressed, or holds pickled objects.
    """
    members: dict[str, npt.NDArray[Any]] = {}
    try:
        # One map per file: the kernel limits their number.
        content = np.memmap(path, dtype=np.uint8, mode='r')
        with zipfile.ZipFile(path) as archive, open(path, 'rb') as stream:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise InvalidInput(f'{path}: member {info.filename} is compressed, expected np.savez output')
                # A local header is 30 bytes plus its own name and extra field, which may differ in length
                # from those in the central directory.
                stream.seek(info.header_offset + 26)
                name_length, extra_length = np.frombuffer(stream.read(4), dtype='<u2').tolist()
                stream.seek(info.header_offset + 30 + name_length + extra_length)
                version = npy_format.read_magic(stream)
                read_header = {(1, 0): npy_format.read_array_header_1_0}.get(version, npy_format.read_array_header_2_0)
                shape, fortran, dtype = read_header(stream)
                if dtype.hasobject:
                    raise InvalidInput(f'{path}: member {info.filename} holds pickled objects, which are never read')
                members[info.filename.removesuffix('.npy')] = np.ndarray(
                    shape, dtype, buffer=content, offset=stream.tell(), order='F' if fortran else 'C'
                )
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f'{path}: not a readable episode ({error}); expected a file of EpisodeWriter') from error
    return members


def open_episode(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Return an episode's members (memory-mapped); raise `InvalidInput` when it is of another format version."""
    members = open_npz_mapped(path)
    version = members.get('version')
    if version is None or int(version) not in FORMAT_VERSIONS:
        known = ' or '.join(map(str, FORMAT_VERSIONS))
        raise InvalidInput(f'{path}: episode format {version}, expected {known}; collect the data again')
    return members


def stored_cameras(episode: Episode) -> dict[str, CameraModel]:
    """Return the cameras of an episode by name, with the calibration of the stored pictures."""
    return {
        name: CameraModel(name, *stored_size(name), episode['intrinsics'][i], episode['base_from_camera'][i])
        for i, name in enumerate(CAMERA_NAMES)
        if episode['present'][i]
    }


def stored_labels(episode: Episode, tick: int, camera: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """Return the classes [rows, columns] and the depths, metres, of a camera at a tick; zeros without a picture."""
    if camera == ANCHOR_CAMERA:
        return episode['label_front'][tick], episode['depth_front'][tick]
    index = OTHER_CAMERAS.index(camera)
    return episode['label_other'][tick, index], episode['depth_other'][tick, index]


def stored_jpeg(episode: Episode, tick: int, camera: int) -> npt.NDArray[np.uint8] | None:
    """Return the JPEG of camera index `camera` (order of CAMERA_NAMES), or None when there is none."""
    start, end = episode['jpeg_offsets'][tick, camera]
    return None if start == end else episode['jpeg_bytes'][start:end]


def decode_picture(episode: Episode, tick: int, camera: int) -> Image | None:
    """Return picture [H, W, 3] RGB of camera index `camera` (order of CAMERA_NAMES), or None when there is none."""
    jpeg = stored_jpeg(episode, tick, camera)
    return None if jpeg is None else simplejpeg.decode_jpeg(jpeg.data, fastdct=False, fastupsample=False)
