# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of who is asked in a mixture of experts: over the steps of a training run, and at one tick.

A load of 1 is an even one: every expert reads as many tokens as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from vla_driver.show.drawing import EXPERT_COLOUR, PLAN_COLOUR, STOP_COLOUR, Colour
from vla_driver.types import FloatArray, Image, InvalidInput

_BACKGROUND: Final[Colour] = (17, 22, 29)
_GRID: Final[Colour] = (70, 80, 94)
_TEXT: Final[Colour] = (222, 228, 235)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
#: Loads of this much and more have the last colour.
_FULL: Final = 2.0
_MARGIN: Final = 12
_STRIP_HEAD: Final = 19
_STRIP_ROW: Final = 15
_HEAD: Final = 26


def load_colours(load: FloatArray) -> Image:
    """Return colours [..., 3] of loads [...]: dark where nobody is asked, green at 1, red from 2 on."""
    stops = np.array([0.0, 1.0, 1.5, _FULL])
    colours = np.array([(24, 30, 40), PLAN_COLOUR, EXPERT_COLOUR, STOP_COLOUR], dtype=np.float64)
    clipped = np.clip(np.asarray(load, dtype=np.float64), 0.0, _FULL)
    return np.stack([np.interp(clipped, stops, colours[:, k]) for k in range(3)], axis=-1).astype(np.uint8)


def draw_training_loads(steps: Sequence[int], loads: Mapping[str, FloatArray], width: int = 900) -> Image:
    """Return a picture [H, width, 3]: for each layer a band, one row an expert, from the first step to the last.

    steps [S]; loads: layer -> [S, N].  The words beside a layer's name are those of the last step.
    Raises InvalidInput for no steps, no layers, and loads of another shape.
    """
    if not loads or not len(steps):
        raise InvalidInput('no loads of experts: nothing to draw')
    bands = []
    for name, load in loads.items():
        if load.ndim != 2 or len(load) != len(steps):
            raise InvalidInput(f'loads of {name}: {load.shape}, expected [{len(steps)}, experts]')
        row = max(6, 160 // load.shape[1])
        band = np.full((_HEAD + row * load.shape[1] + _MARGIN, width, 3), _BACKGROUND, np.uint8)
        heat = cv2.resize(
            load_colours(load.T), (width - 2 * _MARGIN, row * load.shape[1]), interpolation=cv2.INTER_NEAREST
        )
        band[_HEAD : _HEAD + len(heat), _MARGIN:-_MARGIN] = heat
        last = load[-1]
        words = f'{name}: {load.shape[1]} experts, steps {steps[0]} to {steps[-1]}, at last {last.min():.2f} to '
        _write(band, f'{words}{last.max():.2f} of an even load', (_MARGIN, _HEAD - 8))
        bands.append(band)
    return np.vstack(bands)


def draw_tick_loads(loads: Mapping[str, FloatArray], width: int = 420, height: int = 110) -> Image:
    """Return a picture [layers * height, width, 3] of one tick: a bar for each expert of each layer, a line at 1.

    loads: layer -> [N].  Raises InvalidInput where there are none.
    """
    if not loads:
        raise InvalidInput('no loads of experts: nothing to draw')
    bands = []
    for name, load in loads.items():
        band = np.full((height, width, 3), _BACKGROUND, np.uint8)
        top, bottom = _HEAD, height - 6
        reach = max(_FULL, float(load.max()))
        edges = np.linspace(_MARGIN, width - _MARGIN, len(load) + 1).round().astype(int)
        for left, right, value, colour in zip(edges, edges[1:], load, load_colours(load), strict=False):
            up = round(bottom - (bottom - top) * float(value) / reach)
            band[up:bottom, left + 1 : max(left + 2, right - 1)] = colour
        even = round(bottom - (bottom - top) / reach)
        band[even, _MARGIN:-_MARGIN] = _GRID
        _write(band, f'{name}: {load.min():.2f} to {load.max():.2f} of an even load', (_MARGIN, _HEAD - 8))
        bands.append(band)
    return np.vstack(bands)


def load_strip(loads: Mapping[int, FloatArray], width: int) -> Image:
    """Return a strip [H, width, 3] of one tick, to stand beside a path: a row of cells for each layer, one an expert.

    loads: language layer -> [N], each cell as bright as `load_colours` says.  The number behind a row is its largest.
    Raises InvalidInput where there are none.
    """
    if not loads:
        raise InvalidInput('no loads of experts: nothing to draw')
    strip = np.full((_STRIP_HEAD + _STRIP_ROW * len(loads) + 4, width, 3), _BACKGROUND, np.uint8)
    _write(strip, 'experts asked, by layer', (6, _STRIP_HEAD - 6), 0.38)
    left, right = 26, width - 36
    for row, (layer, load) in enumerate(sorted(loads.items())):
        top, bottom = _STRIP_HEAD + _STRIP_ROW * row, _STRIP_HEAD + _STRIP_ROW * (row + 1) - 3
        edges = np.linspace(left, right, len(load) + 1).round().astype(int)
        strip[top:bottom, left - 1 : right] = _GRID  # between the cells: idle ones are as dark as what is around
        for start, end, colour in zip(edges, edges[1:], load_colours(load), strict=False):
            strip[top:bottom, start : max(start + 1, end - 1)] = colour
        _write(strip, f'{layer}', (8, bottom - 2), 0.38)
        _write(strip, f'{load.max():.1f}', (right + 6, bottom - 2), 0.38)
    return strip


def save_png(file: Path, image: Image) -> None:
    """Write a picture [H, W, 3] as a PNG; raise InvalidInput for a name of another kind, OSError where it cannot be."""
    if file.suffix.lower() != '.png':
        raise InvalidInput(f'{file}: expected a name that ends in .png')
    done, data = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.tobytes())


def _write(image: Image, text: str, at: tuple[int, int], scale: float = 0.42) -> None:
    cv2.putText(image, text, at, _FONT, scale, _TEXT, 1, cv2.LINE_AA)
