# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A slow half in a process of its own, as on a vehicle, which thinks at its rate while it is told to.

The process gives way to others, computes in its own threads, and waits where it is told to wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final

from vla_driver.evaluate.cost.tick_worker import read_observation
from vla_driver.policies.priority import give_way, give_way_here
from vla_driver.types import Intent, MalformedAnswer, VlaDriverError

#: Loading a checkpoint, and one thought, on a machine that is busy.
START_S: Final = 300.0
THOUGHT_S: Final = 120.0


@dataclass(frozen=True)
class SlowJob:
    """What the process does: which checkpoint thinks about which observation (a file), how often, how nicely."""

    checkpoint: str
    prompt: str | None
    device: str
    observation: str
    rate_hz: float
    nice: int
    threads: int


def _serve(job: SlowJob, connection: Connection) -> None:
    """Say what the first thought is; then obey: think on, or wait, and say how long the thoughts took."""
    try:
        give_way(job.nice)
        niceness = give_way_here(job.nice)  # this thread thinks
        from vla_driver.policies.reasoners import load_reasoner

        observation = read_observation(job.observation)
        reasoner = load_reasoner(job.checkpoint, job.prompt, job.device)
        if job.threads and (torch := sys.modules.get('torch')) is not None:
            torch.set_num_threads(job.threads)
        intent: Intent | None = None
        with contextlib.suppress(MalformedAnswer):  # it computes all the same, which is what is measured here
            intent = reasoner.reason(observation)
        connection.send(('ready', intent, niceness))
        beat_s, thoughts_ms = 1.0 / job.rate_hz, list[float]()
        thinking, stamp_s = False, observation.stamp_s
        while True:
            if connection.poll(None if not thinking else 0.0):
                thinking = bool(connection.recv())
                if not thinking:
                    connection.send(('waits', thoughts_ms, None))
                    thoughts_ms = []
                continue
            began_s = time.perf_counter()
            stamp_s += beat_s
            ego = dataclasses.replace(observation.ego, stamp_s=stamp_s)
            with contextlib.suppress(MalformedAnswer):
                reasoner.reason(dataclasses.replace(observation, stamp_s=stamp_s, ego=ego))
            took_s = time.perf_counter() - began_s
            thoughts_ms.append(1e3 * took_s)
            connection.poll(max(0.0, beat_s - took_s))
    except EOFError:  # whoever measures has ended
        return
    except VlaDriverError as error:
        connection.send(('error', str(error), None))


class SlowProcess:
    """The other end: a context in which the process lives.  `intent`: what it said first, None for nothing."""

    def __init__(self, job: SlowJob) -> None:
        context = multiprocessing.get_context('spawn')
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, theirs), name='slow-half', daemon=True)
        self._process.start()
        theirs.close()
        self.intent: Intent | None = None
        self.niceness = 0
        self.thoughts_ms: list[float] = []

    def __enter__(self) -> SlowProcess:
        self.intent, self.niceness = self._answer('ready', START_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def think(self) -> None:
        """Let it think from now on."""
        self._connection.send(True)

    def wait(self) -> None:
        """Let it finish its thought and wait; returns when it does."""
        self._connection.send(False)
        thoughts, _ = self._answer('waits', THOUGHT_S)
        self.thoughts_ms += thoughts

    def _answer(self, wanted: str, timeout_s: float) -> tuple[Any, Any]:
        if not self._connection.poll(timeout_s):
            raise VlaDriverError(f'the slow half said nothing for {timeout_s:g} s')
        try:
            kind, value, more = self._connection.recv()
        except EOFError:
            self._process.join()
            raise VlaDriverError(f'the slow half ended with status {self._process.exitcode}') from None
        if kind == 'error':
            raise VlaDriverError(f'the slow half: {value}')
        assert kind == wanted, kind
        return value, more
