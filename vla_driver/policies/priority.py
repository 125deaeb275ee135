# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A process that gives way to others, and within it a thread that computes only while nobody else wants to."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

#: The lowest priority there is.
LEAST: Final = 19
#: The niceness of threads that carry messages, at most: one that starves may hold a lock on what others read.
_CARRIERS: Final = 10


def give_way(nice: int) -> None:
    """Lower the priority of this process, of all its threads, to a niceness (0 to 19), to 10 at most.

    Linux keeps a niceness for each thread, and a new thread inherits that of the one that starts it.  A higher
    priority is not taken back: that needs rights.
    """
    tasks = Path('/proc/self/task')
    for thread in [int(entry.name) for entry in tasks.iterdir()] if tasks.is_dir() else [0]:
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            _lower(thread, min(nice, _CARRIERS))


def give_way_here(nice: int) -> int:
    """Lower the priority of the calling thread, and of those that it will start, to a niceness; return what it has.

    At 19 it computes only while nobody else wants to (SCHED_IDLE), so that on a busy machine it may not at all.
    """
    _lower(0, nice)
    if nice >= LEAST and hasattr(os, 'SCHED_IDLE'):
        with contextlib.suppress(PermissionError):  # some containers forbid it; the niceness is there
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return os.getpriority(os.PRIO_PROCESS, 0)


def _lower(thread: int, nice: int) -> None:
    if os.getpriority(os.PRIO_PROCESS, thread) < nice:
        os.setpriority(os.PRIO_PROCESS, thread, nice)
