# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Matched inputs of one tick, on their way to an `Observation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from vla_driver.observation.messages import stamp_nanoseconds
from vla_driver.observation.sync import SyncedSet
from vla_driver.observation.undistort import Undistorter
from vla_driver.types import ANCHOR_CAMERA, CameraRig, EgoState, Navigation, Observation


@dataclass(frozen=True)
class NotReady:
    """Why a set gave no observation; every problem is named."""

    stamp_s: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return '; '.join(self.problems)


class Ready(Protocol):
    """Matched inputs of one tick, perhaps not decoded yet (assemble.py has the one of messages)."""

    @property
    def stamp_s(self) -> float:
        """t0, the stamp of the anchor camera's image."""

    @property
    def epoch(self) -> int:
        """How often time had jumped back when the inputs were matched."""

    @property
    def ego(self) -> EgoState | None:
        """The ego at t0; None without odometry."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The cameras without a frame."""

    @property
    def arrival_s(self) -> float | None:
        """When the anchor's image was published or came, by this machine's steady clock; None where nobody knows."""

    @property
    def overtaken(self) -> bool:
        """Whether time has jumped since."""

    def observe(self) -> Observation | NotReady:
        """Decode."""


class Source(Protocol):
    """Where a `ReadySet` was matched: the assembler."""

    @property
    def epoch(self) -> int:
        """How often time has jumped back."""

    def build(self, ready: ReadySet) -> Observation | NotReady:
        """Decode a set."""


@dataclass(frozen=True)
class ReadySet:
    """The `Ready` of messages: matched inputs, not decoded yet.

    problems: what is missing in words (then `observe` gives NotReady); epoch: counts the jumps of time, so that
    whoever remembers earlier ticks forgets them when it changes; source: where the set was matched; lenses: of `rig`'s
    cameras, those whose pictures are undistorted; offset_ns: what was added to the pictures' own stamps
    (`camera_time_offset_s`).
    """

    synced: SyncedSet
    rig: CameraRig
    ego: EgoState | None
    navigation: Navigation | None
    problems: tuple[str, ...]
    epoch: int
    source: Source = field(repr=False, compare=False)
    trail: tuple[EgoState, ...] = ()
    offset_ns: int = 0
    lenses: Mapping[str, Undistorter] = field(default_factory=dict, repr=False, compare=False)

    @property
    def stamp_s(self) -> float:
        """t0 in seconds."""
        return self.synced.stamp_s

    @property
    def stamp_ns(self) -> int:
        """t0 in whole nanoseconds."""
        return stamp_nanoseconds(self.message(ANCHOR_CAMERA)) + self.offset_ns

    @property
    def missing(self) -> tuple[str, ...]:
        """The cameras without a frame."""
        return self.synced.missing

    @property
    def arrival_s(self) -> float | None:
        """When the anchor's image came, by the clock that `push_image` was told; None without one."""
        return self.synced.frames[ANCHOR_CAMERA].arrival_s

    @property
    def overtaken(self) -> bool:
        """Whether time has jumped since."""
        return self.source.epoch != self.epoch

    def observe(self) -> Observation | NotReady:
        """Decode; see `Source.build`."""
        return self.source.build(self)

    def message(self, camera: str) -> Any:
        """Return the image message of `camera` (its header's stamp is exact to the nanosecond)."""
        return self.synced.frames[camera].payload


@dataclass(frozen=True)
class Observed:
    """The `Ready` of an observation that is there already: the simulator's, or one that was kept."""

    observation: Observation
    epoch: int = 0
    arrival_s: float | None = None
    overtaken: bool = False

    @property
    def stamp_s(self) -> float:
        """See `Ready`."""
        return self.observation.stamp_s

    @property
    def ego(self) -> EgoState:
        """See `Ready`."""
        return self.observation.ego

    @property
    def missing(self) -> tuple[str, ...]:
        """See `Ready`."""
        return self.observation.missing

    def observe(self) -> Observation:
        """See `Ready`."""
        return self.observation
