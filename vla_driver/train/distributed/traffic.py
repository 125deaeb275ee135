# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What goes between the processes of a run in one step: foretold by formulas, and counted (docs/scaling.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import torch.distributed
from torch import Tensor

#: Collectives that are counted, and which argument holds what this process puts in.
_COUNTED: Final = {
    'all_reduce': 0,
    'reduce': 0,
    'broadcast': 0,
    'all_gather': 1,
    'all_gather_into_tensor': 1,
    'reduce_scatter_tensor': 1,
    'all_to_all_single': 1,
}


@dataclass
class Counted:
    """calls, megabytes: of every collective by name, what this process puts into it (10^6 bytes)."""

    calls: dict[str, int] = field(default_factory=dict)
    megabytes: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def counted() -> Iterator[Counted]:
    """Count the collectives of torch.distributed within; begin before DeepSpeed is opened, which keeps some of them."""
    found = Counted()
    before = {name: getattr(torch.distributed, name) for name in _COUNTED}

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **given: Any) -> Any:
            names = ('tensor', 'input', 'input_tensor')
            held = args[_COUNTED[name]] if len(args) > _COUNTED[name] else next(given[n] for n in names if n in given)
            assert isinstance(held, Tensor)
            found.calls[name] = found.calls.get(name, 0) + 1
            found.megabytes[name] = found.megabytes.get(name, 0.0) + held.numel() * held.element_size() / 1e6
            return call(*args, **given)

        return count

    for name, call in before.items():
        setattr(torch.distributed, name, watched(name, call))
    try:
        yield found
    finally:
        for name, call in before.items():
            setattr(torch.distributed, name, call)


@dataclass(frozen=True)
class Scale:
    """A run, as far as its traffic goes.

    dense, experts: parameters that all processes hold, and those of all experts together; processes, expert_parallel:
    how many there are, and how many of them hold all experts together; tokens: that one process routes in a step, over
    all layers with experts; width: of a token; k: experts per token; bytes_each: of a number in an exchange of tokens.
    """

    dense: float
    experts: float = 0.0
    processes: int = 1
    expert_parallel: int = 1
    tokens: float = 0.0
    width: int = 0
    k: int = 0
    bytes_each: int = 4

    @property
    def dispatch_mb(self) -> float:
        """What a process puts into all-to-all in a step: tokens out and answers back, forward and backward.

        4 * tokens * k * width * bytes; the part (ranks - 1) / ranks of it goes to others, where load is even.
        """
        return 4e-6 * self.tokens * self.k * self.width * self.bytes_each

    @property
    def gradients_mb(self) -> float:
        """What a process puts into reducing gradients in float32: all of the dense ones, and those of its experts."""
        alike = self.processes // self.expert_parallel
        return 4e-6 * (self.dense + (self.experts / self.expert_parallel if alike > 1 else 0.0))

    @property
    def weights_mb(self) -> float:
        """What a process puts into gathering the weights that ZeRO let it move: its part."""
        alike = self.processes // self.expert_parallel
        own = self.experts / self.expert_parallel / alike if alike > 1 else 0.0
        return 4e-6 * (self.dense / self.processes + own)

    def sent_mb(self) -> dict[str, float]:
        """Return what a process sends to others in a step by the best algorithms (rings), in 10^6 bytes.

        Reduce-scatter and all-gather of M bytes among P: M (P - 1) / P each; all-to-all of M: M (P - 1) / P.
        """
        alike, others = self.processes // self.expert_parallel, _others(self.processes)
        own = 4e-6 * self.experts / self.expert_parallel * _others(alike)
        ring = 4e-6 * self.dense * others + own
        return {
            'all_to_all': self.dispatch_mb * _others(self.expert_parallel),
            'reduce_scatter': ring,
            'all_gather': ring,
        }

    def memory_mb(self, stage: int) -> dict[str, float]:
        """Return what a process holds beside activations, in float32: weights, gradients, moments and master, average.

        ZeRO (arXiv 1910.02054): the optimiser keeps its own copy of the weights and two moments of a part of the
        dense parameters; stage 2 keeps gradients of that part alone.  A process has its experts alone.
        """
        own = self.experts / self.expert_parallel
        alike = self.processes // self.expert_parallel
        weights = 4e-6 * (self.dense + own)
        return {
            'weights': weights,
            'gradients': weights if stage == 1 else 4e-6 * (self.dense / self.processes + own / alike),
            'optimizer': 12e-6 * (self.dense / self.processes + own / alike),
            'average': weights,
        }


def _others(processes: int) -> float:
    return (processes - 1) / processes
