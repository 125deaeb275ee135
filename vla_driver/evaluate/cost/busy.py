# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Other load: processes that compute all the time, on the cores of whoever starts them; and what a process used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from vla_driver.types import VlaDriverError

#: Spins in one thread and waits in the other for the end of its input, which comes when its parent ends, however.
_SPIN: Final = """
import sys, threading
def spin():
    while True:
        pass
threading.Thread(target=spin, daemon=True).start()
sys.stdout.write('.')
sys.stdout.flush()
sys.stdin.read()
"""


@contextmanager
def busy_processes(count: int) -> Iterator[list[int]]:
    """Run so many busy processes inside the `with`; yields their ids once all of them compute."""
    processes = [
        subprocess.Popen([sys.executable, '-S', '-c', _SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.read(1) != b'.':
                raise VlaDriverError(f'a busy process ended with status {process.wait()} before it was busy')
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used so far, in all its threads, in seconds."""
    # The name, in brackets, may hold spaces.
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def resident_mb(pid: int) -> float:
    """Return how much memory of a process is in RAM, in MB (10^6 bytes)."""
    pages = int(Path(f'/proc/{pid}/statm').read_text(encoding='utf-8').split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
