# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A driver behind a port, until somebody ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Literal, cast

from carla_driver_interface.driver import BaseDriver
from carla_driver_interface.server import bind_address, build_server

from vla_driver.types import InvalidInput

#: Sessions send from several threads: pictures of one beside a `drive` of another.
_THREADS_PER_SESSION = 4
#: How long calls that are being answered may take when it ends.
_GRACE_S = 2.0


def serve(
    driver: BaseDriver, host: str, port: int, mode: str, sessions: int, on_open: Callable[[str], None] | None = None
) -> None:
    """Answer calls until SIGINT or SIGTERM; call it in the main thread.

    host: a name or number, or a Unix socket's address, for which the port does not count.  on_open: told the address
    once the port is open.  Raises InvalidInput where it cannot be opened.
    """
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        kind = cast(Literal['carla', 'alpasim'], mode)
        try:
            server, bound = build_server(
                driver, port, host, max_workers=_THREADS_PER_SESSION * (sessions + 1), mode=kind
            )
        except RuntimeError as error:
            raise InvalidInput(
                f'cannot listen at {bind_address(host, port)}: {error}; is it free, and here?'
            ) from error
        server.start()
        try:
            if on_open is not None:
                on_open(bind_address(host, bound))
            stop.wait()
        finally:
            server.stop(grace=_GRACE_S).wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
