# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of whoever looks through the cameras: planner and reasoner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vla_driver.settings.knob import parameter
from vla_driver.settings.per_camera import per_camera
from vla_driver.settings.shared import NodeParameters, OdometryParameters, RigParameters
from vla_driver.types import ANCHOR_CAMERA

#: On which topics a camera's images come.
VIDEO_TRANSPORTS: Final = ('ffmpeg', 'foxglove')
TRANSPORTS: Final = ('auto', 'raw', 'compressed', *VIDEO_TRANSPORTS)
#: What happens when a camera has no frame: no set at all, a set without it, or a black picture instead.
MISSING_POLICIES: Final = ('require', 'skip', 'black')


@dataclass(frozen=True)
class InputParameters(OdometryParameters, RigParameters, NodeParameters):
    """From which cameras a node looks, and which pictures make a set."""

    use_camera_info: bool = parameter(
        True,
        'take size, intrinsics and distortion from camera_info where it is published',
        launch=True,
    )
    rectified: bool = parameter(
        False,
        "all pictures are rectified: take intrinsics from camera_info's P; topics called image_rect* are known to be",
        launch=True,
    )
    use_tf: bool = parameter(
        True,
        'take where a camera is mounted from /tf_static, where that connects its frame to base_link; else from the rig',
        launch=True,
    )
    image_transport: tuple[str, ...] = parameter(
        ('auto',), f'{", ".join(TRANSPORTS)} for all cameras, or entries camera=transport', launch=True
    )
    missing_cameras: tuple[str, ...] = parameter(
        ('require',),
        f'when a camera has no frame: {", ".join(MISSING_POLICIES)} for all, or entries camera=policy',
        launch=True,
    )
    max_skew_s: float = parameter(
        0.06, 'farthest a frame may lie from the front image in time', low=0.0, high=1.0, launch=True
    )
    camera_time_offset_s: float = parameter(
        0.0,
        "added to the pictures' stamps, where their clock differs from the odometry's by a constant",
        low=-1e10,
        high=1e10,
        launch=True,
    )
    wait_s: float = parameter(0.05, 'longest wait for inputs that are late', low=0.0, high=1.0)
    stale_s: float = parameter(0.5, 'diagnostics call an input missing after this silence', low=0.05, live=True)
    turn_command_required: bool = parameter(True, 'false: FOLLOW at 0 m stands in until one arrives', launch=True)
    turns_from_route: bool = parameter(
        False,
        'no turn command is waited for: while none arrives, it is made of the bends of the route, which must be dense',
        launch=True,
    )


def missing_policies(
    entries: Sequence[str], cameras: Sequence[str], what: str = 'parameter missing_cameras'
) -> dict[str, str]:
    """Return camera -> one of MISSING_POLICIES from the entries of `missing_cameras`; see `per_camera`."""
    return per_camera(entries, cameras, MISSING_POLICIES, what, ANCHOR_CAMERA)
