# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A process that gives way to others."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

#: The lowest priority there is.
LEAST: Final = 19


def give_way(nice: int) -> int:
    """Lower the priority of this process to a niceness (0 to 19), of all its threads; return the niceness that it has.

    At 19 it computes only while nobody else wants to (SCHED_IDLE), so that on a busy machine it may not at all.
    Linux keeps a niceness for each thread, and a new thread inherits that of the one that starts it.  A higher
    priority is not taken back: that needs rights.
    """
    tasks = Path('/proc/self/task')
    threads = [int(entry.name) for entry in tasks.iterdir()] if tasks.is_dir() else [0]
    for thread in threads:
        try:
            if os.getpriority(os.PRIO_PROCESS, thread) < nice:
                os.setpriority(os.PRIO_PROCESS, thread, nice)
            if nice >= LEAST and hasattr(os, 'SCHED_IDLE'):
                with contextlib.suppress(PermissionError):  # some containers forbid it; the niceness is there
                    os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        except ProcessLookupError:
            continue  # it ended meanwhile
    return os.getpriority(os.PRIO_PROCESS, 0)
