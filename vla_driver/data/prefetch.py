# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Batches prepared in a thread while the ones before them are trained on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Batch = TypeVar('_Batch')


def prepared_ahead(
    make: Callable[[int], _Batch], first: int, stride: int = 1, *, ahead: int = 2
) -> Generator[_Batch, None, None]:
    """Yield make(first), make(first + stride), ... for ever, `ahead` of them prepared in a thread meanwhile.

    A thread suffices: decoding JPEGs and copying arrays release the interpreter's lock.
    """
    with ThreadPoolExecutor(1, thread_name_prefix='batches') as pool:
        pending = [pool.submit(make, first + k * stride) for k in range(ahead)]
        number = first + ahead * stride
        try:
            while True:
                batch = pending.pop(0).result()
                pending.append(pool.submit(make, number))
                number += stride
                yield batch
        finally:
            for future in pending:
                future.cancel()
