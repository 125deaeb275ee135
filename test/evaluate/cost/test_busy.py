# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Busy processes are busy, and gone afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vla_driver.evaluate.cost.busy import busy_processes, processor_s, resident_mb


def test_they_compute_until_the_end_of_the_with() -> None:
    with busy_processes(2) as pids:
        assert len(pids) == 2
        deadline = time.monotonic() + 30.0
        while min(processor_s(pid) for pid in pids) < 0.1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    for pid in pids:
        assert not Path(f'/proc/{pid}').exists()
    with busy_processes(0) as none:
        assert none == []


def test_they_end_when_something_fails() -> None:
    pids: list[int] = []

    def fail() -> None:
        with busy_processes(1) as found:
            pids.extend(found)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert pids and not Path(f'/proc/{pids[0]}').exists()


def test_memory_is_that_of_the_process() -> None:
    before = resident_mb(os.getpid())
    held = bytearray(os.urandom(40_000_000))
    assert resident_mb(os.getpid()) > before + 20 and len(held)
