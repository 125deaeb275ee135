# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The ticks of an episode as observations, and what the expert reacted to at each: for whoever looks tick by tick."""

from __future__ import annotations

import os
from pathlib import Path

from vla_driver.data.episode import decode_picture, open_episode, stored_cameras
from vla_driver.data.others import other_tracks
from vla_driver.data.reasons import Reason, reason_at
from vla_driver.types import CAMERA_NAMES, CameraFrame, CameraRig, EgoState, Navigation, Observation, TurnCommand


class EpisodeTicks:
    """One episode, opened.  Raises `InvalidInput` as `open_episode` does."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._episode = open_episode(path)
        self._tracks = other_tracks(self._episode)
        self.rig = CameraRig(self.path.stem, tuple(stored_cameras(self._episode).values()))

    def __len__(self) -> int:
        return len(self._episode['stamp'])

    @property
    def has_reasons(self) -> bool:
        """Whether it recorded what the expert reacted to (version 2)."""
        return self._tracks is not None

    def observation(self, tick: int) -> Observation:
        """Return what was observed at a tick; a camera that had no picture is missing."""
        episode = self._episode
        stamp_s = float(episode['stamp'][tick])
        frames = {}
        for name in self.rig.names:
            picture = decode_picture(episode, tick, CAMERA_NAMES.index(name))
            if picture is not None:
                frames[name] = CameraFrame(name, stamp_s, picture)
        x, y, yaw = (float(value) for value in episode['pose'][tick])
        return Observation(
            stamp_s=stamp_s,
            frames=frames,
            rig=self.rig,
            ego=EgoState(stamp_s, x, y, yaw, float(episode['speed'][tick]), float(episode['yaw_rate'][tick])),
            navigation=Navigation(
                TurnCommand(int(episode['command'][tick])),
                float(episode['command_distance'][tick]),
                episode['targets'][tick],
            ),
            missing=tuple(name for name in self.rig.names if name not in frames),
        )

    def reason(self, tick: int) -> Reason | None:
        """Return what the expert reacted to at a tick, None where nobody recorded it."""
        return None if self._tracks is None else reason_at(self._episode, self._tracks, tick)

    def lead_speed_mps(self, tick: int) -> float:
        """Return the speed of the vehicle ahead, inf for none."""
        return float(self._episode['lead_speed'][tick])
