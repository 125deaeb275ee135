# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Do the pictures' clock and the odometry's agree?  Told from what has come, whenever a picture does."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Final

#: So many pictures say how far apart the clocks are.
_COMPARED: Final = 10
#: Pictures take time: exposure, transport, and what compresses them.  Beyond this they are late, or stamped by another
#: clock; which of both cannot be told from stamps.
_LATE_S: Final = 0.5
#: Odometry is taken for stopped when pictures have gone on for so long without a newer one.
_STOPPED_S: Final = 1.0
#: Nobody plans from pictures so old, whichever it is.
_OLD_S: Final = 2.0


class ClockOffset:
    """How far the anchor's stamps are ahead of the newest odometry's.

    reach_s: so far odometry may lie from the pictures it is used for.  given_s: the offset that is corrected already.
    """

    def __init__(self, reach_s: float, given_s: float = 0.0) -> None:
        self._reach_s, self._given_s = reach_s, given_s
        self._ahead_s: deque[float] = deque(maxlen=_COMPARED)
        self._odometry_s = self._picture_s = self._last_s = -math.inf

    def reset(self) -> None:
        """Forget what was compared (time has jumped)."""
        self._ahead_s.clear()
        self._odometry_s = self._picture_s = self._last_s = -math.inf

    def compare(self, picture_s: float, odometry_s: float) -> None:
        """Take note of a picture's stamp and the newest odometry's at that moment (-inf without any)."""
        # A camera that is frozen repeats its stamp, which says nothing about clocks.
        if picture_s == self._last_s:
            return
        self._last_s = picture_s
        # Odometry that has stopped says nothing about clocks.
        if math.isfinite(odometry_s) and odometry_s > self._odometry_s:
            self._odometry_s, self._picture_s = odometry_s, picture_s
            self._ahead_s.append(picture_s - odometry_s)
        elif picture_s - self._picture_s > _STOPPED_S:
            self._ahead_s.clear()

    @property
    def ahead_s(self) -> float | None:
        """The median; None before the first comparison."""
        return statistics.median(self._ahead_s) if self._ahead_s else None

    @property
    def problem(self) -> str:
        """Why no odometry fits the pictures; '' where their clocks are not the reason."""
        ahead_s = self.ahead_s
        if len(self._ahead_s) < 2:  # one comparison may be with odometry that has stopped
            return ''
        if ahead_s is not None and max(self._ahead_s) < -_OLD_S:
            return (
                f"odometry: the pictures' stamps are {-ahead_s:.2f} s behind it: do the clocks agree? If the "
                f'difference is constant, give camera_time_offset_s: {self._given_s - ahead_s:.2f}'
            )
        # One late odometry message is no offset: the nearest of the last pictures is as far ahead, too.
        if ahead_s is None or min(self._ahead_s) <= self._reach_s:
            return ''
        return (
            f"odometry: the pictures' stamps are {ahead_s:.2f} s ahead of it: do the clocks agree? If the "
            f'difference is constant, give camera_time_offset_s: {self._given_s - ahead_s:.2f}'
        )

    @property
    def note(self) -> str:
        """What is strange, but no reason for having no plan."""
        ahead_s = self.ahead_s
        if ahead_s is None or not -_OLD_S <= max(self._ahead_s) < -_LATE_S:
            return ''
        return (
            f"clocks: the pictures' stamps are {-ahead_s:.2f} s behind the odometry's: they come late, or the "
            f'clocks do not agree (if they do not, give camera_time_offset_s: {self._given_s - ahead_s:.2f})'
        )
