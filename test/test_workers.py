# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every piece of work in a process of its own: results, errors, crashes, and nothing left behind."""

from __future__ import annotations

import math
import multiprocessing
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_driver.types import InvalidInput
from vla_driver.workers import WorkerError, run_isolated, share_cores


def test_results_come_with_their_index_from_separate_processes() -> None:
    # operator and os functions are importable by a fresh interpreter, as the work must be.
    answers = dict(run_isolated(math.sqrt, [4.0, 9.0, 16.0], jobs=2))
    assert answers == {0: 2.0, 1: 3.0, 2: 4.0}
    pids = {pid for _, pid in run_isolated(operator.methodcaller('__call__'), [os.getpid, os.getpid], jobs=1)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_process_computes_as_many_items_as_it_may() -> None:
    ask = operator.methodcaller('__call__')
    answers = dict(run_isolated(ask, [os.getpid] * 5, jobs=1, per_process=2))
    pids = [answers[k] for k in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert os.getpid() not in pids
    assert not multiprocessing.active_children()
    with pytest.raises(InvalidInput, match='per_process is 0'):
        list(run_isolated(ask, [os.getpid], jobs=1, per_process=0))


@pytest.mark.parametrize(('function', 'items', 'named'), [
    (math.sqrt, [4.0, -1.0, 9.0], r'item 1 \(-1\.0\): ValueError'),
    (os._exit, [3], r'item 0 \(3\): its process ended with code 3'),
])  # fmt: skip
def test_a_shared_process_that_fails_names_the_item_it_had(function: Any, items: list[Any], named: str) -> None:
    with pytest.raises(WorkerError, match=named):
        list(run_isolated(function, items, jobs=1, per_process=9))
    assert not multiprocessing.active_children()


def test_no_two_drawing_threads_take_turns_on_one_core() -> None:
    cores = os.cpu_count() or 1
    assert share_cores(cores)['LP_NUM_THREADS'] == '0'
    assert share_cores(4 * cores)['LP_NUM_THREADS'] == '0'
    if cores > 1:
        assert share_cores(1)['LP_NUM_THREADS'] == str(cores)


def test_an_error_names_the_item_and_keeps_the_traceback() -> None:
    with pytest.raises(WorkerError, match=r'item 1 \(-1\.0\): ValueError') as caught:
        list(run_isolated(math.sqrt, [4.0, -1.0], jobs=1))
    assert 'Traceback' in caught.value.details
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_an_error_and_not_a_wait_for_ever() -> None:
    with pytest.raises(WorkerError, match='ended with code 3 and no result'):
        list(run_isolated(os._exit, [3], jobs=1))


def test_the_others_are_ended_when_one_fails() -> None:
    started = time.monotonic()
    with pytest.raises(WorkerError):
        list(run_isolated(time.sleep, [60.0, 'not a number'], jobs=2))
    assert time.monotonic() - started < 20.0
    assert not multiprocessing.active_children()


def test_what_is_computed_ends_with_who_asked_for_it() -> None:
    program = (
        'import time; from vla_driver.workers import run_isolated\n'
        "if __name__ == '__main__': list(run_isolated(time.sleep, [600.0, 600.0], jobs=2))\n"
    )

    def children(pid: int) -> list[str]:
        return Path(f'/proc/{pid}/task/{pid}/children').read_text().split()

    def wait_for(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60.0
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.1)

    with subprocess.Popen([sys.executable, '-c', program]) as process:
        try:
            wait_for(lambda: len(children(process.pid)) == 3)  # two workers, and the tracker of their resources
            working = children(process.pid)
        finally:
            process.kill()
    wait_for(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in working))


def test_the_environment_is_the_workers_alone() -> None:
    assert 'VLA_DRIVER_TEST' not in os.environ
    answers = list(run_isolated(os.getenv, ['VLA_DRIVER_TEST'], jobs=1, environment={'VLA_DRIVER_TEST': '7'}))
    assert answers == [(0, '7')]
    assert 'VLA_DRIVER_TEST' not in os.environ
