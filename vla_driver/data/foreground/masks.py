# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Foreground masks, and the folder format that the simulator and nuScenes share (nuScenes-FG style pairs).

Foreground is what nuScenes-FG of FastDriveVLA (arXiv 2507.23318) calls so: people, roads with their markings,
vehicles, traffic signs and lights, barriers.  The rest (buildings, sky, trees, poles, pavements) is background.

A folder of pairs:

    index.json     {"format": "vla_driver.foreground", "version": 1, "source": ..., "images": where the pictures
                   are (a path, relative to this folder or absolute), "classes": {"human": 1, ...}, "settings": {...}}
    frames.jsonl   one line for each moment: {"id", "scene", "cameras": {"front": {"image": path below "images",
                   "mask": path below this folder, "width", "height", "intrinsics" [3][3], "base_from_camera"
                   [4][4], "foreground": share of the pixels}, ...}}
    masks/         PNG, one channel, of the picture's size or an integer fraction of it: 0 background, else the
                   class of `Foreground`

A line is written after all its masks, so an interrupted conversion goes on after the last line.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vla_driver.observation.decode import decode_compressed, decode_labels, encode_png
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import CAMERA_NAMES, CameraModel, Image, InvalidInput

FORMAT, VERSION = 'vla_driver.foreground', 1
INDEX, FRAMES, MASKS = 'index.json', 'frames.jsonl', 'masks'

Mask = npt.NDArray[np.uint8]


class Foreground(enum.IntEnum):
    """Values of a mask."""

    BACKGROUND = 0
    HUMAN = 1
    ROAD = 2
    VEHICLE = 3
    SIGN = 4
    BARRIER = 5


#: The simulator's classes that are foreground; all others are background.
OF_SEMANTIC = {
    SemanticClass.PEDESTRIAN: Foreground.HUMAN,
    SemanticClass.ROAD: Foreground.ROAD,
    SemanticClass.LANE_MARKING: Foreground.ROAD,
    SemanticClass.CROSSWALK: Foreground.ROAD,
    SemanticClass.CAR: Foreground.VEHICLE,
    SemanticClass.TRUCK: Foreground.VEHICLE,
    SemanticClass.BICYCLE: Foreground.VEHICLE,
    SemanticClass.TRAFFIC_LIGHT: Foreground.SIGN,
    SemanticClass.TRAFFIC_SIGN: Foreground.SIGN,
    SemanticClass.BARRIER: Foreground.BARRIER,
}
_TABLE = np.zeros(256, dtype=np.uint8)
for _semantic, _foreground in OF_SEMANTIC.items():
    _TABLE[_semantic] = _foreground


def mask_of_semantic(label: npt.NDArray[np.uint8]) -> Mask:
    """Return the mask of a semantic image (values of SemanticClass), same shape."""
    return np.asarray(_TABLE[label], dtype=np.uint8)


def shares(mask: Mask, width: int, height: int) -> npt.NDArray[np.float32]:
    """Return [2, height, width]: the share of each cell that is foreground, and that is foreground other than road.

    A cell may be finer than the mask, which is then repeated.
    """
    maps = np.stack([mask > 0, (mask > 0) & (mask != Foreground.ROAD)], axis=-1).astype(np.float32)
    if maps.shape[:2] != (height, width):
        shrinks = height <= maps.shape[0] and width <= maps.shape[1]
        maps = cv2.resize(maps, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    return np.ascontiguousarray(maps.transpose(2, 0, 1))


@dataclass(frozen=True)
class View:
    """One camera at one moment; the mask may be coarser than the picture."""

    camera: CameraModel
    image: Image
    mask: Mask


@dataclass(frozen=True)
class Frame:
    """One moment: what its cameras saw.  patches [P, d]: the encoder's patch features, where they are at hand."""

    id: str
    scene: str
    views: Mapping[str, View]
    patches: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class PairRecord:
    """One picture of a line of frames.jsonl: paths and the camera's calibration."""

    image: str
    mask: str
    width: int
    height: int
    intrinsics: list[list[float]]
    base_from_camera: list[list[float]]
    foreground: float


class PairWriter:
    """Writes a folder of pairs: open, `write_mask` for each picture, `add` for each moment.

    Opening a folder that was begun with the same settings continues it: `done` holds the ids of its lines.
    """

    def __init__(self, folder: Path, *, source: str, images: str, settings: Mapping[str, Any] | None = None):
        """Raises `InvalidInput` where the folder holds something else, or pairs of other settings."""
        self.folder, self.done = folder, set[str]()
        index = {
            'format': FORMAT,
            'version': VERSION,
            'source': source,
            'images': images,
            'classes': {kind.name.lower(): int(kind) for kind in Foreground},
            'settings': dict(settings or {}),
        }
        path = folder / INDEX
        if path.exists():
            there = read_index(folder)
            changed = sorted(key for key in index if there.get(key) != index[key])
            if changed:
                raise InvalidInput(
                    f'{folder} was begun with other settings ({", ".join(changed)} differ: {there.get(changed[0])} '
                    f'there, {index[changed[0]]} here); give the same ones, or another --out'
                )
            self.done = {line['id'] for line in read_lines(folder)}
            return
        if folder.exists() and any(folder.iterdir()):
            raise InvalidInput(f'{folder} is not empty and holds no {INDEX}; choose another --out')
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, (json.dumps(index, indent=1) + '\n').encode())

    def write_mask(self, name: str, mask: Mask) -> str:
        """Write masks/NAME.png and return its path below the folder."""
        relative = f'{MASKS}/{name}.png'
        target = self.folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, encode_png(mask))
        return relative

    def add(self, frame_id: str, scene: str, cameras: Mapping[str, PairRecord]) -> None:
        """Append the line of one moment."""
        line = {'id': frame_id, 'scene': scene, 'cameras': {name: vars(record) for name, record in cameras.items()}}
        with (self.folder / FRAMES).open('a', encoding='utf-8') as stream:
            stream.write(json.dumps(line) + '\n')
        self.done.add(frame_id)


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    partial.write_bytes(data)
    partial.replace(path)


