# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A mailbox of one letter: the newest put wins, what it replaces is counted.

Callbacks put and never wait; the worker thread takes.  So a slow policy sees the newest set of images
and never a queue of old ones.  Who puts is handed what nobody will take any more.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class Mailbox(Generic[T]):
    """Hands the newest item from any thread to one worker."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """How many items were replaced by a newer one before anybody took them."""
        with self._condition:
            return self._replaced

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._condition:
            return self._closed

    def put(self, item: T) -> T | None:
        """Leave `item` for the worker; return the one that it replaced, which nobody had taken, if any.

        After `close` nobody takes anything: then `item` itself is returned.
        """
        with self._condition:
            if self._closed:
                return item
            replaced, self._item = self._item, item
            self._replaced += replaced is not None
            self._condition.notify()
            return replaced

    def take(self, timeout_s: float | None = None) -> T | None:
        """Wait for an item and remove it; return None on time-out or once the mailbox is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            return None if self._closed else item

    def clear(self) -> T | None:
        """Throw away what waits (it belongs to the time before a reset), and return it."""
        with self._condition:
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Wake the worker for the last time."""
        with self._condition:
            self._closed = True
            self._item = None
            self._condition.notify_all()
