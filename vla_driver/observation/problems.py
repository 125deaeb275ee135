# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Why is nothing published?  What is missing or refused, input by input, in words."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vla_driver.observation.sync import CameraStatus

#: Turn commands have a rhythm, whose end is a fault, when so many came with no silence between them; others are sent on
#: change only, or once.
RHYTHM: Final = 6


class Refusals:
    """How many messages of each input could not be used, and why the last one could not, until one can."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._last: dict[str, str] = {}

    def refuse(self, name: str, why: str) -> None:
        """Take note of a message of input `name` that cannot be used."""
        self._counts[name] += 1
        self._last[name] = why

    def accept(self, name: str) -> None:
        """Take note of a message that can."""
        self._last.pop(name, None)

    @property
    def counts(self) -> dict[str, int]:
        """Input -> messages that could not be used."""
        return dict(self._counts)

    @property
    def reasons(self) -> dict[str, tuple[int, str]]:
        """Input whose last message could not be used -> how many could not so far, and why that one."""
        return {name: (self._counts[name], why) for name, why in self._last.items()}


@dataclass(frozen=True)
class InputState:
    """What has come and what has not.

    no_route: why there is no route, '' where there is one; frames: what is wrong with its frame, '' if nothing is;
    clocks: what is wrong between the pictures' clock and the odometry's;
    *_arrival(s)_s: by any steady clock; refused: `Refusals.reasons`.
    """

    cameras: Mapping[str, CameraStatus]
    odometry_received: bool
    odometry_arrival_s: float | None
    no_route: str
    frames: str
    clocks: str
    command_missing: bool
    command_arrivals_s: Sequence[float]
    refused: Mapping[str, tuple[int, str]]


def name_problems(state: InputState, now_s: float | None, stale_s: float) -> tuple[str, ...]:
    """Return what is missing at `now_s`, each input by name, and why its last message was refused, if it was.

    now_s: by the clock of the arrivals; None: nothing is called late.  An input is late after `stale_s` seconds.
    """
    # What came and was refused is not called missing as well.
    found = [
        f'camera {name}: {camera.problem}'
        for name, camera in state.cameras.items()
        if camera.problem and not (camera.frames == 0 and f'camera {name}' in state.refused)
    ]
    if not state.odometry_received and 'odometry' in state.refused:
        pass
    elif not state.odometry_received:
        found.append('odometry: none received')
    elif now_s is not None and state.odometry_arrival_s is not None:
        age_s = now_s - state.odometry_arrival_s
        if age_s > stale_s:
            found.append(f'odometry: last one {age_s:.2f} s ago')
    if state.clocks:
        found.append(state.clocks)
    if state.no_route:
        found.append(state.no_route)
    elif state.frames:
        found.append(state.frames)
    if state.command_missing:
        found.append('turn command: none received')
    if now_s is not None and state.command_arrivals_s:
        age_s = now_s - state.command_arrivals_s[-1]
        if age_s > stale_s and _had_rhythm(state.command_arrivals_s, stale_s):
            found.append(f'turn command: last one {age_s:.2f} s ago, though they came regularly before')
    found += [f'{name}: last message refused ({count} so far): {why}' for name, (count, why) in state.refused.items()]
    return tuple(found)


def _had_rhythm(arrivals_s: Sequence[float], stale_s: float) -> bool:
    return len(arrivals_s) == RHYTHM and all(b - a <= stale_s for a, b in itertools.pairwise(arrivals_s))