def is_pairs(folder: Path) -> bool:
    """Whether the folder says that it holds pairs."""
    return (folder / INDEX).is_file()


def read_index(folder: Path) -> dict[str, Any]:
    """Return index.json; raise `InvalidInput` where it is none of this format and version."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f'{path}: not the index of foreground pairs ({error})') from error
    if not isinstance(index, dict) or (index.get('format'), index.get('version')) != (FORMAT, VERSION):
        raise InvalidInput(f'{path}: not the index of foreground pairs, expected format {FORMAT!r} version {VERSION}')
    return index


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of frames.jsonl; a last line that was cut off by an interruption is dropped from the file."""
    path = folder / FRAMES
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b'\n') + 1]
    if len(whole) != len(data):
        _replace(path, whole)
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f'{path}: a line is no JSON ({error}); remove that line') from error


@dataclass(frozen=True)
class PairFolder:
    """A folder of pairs, opened to read: `frame(i)` reads the pictures and masks of moment i."""

    folder: Path
    images: Path = field(init=False)
    lines: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'images', self.folder / read_index(self.folder)['images'])
        object.__setattr__(self, 'lines', read_lines(self.folder))
        if not self.lines:
            raise InvalidInput(f'{self.folder} holds no pairs yet; run vla_driver convert to the end')
        unknown = sorted({name for line in self.lines for name in line['cameras']} - set(CAMERA_NAMES))
        if unknown:
            raise InvalidInput(f'{self.folder}: cameras {unknown}, expected {", ".join(CAMERA_NAMES)}')

    @property
    def scenes(self) -> list[str]:
        """The scene of each moment."""
        return [line['scene'] for line in self.lines]

    def __len__(self) -> int:
        return len(self.lines)

    def frame(self, index: int) -> Frame:
        """Return moment `index`; raise `InvalidInput` where a picture or a mask is missing or of another size."""
        line = self.lines[index]
        views = {}
        for name, entry in line['cameras'].items():
            image_path, mask_path = self.images / entry['image'], self.folder / entry['mask']
            for path, what in ((image_path, 'picture'), (mask_path, 'mask')):
                if not path.is_file():
                    raise InvalidInput(
                        f'{path}: the {what} of {name} in {line["id"]} is missing; "images" in '
                        f'{self.folder / INDEX} says where the pictures are'
                    )
            image, mask = decode_compressed(image_path.read_bytes()), decode_labels(mask_path.read_bytes())
            width, height = int(entry['width']), int(entry['height'])
            if image.shape[:2] != (height, width):
                raise InvalidInput(f'{image_path} is {image.shape[1]}x{image.shape[0]}, its line says {width}x{height}')
            if height % mask.shape[0] or width % mask.shape[1]:
                raise InvalidInput(f'{mask_path} is {mask.shape[1]}x{mask.shape[0]}, no fraction of {width}x{height}')
            camera = CameraModel(
                name, width, height, np.asarray(entry['intrinsics']), np.asarray(entry['base_from_camera'])
            )
            views[name] = View(camera, image, mask)
        return Frame(line['id'], line['scene'], views)
