# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where a camera is mounted, by the tf tree.

A picture's header names the camera's optical frame (z forward, x right, y down; REP-103).  Many drivers and simulators
name the body of the camera instead (x forward, z up).  The two are told apart by where the optical axis would point: a
driving camera looks neither at the sky nor straight down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vla_driver.geometry.frames import FrameTree, frame_name
from vla_driver.geometry.rig import BODY_FROM_OPTICAL
from vla_driver.types import FloatArray, InvalidInput

#: An optical axis steeper than this, up or down, is a body's axis.
_STEEP: Final = math.sin(math.radians(60.0))
_BODY_ENDINGS: Final = ('_link', '_frame', '_body', '_base')
_OPTICAL_ENDINGS: Final = ('_optical_frame', '_optical_link', '_optical')


@dataclass(frozen=True)
class Mounting:
    """base_from_camera [4, 4] of an optical frame.

    frame: the frame it was taken from; note: what was used in place of what the picture said, '' if nothing was.
    """

    base_from_camera: FloatArray
    frame: str
    note: str = ''


def mounting(tree: FrameTree, base: str, frame: str) -> Mounting:
    """Return where the camera whose pictures are in `frame` sits in `base`.

    Raises InvalidInput where the tree does not connect the two, or the picture names no frame.
    """
    frame = frame_name(frame)
    if not frame:
        raise InvalidInput('its pictures and camera_info name no frame (header.frame_id is empty)')
    pose = tree.lookup(base, frame)
    up = float(pose[2, 2])
    if abs(up) <= _STEEP or (up < 0.0 and _is_optical(frame)):  # a camera may be meant to look down
        return Mounting(pose, frame)
    for other in _optical_frames(tree, frame):
        found = tree.lookup(base, other)
        if abs(float(found[2, 2])) <= _STEEP:
            return Mounting(
                found, other, f'frame {frame} is no optical frame (its z points {_way(up)}): {other} is taken'
            )
    pose = pose.copy()
    pose[:3, :3] = pose[:3, :3] @ BODY_FROM_OPTICAL
    return Mounting(
        pose,
        frame,
        f'frame {frame} is no optical frame (its z points {_way(up)}) and has none below: its x axis is taken for the '
        'viewing direction',
    )


def _way(up: float) -> str:
    return 'up' if up > 0.0 else 'down'


def _is_optical(frame: str) -> bool:
    return 'optical' in frame.rpartition('/')[2].lower()


def _optical_frames(tree: FrameTree, frame: str) -> Iterator[str]:
    """Yield the optical frames that may be meant: by the usual names, the only one below, the only one of colour."""
    stem = frame
    for ending in _BODY_ENDINGS:
        stem = stem.removesuffix(ending)
    named = [f'{start}{ending}' for start in dict.fromkeys((frame, stem)) for ending in _OPTICAL_ENDINGS]
    below = [other for other in tree.below(frame) if _is_optical(other)]
    yield from (other for other in named if other in tree and tree.connected(frame, other))
    colour = [other for other in below if any(word in other.lower() for word in ('color', 'rgb'))]
    for candidates in (below, colour):
        if len(candidates) == 1:
            yield candidates[0]
