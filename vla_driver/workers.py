# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pieces of work in processes of their own, a fresh one for each piece unless many may share one.

Neither `multiprocessing.Pool` (waits for ever when a worker crashes) nor `ProcessPoolExecutor` with
`max_tasks_per_child` (can deadlock on Python 3.11, python/cpython issue 115634) does what a simulator
needs: a clean process for every run, and a clear error when native code takes it down.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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


def end_with_starter() -> None:
    """From now on, end this process when the one that started it is gone, killed without a chance to end it."""
    starter = multiprocessing.parent_process()
    if starter is None:
        return

    def watch() -> None:
        wait([starter.sentinel])
        os._exit(1)  # whatever it computes, nobody will ask for it

    threading.Thread(target=watch, name='starter', daemon=True).start()


def _serve(function: Callable[[Any], Any], connection: Connection) -> None:
    # Ctrl-C reaches the whole process group; the parent ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_starter()
    while True:
        try:
            item = connection.recv()
        except EOFError:  # the parent has nothing more to do
            return
        try:
            answer = ('result', function(item), '')
        except VlaDriverError as error:
            answer = ('error', str(error), '')
        except BaseException as error:  # a process boundary: whatever it is must reach the parent
            answer = ('error', f'{type(error).__name__}: {error}', traceback.format_exc())
        connection.send(answer)


def share_cores(jobs: int) -> dict[str, str]:
    """Return the environment in which `jobs` simulators in as many processes share this machine's cores.

    Drawing may use the cores that are left: pictures are the same with any number of threads, sums of floats are not.
    Where none is left, each process draws in its own thread, so that no two threads of one process take turns.
    Raises InvalidInput for fewer than one job.
    """
    if jobs < 1:
        raise InvalidInput(f'jobs is {jobs}, expected at least 1')
    spare = (os.cpu_count() or 1) // jobs
    return {'LP_NUM_THREADS': str(spare if spare > 1 else 0), 'OMP_NUM_THREADS': '1'}


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


@dataclass
class _Worker:
    """A process, how many items it has been given, and the item that it computes."""

    process: SpawnProcess
    given: int = 0
    index: int = -1


def run_isolated(
    function: Callable[[Item], Any],
    items: Sequence[Item],
    *,
    jobs: int,
    environment: Mapping[str, str] | None = None,
    per_process: int = 1,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, function(item)) as they finish, `jobs` at a time.

    function must be importable (a module's top level).  per_process: how many items a process computes, one after the
    other, before a new one takes its place; more than 1 saves the imports and whatever `function` keeps, and needs a
    function whose answer does not depend on what was computed before.  Raises WorkerError for the first item that
    fails and ends the others; closing the iterator ends them, too.
    """
    if jobs < 1:
        raise InvalidInput(f'jobs is {jobs}, expected at least 1')
    if per_process < 1:
        raise InvalidInput(f'per_process is {per_process}, expected at least 1')
    context = multiprocessing.get_context('spawn')
    waiting = deque(enumerate(items))
    busy: dict[Connection, _Worker] = {}

    def start() -> tuple[Connection, _Worker]:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        with environment_variables(environment or {}):
            process.start()
        theirs.close()  # so that the end of the process is the end of the stream
        return ours, _Worker(process)

    def give(connection: Connection, worker: _Worker) -> None:
        worker.index, item = waiting.popleft()
        worker.given += 1
        busy[connection] = worker
        with suppress(BrokenPipeError):  # it died at its start: its end of the stream says so
            connection.send(item)

    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                give(*start())
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                worker = busy.pop(ready)
                index, process = worker.index, worker.process
                try:
                    kind, value, details = ready.recv()
                except (EOFError, ConnectionResetError):
                    ready.close()
                    process.join()
                    raise WorkerError(
                        f'item {index} ({items[index]}): its process ended with code {process.exitcode} and no result '
                        '(-9: out of memory; -11 or -6: a crash in native code; try `vla_driver doctor`)'
                    ) from None
                if kind == 'result' and waiting and worker.given < per_process:
                    give(ready, worker)
                else:
                    ready.close()  # it ends
                    process.join()
                if kind == 'error':
                    raise WorkerError(f'item {index} ({items[index]}): {value}', details)
                yield index, value
    finally:
        for connection, worker in busy.items():
            worker.process.terminate()
            worker.process.join()
            connection.close()
