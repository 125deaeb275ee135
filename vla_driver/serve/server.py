# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A driver behind a port, until somebody ends it."""

from __future__ import annotations

import contextlib
import errno
import re
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Literal, cast

from carla_driver_interface.driver import BaseDriver
from carla_driver_interface.server import bind_address, build_server

from vla_driver.types import InvalidInput

#: Sessions send from several threads: pictures of one beside a `drive` of another.
_THREADS_PER_SESSION = 4
#: How long calls that are being answered may take when it ends.
_GRACE_S = 2.0
_UNIX: Final = ('unix:', 'unix-abstract:')


def require_free(host: str, port: int) -> None:
    """Raise InvalidInput where somebody listens already: gRPC would share the port, and calls would go to either.

    host, port: as in `serve`.  What cannot be looked at is left to `serve`.
    """
    taken = False
    if host.startswith(_UNIX):
        abstract = host.startswith(_UNIX[1])
        name = '\0' + host.removeprefix(_UNIX[1]) if abstract else re.sub(r'^unix:(//)?', '', host)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.connect(name)  # a socket's file that nobody listens at may be left from before
            taken = True
    elif port:
        try:
            places = socket.getaddrinfo(host.strip('[]'), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError:
            return
        taken = any(_is_taken(family, place) for family, _, _, _, place in places)
    if taken:
        raise InvalidInput(
            f'cannot listen at {bind_address(host, port)}: somebody does already; end that one, or give another address'
        )


def _is_taken(family: int, place: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do not matter
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(place)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def serve(
    driver: BaseDriver, host: str, port: int, mode: str, sessions: int, on_open: Callable[[str], None] | None = None
) -> None:
    """Answer calls until SIGINT or SIGTERM; call it in the main thread.

    host: a name or number, or a Unix socket's address, for which the port does not count.  on_open: told the address
    once the port is open.  Raises InvalidInput where it cannot be opened.
    """
    require_free(host, port)
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
