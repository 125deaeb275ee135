# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A choice for each camera: one for all, or entries `camera=choice`."""

from __future__ import annotations

from collections.abc import Sequence

from vla_driver.settings.knob import nearest
from vla_driver.types import InvalidInput


def per_camera(
    entries: Sequence[str], cameras: Sequence[str], allowed: Sequence[str], what: str, spared: str = ''
) -> dict[str, str]:
    """Return camera -> choice from a list: one choice for all, or entries `camera=choice`.

    what: how errors call the list ('parameter missing_cameras').  spared: a camera that the choice for all does not
    touch, and that no entry may give another choice than the first.  Cameras that no entry names are left out of the
    result (their default applies).  Raises InvalidInput naming the entry and what is allowed.
    """
    chosen: dict[str, str] = {}
    for entry in entries:
        camera, equals, choice = entry.partition('=')
        if not equals:
            camera, choice = '', entry
        if choice not in allowed:
            raise InvalidInput(f'{what}: {entry!r}, allowed: {", ".join(allowed)}{nearest(choice, allowed)}')
        if camera and camera not in cameras:
            raise InvalidInput(f'{what}: {entry!r}, the cameras are: {", ".join(cameras)}{nearest(camera, cameras)}')
        if not camera and len(entries) > 1:
            raise InvalidInput(f'{what}: {list(entries)}: one choice for all, or camera=choice each')
        if camera and camera == spared and choice != allowed[0]:
            raise InvalidInput(f'{what}: {entry!r}: camera {camera} sets the tick, nothing is planned without it')
        chosen.update({camera: choice} if camera else {name: choice for name in cameras if name != spared})
    return chosen
