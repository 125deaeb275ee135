# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a bag tells of its cameras: their camera_info, and by its tf tree where they are mounted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vla_driver.bag.topics import InputTopics
from vla_driver.geometry.frames import FrameTree
from vla_driver.observation.calibration import mount_by_frames
from vla_driver.types import CameraRig, InvalidInput


class Recorded(Protocol):
    """What is read of a `BagReader`."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    def frames(self) -> FrameTree:
        """The tf tree."""

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[tuple[str, int, Any]]:
        """(topic, log time, message) in log order."""


def first_messages(bag: Recorded, topics: Iterable[str]) -> dict[str, Any]:
    """Return topic -> its first message, however late it comes, of those that have one."""
    found: dict[str, Any] = {}
    for topic in dict.fromkeys(topics):
        # Each by itself, which the index finds: read together, all others would be read until the latest one begins.
        for _, _, message in bag.messages([topic]):
            found[topic] = message
            break
    return found


def first_infos(bag: Recorded, inputs: InputTopics) -> dict[str, Any]:
    """Return camera -> its first CameraInfo, of the cameras that have one."""
    first = first_messages(bag, inputs.infos.values())
    return {camera: first[topic] for camera, topic in inputs.infos.items() if topic in first}


def rig_of_frames(
    bag: Recorded, inputs: InputTopics, rectified: Collection[str]
) -> tuple[CameraRig, dict[str, tuple[str, str]]]:
    """Return the rig of a bag's CameraInfo and tf tree, and what told where cameras are mounted.

    Raises InvalidInput naming a camera that lacks either.
    """
    first = first_messages(bag, (*inputs.cameras.values(), *inputs.infos.values(), *filter(None, [inputs.odometry])))
    pictures = {camera: first.get(topic) for camera, topic in inputs.cameras.items()}
    infos = {camera: first.get(topic) for camera, topic in inputs.infos.items()}
    vehicle = getattr(first.get(inputs.odometry or ''), 'child_frame_id', '')
    try:
        _refuse_wordless(inputs, first)
        mounted = mount_by_frames(bag.frames(), pictures, infos, rectified, vehicle)
    except InvalidInput as error:
        raise InvalidInput(
            f'bag {bag.path}: its tf tree and camera_info do not tell the rig: {error}; give a rig (a YAML file, sim, '
            'nuscenes or bench2drive)'
        ) from error
    rig = CameraRig('tf', tuple(camera for camera, _, _ in mounted.values()))
    return rig, {camera: (place, note) for camera, (_, place, note) in mounted.items()}


def _refuse_wordless(inputs: InputTopics, first: Mapping[str, Any]) -> None:
    """Refuse a camera that has topics but no message: what it would have told is unknown, and not empty."""
    for camera, topic in inputs.cameras.items():
        topics = [topic, *filter(None, [inputs.infos.get(camera)])]
        if not any(name in first for name in topics):
            raise InvalidInput(f'camera {camera}: no message can be read on {" and ".join(topics)}')
        if topics[-1] not in first:
            raise InvalidInput(f'camera {camera}: no message can be read on {topics[-1]}, which tells its intrinsics')
