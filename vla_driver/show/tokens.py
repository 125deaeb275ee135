# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of what a pruner kept: the cameras with dropped cells dark and grey, kept ones as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from vla_driver.show.drawing import Colour, label
from vla_driver.types import CAMERA_NAMES, Image

Cells = npt.NDArray[np.bool_]

_DROPPED: Final = 0.2
_EDGE: Final[Colour] = (255, 206, 84)
_FOREGROUND: Final[Colour] = (0, 190, 170)
_SMALL: Final[Colour] = (238, 130, 170)
_BACKGROUND: Final[Colour] = (17, 22, 29)


def _cell_map(cells: Cells, width: int, height: int) -> Cells:
    """Return cells [rows, columns] as a mask [height, width]."""
    rows = np.minimum(np.arange(height) * cells.shape[0] // height, cells.shape[0] - 1)
    columns = np.minimum(np.arange(width) * cells.shape[1] // width, cells.shape[1] - 1)
    return cells[rows[:, None], columns[None, :]]


def _outline(image: Image, mask: Cells, colour: Colour) -> None:
    """Draw the border of a mask of cells, in place."""
    edge = np.zeros_like(mask)
    edge[1:] |= mask[1:] != mask[:-1]
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    image[edge] = (0.35 * image[edge] + 0.65 * np.array(colour)).astype(np.uint8)


def draw_kept(image: Image, kept: Cells, dropped: float = _DROPPED) -> Image:
    """Return the picture [H, W, 3] with the cells that are not in kept [rows, columns] darkened and without colour.

    dropped: how bright these remain, 0 to 1.
    """
    height, width = image.shape[:2]
    mask = _cell_map(kept, width, height)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=2)
    shown = np.where(mask[..., None], image, (dropped * grey).astype(np.uint8))
    _outline(shown, mask, _EDGE)
    return shown


def draw_foreground(image: Image, foreground: Cells, small: Cells) -> Image:
    """Return the picture with foreground cells tinted green, those of small foreground pink."""
    height, width = image.shape[:2]
    shown = image.copy()
    for cells, colour in ((foreground & ~small, _FOREGROUND), (small, _SMALL)):
        mask = _cell_map(cells, width, height)
        shown[mask] = (0.6 * shown[mask] + 0.4 * np.array(colour)).astype(np.uint8)
        _outline(shown, mask, colour)
    return shown


def six_cameras(images: Mapping[str, Image], notes: Mapping[str, str], cell: tuple[int, int] = (320, 192)) -> Image:
    """Return the cameras in two rows of three with a note beside each name; a camera without a picture stays dark."""
    gap, (width, height) = 3, cell
    sheet = np.full((2 * height + gap, 3 * width + 2 * gap, 3), _BACKGROUND, np.uint8)
    for k, name in enumerate(CAMERA_NAMES):
        row, column = divmod(k, 3)
        field = sheet[row * (height + gap) :, column * (width + gap) :][:height, :width]
        if name in images:
            image = images[name]
            scale = min(width / image.shape[1], height / image.shape[0])
            size = round(image.shape[1] * scale), round(image.shape[0] * scale)
            top, left = (height - size[1]) // 2, (width - size[0]) // 2
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
            field[top : top + size[1], left : left + size[0]] = small
        label(field, f'{name.replace("_", " ")} {notes.get(name, "")}'.strip(), scale=0.38)
    return sheet


def kept_mosaic(images: Mapping[str, Image], kept: Mapping[str, Cells] | None, cell: tuple[int, int]) -> Image:
    """Return the six cameras with what is kept; kept None: everything.  Each name carries `kept/all`."""
    width = cell[0]
    large = {
        name: cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])), interpolation=cv2.INTER_LINEAR)
        for name, image in images.items()
    }
    if kept is None:
        return six_cameras(large, {}, cell)
    drawn = {name: draw_kept(image, kept[name]) if name in kept else image for name, image in large.items()}
    notes = {name: f'{int(cells.sum())}/{cells.size}' for name, cells in kept.items()}
    return six_cameras(drawn, notes, cell)
