# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which earlier ticks are remembered, and how the vehicle has moved since: numbers only, free of torch.

What is kept of a tick is opaque here: tensors, arrays, whatever the caller's engine computes with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from vla_driver.geometry.se2 import relative
from vla_driver.types import EgoState, InvalidInput

_Item = TypeVar('_Item')


@dataclass(frozen=True)
class Recalled(Generic[_Item]):
    """What is remembered for each of S ages.

    items: what was kept, None where no tick is near enough to the age; motion [S, 3] float32: pose (x m, y m, yaw rad)
    of the vehicle then, as seen from where it is now; age_s [S] float32; valid [S] bool: whether there is an item.
    An age without an item has motion and age 0.
    """

    items: tuple[_Item | None, ...]
    motion: npt.NDArray[np.float32]
    age_s: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Kept(Generic[_Item]):
    item: _Item
    ego: EgoState
    stamp_s: float


class MemoryState(Generic[_Item]):
    """What is kept of the last moments of one drive, at any tick rate.

    ages_s: how old the ticks are that are read; tolerance_s: how far off one may be; reset_gap_s: a gap this long, or
    any step back, empties the memory (`observe_clock`).  Raises `InvalidInput` for no ages, and for numbers below 0.
    """

    def __init__(self, ages_s: Sequence[float], tolerance_s: float, reset_gap_s: float) -> None:
        self._ages_s = tuple(float(age) for age in ages_s)
        if not self._ages_s or not all(number >= 0.0 for number in (*self._ages_s, tolerance_s, reset_gap_s)):
            raise InvalidInput(
                f'memory: ages {list(ages_s)} s, tolerance {tolerance_s} s, gap {reset_gap_s} s; allowed: one age or '
                'more, no number below 0'
            )
        self._tolerance_s = float(tolerance_s)
        self._reset_gap_s = float(reset_gap_s)
        self._kept: deque[_Kept[_Item]] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def reset(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def observe_clock(self, stamp_s: float) -> bool:
        """Forget everything and return True when time has jumped: back, or far ahead, of the newest tick."""
        if not self._kept:
            return False
        ahead = stamp_s - self._kept[-1].stamp_s
        if -1e-6 <= ahead <= self._reset_gap_s:
            return False
        self.reset()
        return True

    def write(self, item: _Item, ego: EgoState, stamp_s: float) -> None:
        """Keep one tick; drop those too old to be read again."""
        self._kept.append(_Kept(item, ego, stamp_s))
        horizon = max(self._ages_s) + self._tolerance_s
        while self._kept and stamp_s - self._kept[0].stamp_s > horizon:
            self._kept.popleft()

    def read(self, ego: EgoState, stamp_s: float) -> Recalled[_Item]:
        """Return, for each age, the kept tick nearest to it, as seen from `ego` now."""
        ages = np.array([stamp_s - kept.stamp_s for kept in self._kept])
        chosen: list[_Kept[_Item] | None] = []
        for wanted in self._ages_s:
            miss = np.abs(ages - wanted)
            known = bool(len(miss)) and bool(miss.min() <= self._tolerance_s)
            chosen.append(self._kept[int(np.argmin(miss))] if known else None)
        now = ego.pose
        return Recalled(
            items=tuple(None if kept is None else kept.item for kept in chosen),
            motion=np.stack([relative(now, now if kept is None else kept.ego.pose) for kept in chosen]).astype(
                np.float32
            ),
            age_s=np.array([0.0 if kept is None else stamp_s - kept.stamp_s for kept in chosen], dtype=np.float32),
            valid=np.array([kept is not None for kept in chosen], dtype=bool),
        )
