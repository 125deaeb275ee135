# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Work in a thread that ends."""

import threading
import time

import pytest

from vla_driver.ros.base.own_thread import OwnThread, Stopped, in_own_thread, unfinished
from vla_driver.types import InvalidInput


def test_gives_the_result_and_leaves_no_thread_behind():
    before = set(threading.enumerate())
    assert in_own_thread(threading.get_ident) != threading.get_ident()
    assert set(threading.enumerate()) == before


def test_raises_what_the_work_raises():
    def fail():
        raise InvalidInput('no such checkpoint')

    with pytest.raises(InvalidInput, match='no such checkpoint'):
        in_own_thread(fail)


def test_one_thread_does_one_piece_of_work_after_another_whatever_happens_to_it():
    before = set(threading.enumerate())
    thread = OwnThread()
    first = thread.do(threading.get_ident)
    with pytest.raises(ZeroDivisionError):
        thread.do(lambda: 1 / 0)
    assert thread.do(threading.get_ident) == first != threading.get_ident()
    thread.close()
    assert set(threading.enumerate()) == before


def test_who_is_told_to_stop_does_not_wait_for_the_work():
    stop, go_on = threading.Event(), threading.Event()
    thread = OwnThread()
    stop.set()
    with pytest.raises(Stopped):
        thread.do(go_on.wait, stop)
    thread.close()  # nor for the thread
    assert unfinished()
    go_on.set()
    deadline_s = time.monotonic() + 10.0
    while unfinished() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not unfinished()
