# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One fresh process per piece of work.

Neither `multiprocessing.Pool` (waits for ever when a worker crashes) nor `ProcessPoolExecutor` with
`max_tasks_per_child` (can deadlock on Python 3.11, python/cpython issue 115634) does what a simulator
needs: a clean process for every run, and a clear error when native code takes it down.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from vla_driver.types import InvalidInput, VlaDriverError

Item = TypeVar('Item')


class WorkerError(VlaDriverError):
    """A piece of work raised, or its process died; `details` holds the traceback if there is one."""

    def __init__(self, message: str, details: str = '') -> None:
        super().__init__(message)
        self.details = details


def _run(function: Callable[[Any], Any], item: Any, connection: Connection) -> None:
    # Ctrl-C reaches the whole process group; the parent ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = ('result', function(item), '')
    except VlaDriverError as error:
        answer = ('error', str(error), '')
    except BaseException as error:  # a process boundary: whatever it is must reach the parent
        answer = ('error', f'{type(error).__name__}: {error}', traceback.format_exc())
    connection.send(answer)
    connection.close()


@contextmanager
def environment_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables inside the `with`: processes started there inherit them before any of their code runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_isolated(
    function: Callable[[Item], Any],
    items: Sequence[Item],
    *,
    jobs: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, function(item)) as they finish, each computed in a new process, `jobs` at a time.

    function must be importable (a module's top level).  Raises WorkerError for the first item that
    fails and ends the others; closing the iterator ends them, too.
    """
    if jobs < 1:
        raise InvalidInput(f'jobs is {jobs}, expected at least 1')
    context = multiprocessing.get_context('spawn')
    waiting = deque(enumerate(items))
    running: dict[Connection, tuple[int, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, item = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_run, args=(function, item, theirs), daemon=True)
                with environment_variables(environment or {}):
                    process.start()
                theirs.close()  # so that the end of the process is the end of the stream
                running[ours] = (index, process)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                index, process = running.pop(ready)
                try:
                    kind, value, details = ready.recv()
                except EOFError:
                    process.join()
                    raise WorkerError(
                        f'item {index} ({items[index]}): its process ended with code {process.exitcode} and no result '
                        '(-9: out of memory; -11 or -6: a crash in native code; try `vla_driver doctor`)'
                    ) from None
                finally:
                    ready.close()
                process.join()
                if kind == 'error':
                    raise WorkerError(f'item {index} ({items[index]}): {value}', details)
                yield index, value
    finally:
        for connection, (_, process) in running.items():
            process.terminate()
            process.join()
            connection.close()
