# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is said at every tick is logged once in a while, with how often it was said."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from vla_driver.observation.reasons import without_figures

#: So many different texts are remembered.
_MOST: Final = 100


class Repeats:
    """Lets a text through at most once in `period_s`.  Texts that differ in their numbers alone are the same.

    Safe to call from several threads in so far as a text may be let through twice.
    """

    def __init__(self, period_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s, self._clock = period_s, clock
        self._said: dict[str, tuple[float, int]] = {}  # when, and how often it was held back since

    def say(self, text: str) -> str | None:
        """Return what to log now, None for nothing."""
        key, now_s = without_figures(text), self._clock()
        when_s, held = self._said.get(key, (None, 0))
        if when_s is not None and now_s - when_s < self._period_s:
            self._said[key] = (when_s, held + 1)
            return None
        if len(self._said) >= _MOST:
            self._said.clear()
        self._said[key] = (now_s, 0)
        return f'{text} (and {held} times in the last {now_s - when_s:.0f} s)' if when_s is not None and held else text
