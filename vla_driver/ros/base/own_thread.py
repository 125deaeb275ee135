# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic away from the thread of the callbacks, and work that can be given up.

Every thread that computes with torch keeps an OpenMP team of its own for as long as it lives.  Once two teams are
more threads than the machine has cores, libgomp lets waiting threads sleep instead of spin, and each of the hundreds
of small operations of a tick pays for waking them: on two cores a tick took 102-121 ms instead of 58 ms, only because
the model had been warmed up in another thread than the one that planned.  So a model is loaded and tried in a thread
that ends, and its team with it.

Nobody can interrupt such a thread within the libraries it calls.  Who is told to stop meanwhile stops waiting for it,
and must end the process without it (`unfinished`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from vla_driver.types import VlaDriverError

_Result = TypeVar('_Result')
#: How often somebody who waits looks whether to stop; the thread's end is noticed at once.
_LOOK_S: Final = 0.05
_given_up: Final[list[threading.Thread]] = []


class Stopped(VlaDriverError):  # noqa: N818 - says what happened
    """Work was given up because the process was told to stop."""


class OwnThread:
    """A thread that does one piece of work after another, until it is closed."""

    def __init__(self) -> None:
        self._given: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon, so that the interpreter's end does not wait for it either.
        self._thread = threading.Thread(target=self._serve, name='own', daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], _Result], stop: threading.Event | None = None) -> _Result:
        """Let the thread run `work`; return its result or raise its error.

        stop: once it is set, nobody waits for the result any longer; then raises Stopped.
        """
        results: list[_Result] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:  # raised again below, in the thread that asked
                errors.append(error)
            finally:
                done.set()

        self._given.put(run)
        try:
            while not done.wait(_LOOK_S):
                if stop is not None and stop.is_set():
                    raise Stopped('told to stop')
        except BaseException:  # Ctrl-C as well: whoever stops waiting does not wait for the thread's end either
            give_up(self._thread)
            raise
        if errors:
            raise errors[0]
        return results[0]

    def close(self, timeout_s: float | None = None) -> None:
        """Let the thread end, and wait for that unless it was given up; after `timeout_s` it is."""
        self._given.put(None)
        if self._thread not in _given_up:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                give_up(self._thread)

    def _serve(self) -> None:
        while (run := self._given.get()) is not None:
            run()


def in_own_thread(work: Callable[[], _Result], stop: threading.Event | None = None) -> _Result:
    """Run `work` in a thread that ends with it; return its result or raise its error.

    stop: once it is set, nobody waits for the result any longer; then raises Stopped.
    """
    thread = OwnThread()
    try:
        return thread.do(work, stop)
    finally:
        thread.close()


def give_up(thread: threading.Thread) -> None:
    """Take note of a thread that nobody waits for any longer."""
    _given_up.append(thread)


def unfinished() -> bool:
    """Whether a thread that was given up still runs: the interpreter must not be taken down under it."""
    return any(thread.is_alive() for thread in _given_up)
