# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which picture will be looked at?  Asked when it comes, before its set is complete.

A planner takes the newest set when it is free, and no other.  While it is at work, sets replace each other, so a
picture is looked at if its set will be the newest one at the end of the tick that runs: if the next set, one interval
of the front camera later, comes too late for that.  A tick takes as long as the last ones did, the slowest of them left
out: who decodes too early may do so in vain, and beside the planner, whose cores it takes; who decodes too late is no
worse off than without.  A tick that is overdue by x is expected to take x more, so that a planner that hangs does not
have everything decoded meanwhile.

Nothing here is certain.  Who errs decodes a picture in vain, or later than possible, and never a wrong one.
Pure: no clock of its own; not safe against calls at once.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from typing import Final

#: So many of the last intervals (their median) and ticks (all but the slowest) count.
_LAST: Final = 5
#: A camera whose interval is at least this share of the front camera's has about one picture for each of its.
_AS_SLOW: Final = 0.75


class _Rhythm:
    """When things came, lately."""

    def __init__(self) -> None:
        self._at_s: deque[float] = deque(maxlen=_LAST + 1)

    def add(self, at_s: float) -> None:
        self._at_s.append(at_s)

    @property
    def newest_s(self) -> float | None:
        return self._at_s[-1] if self._at_s else None

    @property
    def interval_s(self) -> float | None:
        """The usual time from one to the next; None while it cannot be known."""
        gaps = [b - a for a, b in itertools.pairwise(self._at_s) if b > a]
        return statistics.median(gaps) if gaps else None


class Foresight:
    """Knows the rhythm of cameras and ticks; anchor: the camera that sets are matched to."""

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._stamps: dict[str, _Rhythm] = {}
        self._anchors = _Rhythm()  # by this machine's clock, on which ticks run as well
        self._ticks_s: deque[float] = deque(maxlen=_LAST)
        self._began_s: float | None = None

    def arrived(self, camera: str, stamp_s: float, now_s: float) -> None:
        """Take note of a picture; now_s: by the clock of `tick_began`."""
        self._stamps.setdefault(camera, _Rhythm()).add(stamp_s)
        if camera == self._anchor:
            self._anchors.add(now_s)

    def jumped(self) -> None:
        """Time has jumped: the stamps before tell nothing of those to come."""
        self._stamps.clear()

    def tick_began(self, now_s: float) -> None:
        """The planner is at work from now on."""
        self._began_s = now_s

    def tick_ended(self, now_s: float) -> None:
        """The planner is free."""
        if self._began_s is not None:
            self._ticks_s.append(now_s - self._began_s)
        self._began_s = None

    def is_matched(self, camera: str, stamp_s: float) -> bool:
        """Whether a picture with this stamp is probably the nearest of its camera to one of the anchor's.

        Of a camera that is faster than the anchor most pictures are in no set.
        """
        anchors, own = self._stamps.get(self._anchor, _Rhythm()), self._stamps.get(camera, _Rhythm())
        anchor_s, every_s, own_s = anchors.newest_s, anchors.interval_s, own.interval_s
        if camera == self._anchor or anchor_s is None or every_s is None or own_s is None:
            return True
        if own_s >= _AS_SLOW * every_s:
            return True
        after_s = (stamp_s - anchor_s) % every_s
        return min(after_s, every_s - after_s) <= 0.5 * own_s

    def is_taken(self, now_s: float) -> bool:
        """Whether the set of pictures that come now will probably be the newest one when the planner is free."""
        if self._began_s is None:
            return True
        every_s = self._anchors.interval_s
        if every_s is None or not self._ticks_s:
            return False
        usual_s = sorted(self._ticks_s)[-2:][0]
        return abs(usual_s - (now_s - self._began_s)) <= every_s
