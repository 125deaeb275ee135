# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every piece of work in a process of its own: results, errors, crashes, and nothing left behind."""

from __future__ import annotations

import math
import multiprocessing
import operator
import os
import time

import pytest

from vla_driver.sim.workers import WorkerError, run_isolated


def test_results_come_with_their_index_from_separate_processes() -> None:
    # operator and os functions are importable by a fresh interpreter, as the work must be.
    answers = dict(run_isolated(math.sqrt, [4.0, 9.0, 16.0], jobs=2))
    assert answers == {0: 2.0, 1: 3.0, 2: 4.0}
    pids = {pid for _, pid in run_isolated(operator.methodcaller('__call__'), [os.getpid, os.getpid], jobs=1)}
    assert len(pids) == 2
    assert os.getpid() not in pids


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


def test_the_environment_is_the_workers_alone() -> None:
    assert 'VLA_DRIVER_TEST' not in os.environ
    answers = list(run_isolated(os.getenv, ['VLA_DRIVER_TEST'], jobs=1, environment={'VLA_DRIVER_TEST': '7'}))
    assert answers == [(0, '7')]
    assert 'VLA_DRIVER_TEST' not in os.environ
