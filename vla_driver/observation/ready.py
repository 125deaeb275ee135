# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Matched inputs of one tick, on their way to an `Observation`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vla_driver.types import EgoState, Observation


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
