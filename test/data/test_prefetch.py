# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Batches come in order, some prepared ahead; what goes wrong in the thread is not lost."""

from __future__ import annotations

import threading

import pytest

from vla_driver.data.prefetch import prepared_ahead


def test_numbers_come_in_order_with_their_stride() -> None:
    batches = prepared_ahead(lambda number: 10 * number, first=3, stride=4)
    assert [next(batches) for _ in range(5)] == [30, 70, 110, 150, 190]
    batches.close()


def test_two_are_prepared_in_another_thread_before_they_are_asked_for() -> None:
    made: list[int] = []
    third, threads = threading.Event(), set()

    def make(number: int) -> int:
        threads.add(threading.current_thread())
        made.append(number)
        if number == 2:
            third.set()
        return number

    batches = prepared_ahead(make, first=0)
    assert next(batches) == 0
    assert third.wait(10.0)  # 0 was asked for; 1 and 2 are ahead
    batches.close()
    assert made == [0, 1, 2] and threading.current_thread() not in threads


def test_an_error_comes_with_its_batch() -> None:
    def make(number: int) -> int:
        if number == 1:
            raise ValueError('no such batch')
        return number

    batches = prepared_ahead(make, first=0)
    assert next(batches) == 0
    with pytest.raises(ValueError, match='no such batch'):
        next(batches)
