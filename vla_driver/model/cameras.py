# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""In which order, and in which batches, the native model sees its cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES


def camera_groups(image_sizes: Mapping[str, Sequence[int]]) -> tuple[tuple[tuple[int, int], tuple[str, ...]], ...]:
    """Return cameras of equal size, encoded as one batch: (((width, height), names), ...).

    image_sizes: camera -> (width, height), in any order: JSON does not keep that of a dict.  The anchor camera comes
    first, then the usual ones in their order, then others by name.
    """
    known = (ANCHOR_CAMERA, *(name for name in CAMERA_NAMES if name != ANCHOR_CAMERA))
    names = sorted(image_sizes, key=lambda name: (known.index(name) if name in known else len(known), name))
    groups: dict[tuple[int, int], list[str]] = {}
    for name in names:
        width, height = image_sizes[name]
        groups.setdefault((int(width), int(height)), []).append(name)
    return tuple((size, tuple(names)) for size, names in groups.items())
