# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A process that gives way: all its threads, and at the lowest priority only while nobody else wants to compute."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, sys, threading
from vla_driver.policies.priority import give_way
done = threading.Event()
threading.Thread(target=done.wait).start()
niceness = give_way(int(sys.argv[1]))
threads = [int(name) for name in os.listdir('/proc/self/task')]
print(len(threads), niceness, {os.sched_getscheduler(one) for one in threads})
done.set()
"""


@pytest.mark.parametrize(('nice', 'scheduler'), [(18, os.SCHED_OTHER), (19, os.SCHED_IDLE)])
def test_at_the_lowest_priority_it_computes_only_while_nobody_else_does(nice: int, scheduler: int) -> None:
    done = subprocess.run([sys.executable, '-c', _PROGRAM, str(nice)], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=2) == ['2', str(nice), f'{{{scheduler}}}\n']
