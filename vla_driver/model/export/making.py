# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs that are not there yet are made at first use, by a process of its own: whoever drives stays free of torch."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vla_driver.model.export.manifest import RefusedGraphs
from vla_driver.model.export.opened import fit, graphs_folder, writable_folder
from vla_driver.resources import resource

#: What makes them, and how long that may take at most: a minute or two for nano.
_PROGRAM: Final = 'vla_driver.model.export'
_LIMIT_S: Final = 1800.0


def is_shipped(checkpoint: Path) -> bool:
    """Whether this is the folder of a model that comes with the package."""
    return checkpoint.resolve().parent == resource('models').resolve()


def find_or_make(checkpoint: Path, make: bool = False) -> Path | None:
    """Return the folder of a checkpoint's graphs; those of a shipped model are made where there are none.

    make: those of any checkpoint are.  None where there are none.  Raises `RefusedGraphs` where they cannot be made.
    """
    found, shipped = graphs_folder(checkpoint), is_shipped(checkpoint)
    # Those of a shipped model are ours to keep up with its weights; somebody's own are refused where they do not fit.
    if (found is not None and not (shipped and not fit(found, checkpoint))) or not (make or shipped):
        return found
    target = writable_folder(checkpoint)
    with _alone(target):
        if (found := graphs_folder(checkpoint)) is not None and fit(found, checkpoint):
            return found  # somebody else has made them meanwhile
        print(f'making the graphs of {checkpoint.name}, once (a minute or two): {target}', file=sys.stderr, flush=True)
        command = [sys.executable, '-m', _PROGRAM, str(checkpoint), str(target)]
        try:
            done = subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=_LIMIT_S, text=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RefusedGraphs(f'graphs of {checkpoint} could not be made: {error}') from error
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f'exit status {done.returncode}']
            raise RefusedGraphs(f'graphs of {checkpoint} could not be made: {last[0]}')
    return graphs_folder(checkpoint)


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Let one process at a time make these graphs; the others wait for it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = (target.parent / '.graphs.lock').open('w')
    except OSError as error:
        raise RefusedGraphs(f'graphs cannot be made in {target.parent}: {error}') from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
