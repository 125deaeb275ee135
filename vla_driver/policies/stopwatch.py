# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How long each part of a tick takes."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Stopwatch:
    """Marks the ends of the parts of one tick; on a GPU a mark waits until everything before it is done."""

    def __init__(self, device: torch.device | str = 'cpu') -> None:
        self._device = str(device)
        self._marks = [('start', time.perf_counter())]

    def mark(self, part: str) -> None:
        """Say that `part` has just ended; a part may end more than once, and the times add up."""
        if self._device.startswith('cuda'):
            import torch

            torch.cuda.synchronize(self._device)
        self._marks.append((part, time.perf_counter()))

    @property
    def timing_ms(self) -> dict[str, float]:
        """Part -> milliseconds, in the order of the marks."""
        timing: dict[str, float] = {}
        for (_, begin), (part, end) in itertools.pairwise(self._marks):
            timing[part] = timing.get(part, 0.0) + 1e3 * (end - begin)
        return timing
