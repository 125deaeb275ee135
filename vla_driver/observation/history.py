# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A short record of a stamped input, which knows when its next value is due."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import Generic, TypeVar

T = TypeVar('T')

_EPSILON_S = 1e-6
#: The next value is expected no earlier than this share of the usual interval after the newest one.
_EARLIEST = 0.75
#: What has been silent for longer is not waited for: it has stopped, or is sent on change only.
_PATIENCE_S = 1.0


class History(Generic[T]):
    """Values by stamp, at most `size` of them."""

    def __init__(self, size: int = 200) -> None:
        self._size = size
        self._stamps: list[float] = []
        self._values: list[T] = []

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest_s(self) -> float:
        """The latest stamp, -inf when empty."""
        return self._stamps[-1] if self._stamps else -math.inf

    def add(self, stamp_s: float, value: T) -> None:
        """Insert a value by its stamp; one with the same stamp is replaced."""
        at = bisect.bisect_left(self._stamps, stamp_s)
        if at < len(self._stamps) and self._stamps[at] == stamp_s:
            self._values[at] = value
            return
        self._stamps.insert(at, stamp_s)
        self._values.insert(at, value)
        if len(self._stamps) > self._size:
            del self._stamps[0], self._values[0]

    def forget_after(self, stamp_s: float) -> None:
        """Drop the values later than `stamp_s`."""
        keep = bisect.bisect_right(self._stamps, stamp_s)
        del self._stamps[keep:], self._values[keep:]

    def bring_back(self, limit_s: float, to_s: float) -> float:
        """Move the newest value to `to_s` if it is later than `limit_s`; return by how much, 0 where it is not.

        Others that are later than `limit_s` are dropped: the newest is said in place of them.
        """
        if self.newest_s <= limit_s:
            return 0.0
        newest_s, value = self.newest_s, self._values[-1]
        self.forget_after(limit_s)
        self.add(to_s, value)
        return newest_s - to_s

    def at(self, stamp_s: float, before_s: float = math.inf, after_s: float = math.inf) -> tuple[float, T] | None:
        """Return (stamp, value) of the newest at or before `stamp_s`, else of the first after it, within reach."""
        index = bisect.bisect_right(self._stamps, stamp_s + _EPSILON_S)
        if index > 0 and stamp_s - self._stamps[index - 1] <= before_s + _EPSILON_S:
            return self._stamps[index - 1], self._values[index - 1]
        if index < len(self._stamps) and self._stamps[index] - stamp_s <= after_s + _EPSILON_S:
            return self._stamps[index], self._values[index]
        return None

    def before(self, stamp_s: float, reach_s: float, spacing_s: float) -> tuple[T, ...]:
        """Return the values of the last `reach_s` before `stamp_s`, oldest first, at least `spacing_s` apart."""
        chosen: list[T] = []
        last_s = -math.inf
        first = bisect.bisect_left(self._stamps, stamp_s - reach_s - _EPSILON_S)
        for stamp, value in zip(self._stamps[first:], self._values[first:], strict=True):
            if stamp >= stamp_s - _EPSILON_S:
                break
            if stamp - last_s >= spacing_s - _EPSILON_S:
                chosen.append(value)
                last_s = stamp
        return tuple(chosen)

    def between(self, after_s: float, before_s: float) -> tuple[T, ...]:
        """Return the values later than `after_s` and earlier than `before_s`, oldest first."""
        first, end = bisect.bisect_right(self._stamps, after_s), bisect.bisect_left(self._stamps, before_s)
        return tuple(self._values[first:end])

    def is_due(self, stamp_s: float) -> bool:
        """Whether a newer value for `stamp_s` is still to be expected.

        Answered from stamps alone, so that a replay decides as the drive did: nothing at or after `stamp_s`
        has been seen, and by the input's own rhythm its next value would not be later.
        """
        if not self._stamps:
            return True
        if self.newest_s >= stamp_s - _EPSILON_S:
            return False
        behind_s = stamp_s - self.newest_s
        if behind_s > _PATIENCE_S:
            return False
        recent = self._stamps[-6:]
        interval_s = min((b - a for a, b in itertools.pairwise(recent)), default=0.0)
        return _EARLIEST * interval_s <= behind_s + _EPSILON_S
