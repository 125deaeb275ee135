# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A process that gives way with all its threads, and a thread in it that computes only while nobody else wants to."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, sys, threading
from vla_driver.policies.priority import give_way, give_way_here
nice = int(sys.argv[1])
done = threading.Event()
other = threading.Thread(target=done.wait)
other.start()
give_way(nice)
def state(thread):
    return os.getpriority(os.PRIO_PROCESS, thread), os.sched_getscheduler(thread)
def think():
    niceness = give_way_here(nice)
    own = state(threading.get_native_id())
    started = []
    helper = threading.Thread(target=lambda: started.append(state(threading.get_native_id())))
    helper.start()
    helper.join()
    print((niceness, own, started[0], state(other.native_id), state(threading.main_thread().native_id)))
thinking = threading.Thread(target=think)
thinking.start()
thinking.join()
done.set()
"""


@pytest.mark.parametrize(
    ('nice', 'carriers', 'scheduler'), [(7, 7, os.SCHED_OTHER), (18, 10, os.SCHED_OTHER), (19, 10, os.SCHED_IDLE)]
)
def test_who_thinks_gives_way_and_who_carries_messages_does_not_starve(
    nice: int, carriers: int, scheduler: int
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run([sys.executable, '-c', _PROGRAM, str(nice)], capture_output=True, text=True, check=True)
    niceness, thinking, helper, other, main = ast.literal_eval(done.stdout)
    assert niceness == max(nice, own)
    assert thinking == helper == (max(nice, own), scheduler)
    assert other == main == (max(carriers, own), os.sched_getscheduler(0))
