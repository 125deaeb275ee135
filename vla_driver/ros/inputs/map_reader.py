# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the maps that come on a topic, beside the callbacks: a large town takes seconds.

A map may be published again and again.  The same one is read once, and while one is read only the newest waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from vla_driver.geometry.opendrive import JunctionMap


class MapReader:
    """Hands each new map on, from a thread of its own; take: is given it; tell: is given why one cannot be read."""

    def __init__(self, take: Callable[[JunctionMap], None], tell: Callable[[Exception], None]) -> None:
        self._take, self._tell = take, tell
        self._newest = ''
        self._waiting: str | None = None
        self._reading = False
        self._lock = threading.Lock()

    def put(self, text: str) -> None:
        """Take a map, unless it is the one before."""
        with self._lock:
            if text == self._newest:
                return
            self._newest = self._waiting = text
            if self._reading:
                return
            self._reading = True
        threading.Thread(target=self._read, name='map', daemon=True).start()

    def _read(self) -> None:
        while True:
            with self._lock:
                text, self._waiting = self._waiting, None
                if text is None:
                    self._reading = False
                    return
            try:
                self._take(JunctionMap(text))
            except Exception as error:  # a thread's end is seen by nobody
                self._tell(error)
