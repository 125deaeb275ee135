# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Work in a thread that ends."""

import threading

import pytest

from vla_driver.ros.nodes.own_thread import in_own_thread
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
