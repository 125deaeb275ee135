# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that tick when they are told to (`tick_worker.py`): started, asked one at a time, ended together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_driver.types import InvalidInput, Observation, VlaDriverError

SCRIPT: Final = Path(__file__).with_name('tick_worker.py')
#: A start may have to make graphs first; a tick on a loaded machine takes seconds, never this.
START_S: Final = 300.0
TICK_S: Final = 60.0
_LAST_LINES: Final = 12


class WorkerDied(VlaDriverError):  # noqa: N818 - reads as a sentence where raised
    """A worker ended or said nothing for too long; the message holds its last words."""


class WorkerProcess:
    """One worker.  It is started at once, and ready when `started` has returned.

    job: what `tick_worker.main` reads.  environment: added to this process's own (None removes a variable).
    """

    def __init__(
        self, name: str, python: Path | str, job: Mapping[str, Any], environment: Mapping[str, str | None]
    ) -> None:
        self.name = name
        changed = {**os.environ, **environment}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._began_s = time.monotonic()
        self._process = subprocess.Popen(
            [os.fspath(python), os.fspath(SCRIPT)],
            env={key: value for key, value in changed.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            # A Ctrl-C goes to the parent alone, which ends its workers; when it dies, their input ends, and they do.
            start_new_session=True,
        )
        self._waiting = b''
        self._tell(json.dumps(job))

    def package(self) -> Path:
        """Return the folder of the package that it runs; the first thing to ask.  Raises as `started` does."""
        return Path(self._answer(START_S)['package'])

    def started(self, timeout_s: float = START_S) -> dict[str, Any]:
        """Wait for the first plan and the warm-up; return the worker's report, with `start_to_first_plan_s`.

        The seconds count from the start of the process; both clocks are this machine's monotonic one.  Raises
        InvalidInput for a job that the worker refuses, and WorkerDied.
        """
        report = self._answer(timeout_s)
        report['start_to_first_plan_s'] = report.pop('first_plan_s') - self._began_s
        return report

    def tick(self) -> dict[str, Any]:
        """Let it make one tick, alone; return `ms`, `stages_ms` and `tokens`.  Raises as `started` does."""
        self._tell('tick')
        return self._answer(TICK_S)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._said.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b'\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: `_answer` says so, with its last words

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + timeout_s
        while b'\n' not in self._waiting:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise WorkerDied(f'{self.name} said nothing for {timeout_s:g} s{self._last_words()}')
            read = os.read(descriptor, 1 << 16)
            if not read:
                status = self._process.wait()
                raise WorkerDied(f'{self.name} ended with status {status}{self._last_words()}')
            self._waiting += read
        line, _, self._waiting = self._waiting.partition(b'\n')
        answer: dict[str, Any] = json.loads(line)
        if 'error' in answer:
            raise InvalidInput(f'{self.name}: {answer["error"]}')
        return answer

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors='replace').strip().splitlines()[-_LAST_LINES:]
        return '; its last words:\n' + '\n'.join(lines) if lines else ' and no word'


def own_python() -> str:
    """Return the Python that runs this package."""
    return sys.executable


def other_python(checkout: Path) -> Path:
    """Return the Python of another checkout; raise InvalidInput, saying what to do, where it has none."""
    python = checkout.absolute() / '.venv' / 'bin' / 'python'
    if not python.is_file():
        raise InvalidInput(f'--against {checkout}: there is no {python}; run `make setup` in that checkout first')
    return python


def write_observation(path: Path, observation: Observation) -> None:
    """Write an observation so that `tick_worker.read_observation` of any build can read it (no pickle)."""
    about = {
        'stamp_s': observation.stamp_s,
        'rig': observation.rig.name,
        'sizes': {camera.name: [camera.width, camera.height] for camera in observation.rig},
        'stamps_s': {name: frame.stamp_s for name, frame in observation.frames.items()},
        'ego': dataclasses.asdict(observation.ego),
        'navigation': [int(observation.navigation.command), observation.navigation.distance_m],
        'missing': list(observation.missing),
    }
    arrays: dict[str, Any] = {f'image {name}': frame.image for name, frame in observation.frames.items()}
    arrays |= {f'intrinsics {camera.name}': camera.intrinsics for camera in observation.rig}
    arrays |= {f'mount {camera.name}': camera.base_from_camera for camera in observation.rig}
    targets = observation.navigation.target_points_m
    np.savez(path, about=np.array(json.dumps(about)), targets=targets, **arrays)
