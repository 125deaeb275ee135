# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which slow half speaks to the fast one, in each arm of the comparison: plain values that go to workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vla_driver.sim.slow_half import NonsenseReasoner, Pace, SlowHalf
from vla_driver.types import Reasoner

#: Reasoners that are no checkpoint: the simulator's own knowledge, and chance.
EXPERT, NONSENSE = 'expert', 'nonsense'
#: How late the late one is.
LATE_S: Final = 5.0


@dataclass(frozen=True)
class SlowArm:
    """A slow half: `expert`, `nonsense` or a checkpoint, at a pace.  prompt: as in `load_reasoner`."""

    reasoner: str
    pace: Pace = field(default_factory=Pace)
    prompt: str | None = None
    device: str = 'auto'

    def make(self, expert: Callable[[], Reasoner], seed: int) -> SlowHalf:
        """Return the slow half for one drive; expert: makes the simulation's own; seed: of nonsense."""
        if self.reasoner == EXPERT:
            return SlowHalf(expert(), self.pace)
        if self.reasoner == NONSENSE:
            return SlowHalf(NonsenseReasoner(seed), self.pace)
        from vla_driver.policies.reasoners import load_reasoner

        if _loaded[:1] != [(self.reasoner, self.prompt, self.device)]:
            _loaded[:] = [
                (self.reasoner, self.prompt, self.device),
                load_reasoner(self.reasoner, self.prompt, self.device),
            ]
        loaded = _loaded[1]
        assert isinstance(loaded, Reasoner)
        return SlowHalf(loaded, self.pace)


#: The checkpoint of this process's last drive: what it was loaded by, and the reasoner.
_loaded: list[object] = []


def arms(slow: SlowArm, stops_s: float) -> dict[str, SlowArm | None]:
    """Return name -> slow half of every arm: alone, as it should be, dying in mid-run, late, and talking nonsense."""

    def paced(arm: SlowArm, **changes: float) -> SlowArm:
        return dataclasses.replace(arm, pace=dataclasses.replace(arm.pace, **changes))

    return {
        'fast': None,
        'fast_slow': slow,
        'stopped': paced(slow, stops_s=stops_s),
        'late': paced(slow, latency_s=LATE_S),
        'nonsense': dataclasses.replace(slow, reasoner=NONSENSE, prompt=None),
    }
