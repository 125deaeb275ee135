# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A process that gives way to others."""

from __future__ import annotations

import os
from pathlib import Path


def give_way(nice: int) -> int:
    """Lower the priority of this process to a niceness (0 to 19), of all its threads; return the niceness that it has.

    Linux keeps a niceness for each thread, and a new thread inherits that of the one that starts it.  A higher
    priority is not taken back: that needs rights.
    """
    tasks = Path('/proc/self/task')
    threads = [int(entry.name) for entry in tasks.iterdir()] if tasks.is_dir() else [0]
    for thread in threads:
        try:
            if os.getpriority(os.PRIO_PROCESS, thread) < nice:
                os.setpriority(os.PRIO_PROCESS, thread, nice)
        except ProcessLookupError:
            continue  # it ended meanwhile
    return os.getpriority(os.PRIO_PROCESS, 0)
