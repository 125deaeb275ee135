# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic away from the thread of the callbacks.

Every thread that computes with torch keeps an OpenMP team of its own for as long as it lives.  Once two teams are
more threads than the machine has cores, libgomp lets waiting threads sleep instead of spin, and each of the hundreds
of small operations of a tick pays for waking them: on two cores a tick took 102-121 ms instead of 58 ms, only because
the model had been warmed up in another thread than the one that planned.  So a model is loaded and tried in a thread
that ends, and its team with it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar('_Result')


def in_own_thread(work: Callable[[], _Result]) -> _Result:
    """Run `work` in a thread that ends with it; return its result or raise its error."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix='own') as threads:
        return threads.submit(work).result()
