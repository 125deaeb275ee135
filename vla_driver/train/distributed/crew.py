# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The processes of one training run, as torchrun started them: who is who, and what they agree on.

A process that works alone is a crew of one; it neither needs nor makes a process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import torch
import torch.distributed
from torch import Tensor

from vla_driver.types import InvalidInput

#: What torchrun sets in every process that it starts.
_STARTED: Final = 'TORCHELASTIC_RUN_ID'


@dataclass
class Crew:
    """rank: the number of this process among `size`; place: its number among those of this machine.

    stopping: whether somebody has asked this process to stop.
    """

    rank: int = 0
    size: int = 1
    place: int = 0
    stopping: bool = field(default=False, compare=False)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and shows."""
        return self.rank == 0

    def mean(self, values: Sequence[float], device: torch.device | str = 'cpu') -> list[float]:
        """Return the mean of each value over all processes, float64, the same in all of them."""
        if self.size == 1:
            return list(values)
        # NCCL moves what is on a GPU alone.
        shared = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(shared)
        mean: list[float] = (shared / self.size).tolist()
        return mean

    def any(self, flags: Tensor) -> Tensor:
        """Return bool [N]: which flags are true in some process."""
        if self.size == 1:
            return flags
        shared = flags.to(torch.int32)
        torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
        return shared.bool()

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            torch.distributed.barrier()


#: A process by itself.
ALONE: Final = Crew()


def started_by_torchrun() -> bool:
    """Whether torchrun started this process, and it is one of several or could be."""
    return _STARTED in os.environ


def crew_size() -> int:
    """Return how many processes torchrun started for this run, 1 where it did not."""
    return int(os.environ['WORLD_SIZE']) if started_by_torchrun() else 1


@contextlib.contextmanager
def meeting(device: str) -> Iterator[Crew]:
    """Join the processes that torchrun started, and yield this one's place among them; leave at the end.

    Over NCCL, each process on the GPU of its place, where `device` is CUDA, else over gloo.  SIGINT and SIGTERM then
    set `stopping` instead of ending the process in the middle of what all of them do together.
    Raises `InvalidInput` where this machine has fewer GPUs than processes.
    """
    rank, size, place = (int(os.environ[name]) for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'))
    crew = Crew(rank, size, place)
    if device.startswith('cuda'):
        count = torch.cuda.device_count()
        if place >= count:
            raise InvalidInput(f'{place + 1} processes on this machine, which has {count} GPUs; start one for each')
        torch.cuda.set_device(place)
    torch.distributed.init_process_group('nccl' if device.startswith('cuda') else 'gloo')

    def stop() -> None:
        crew.stopping = True

    try:
        with told_to_stop(stop):
            yield crew
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def told_to_stop(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` at SIGINT and SIGTERM meanwhile, instead of ending the process in the middle of a step.

    Only the main thread may listen; in another one whoever started it sees to signals.
    """

    def told(_number: int, _frame: FrameType | None) -> None:
        tell()

    listens = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM) if listens}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
