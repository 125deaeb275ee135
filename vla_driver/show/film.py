# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Films and animated pictures: mp4 through OpenCV, WebP and GIF through Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import cv2
import numpy as np

from vla_driver.show.drawing import Scene, beside, birds_eye, mosaic
from vla_driver.show.experts import load_strip
from vla_driver.show.tokens import Cells, draw_kept
from vla_driver.types import FloatArray, Image, InvalidInput, Observation, Plan

SUFFIXES: Final = ('.mp4', '.webp', '.gif')
#: Animated pictures are kept in memory until they are written: about 1.5 MB a frame.
_MAX_ANIMATION_FRAMES: Final = 1500
#: So bright are cells whose tokens were dropped: the road, and the plan on it, must still be seen there.
_DIMMED: Final = 0.45


def tick_picture(
    observation: Observation,
    plan: Plan,
    scene: Scene,
    cell: tuple[int, int] = (640, 384),
    *,
    kept: Mapping[str, Cells] | None = None,
    load: Mapping[int, FloatArray] | None = None,
) -> Image:
    """Return the six cameras with the plan in them and the bird's-eye view beside them.

    kept: camera -> cells [rows, columns] of the tokens that were read, the others are dimmed; None: all were.  load:
    language layer -> load of its experts [N], a strip below the bird's-eye view; None or {}: no strip, of the same size
    is the picture all the same.
    """
    images = {name: frame.image for name, frame in observation.frames.items()}
    if kept is not None:
        images = {
            name: draw_kept(image, kept[name], _DIMMED) if name in kept else image for name, image in images.items()
        }
    cameras = mosaic(images, observation.rig, plan, cell)
    height = cameras.shape[0]
    width = round(height * 0.66)
    if not load:
        return beside(cameras, birds_eye(plan, scene, (width, height)))
    strip = load_strip(load, width)
    return beside(cameras, np.vstack([birds_eye(plan, scene, (width, height - len(strip))), strip]))


class FilmWriter:
    """Writes RGB pictures of one size as a film; the suffix of the path decides on the format.

    A context manager: the file is complete after `close`.  With no picture added, no file is written.
    """

    def __init__(self, path: Path, fps: float, *, width: int = 1280, quality: int = 62) -> None:
        if path.suffix not in SUFFIXES:
            raise InvalidInput(f'{path}: cannot write a film with suffix {path.suffix!r}, use: {", ".join(SUFFIXES)}')
        if not fps > 0:
            raise InvalidInput(f'film: {fps} pictures per second, expected a positive number')
        self.path = path
        self._fps, self._width, self._quality = fps, width, quality
        self._writer: cv2.VideoWriter | None = None
        self._frames: list[Image] = []
        self.count = 0

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, picture: Image) -> None:
        """Append one picture [H, W, 3] RGB; it is scaled down to the film's width."""
        scale = min(1.0, self._width / picture.shape[1])
        # Video encoders want even sizes.
        size = tuple(2 * round(0.5 * scale * side) for side in (picture.shape[1], picture.shape[0]))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        if self.path.suffix == '.mp4':
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                code = cv2.VideoWriter.fourcc(*'mp4v')
                self._writer = cv2.VideoWriter(str(self.path), code, self._fps, size)
                if not self._writer.isOpened():
                    raise InvalidInput(f'{self.path}: OpenCV cannot write mp4 here; use .webp or .gif')
            self._writer.write(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        elif len(self._frames) < _MAX_ANIMATION_FRAMES:
            self._frames.append(small)
        else:
            raise InvalidInput(f'{self.path}: more than {_MAX_ANIMATION_FRAMES} pictures; use .mp4 for long films')
        self.count += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        if self._frames:
            from PIL import Image as PillowImage

            self.path.parent.mkdir(parents=True, exist_ok=True)
            pictures = [PillowImage.fromarray(np.ascontiguousarray(frame)) for frame in self._frames]
            options: dict[str, Any] = {'quality': self._quality, 'method': 2} if self.path.suffix == '.webp' else {}
            pictures[0].save(
                self.path,
                save_all=True,
                append_images=pictures[1:],
                duration=round(1000 / self._fps),
                loop=0,
                **options,
            )
            self._frames = []
