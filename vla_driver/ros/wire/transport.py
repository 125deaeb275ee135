# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Give Fast DDS enough shared memory for camera images between processes.

Fast DDS reads the profile when the first participant is created, so this must run before
`rclpy.init`, and in the environment of every process that is started.  Other middlewares ignore it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from vla_driver.resources import resource

#: Fast DDS 2.x (Humble, Jazzy) reads the first, Fast DDS 3.x the second.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
#: What one process takes of /dev/shm with config/fastdds_shm.xml (measured; reserved, not only mapped).
BYTES_PER_PROCESS = 141_000_000
#: The processes of one line: camera source, planner, controller, and a recorder or viewer.
PROCESSES = 4
#: By whether a process sends pictures: the files differ in the size of its own shared memory.
_PROFILES: Final = {True: 'fastdds_shm.xml', False: 'fastdds_shm_small.xml'}
SHARED_MEMORY = Path('/dev/shm')


def shared_memory_problem(folder: Path = SHARED_MEMORY) -> str | None:
    """Return why the profile cannot serve on this machine and what to do, or None if it can.

    folder: where the system keeps shared memory; its free space is what counts.
    """
    try:
        status = os.statvfs(folder)
    except OSError as error:
        return f'no shared memory at {folder} ({error.strerror}); mount a tmpfs there'
    free = status.f_bavail * status.f_frsize
    needed = BYTES_PER_PROCESS * PROCESSES
    if free < needed:
        return (
            f'{folder} has {free / 1e6:.0f} MB free and camera images need {needed / 1e6:.0f} MB; '
            'start the container with --shm-size=1g or --ipc=host, or remove what dead processes left '
            'there (fastdds shm clean)'
        )
    return None


def use_shared_memory_profile(environ: MutableMapping[str, str], *, sends_pictures: bool = True) -> None:
    """Name the shared-memory profile in `environ`, unless the user named a profile there.

    environ: `os.environ`, or the environment of a process about to be started.  sends_pictures: a process that sends
    none needs little; it takes this also where the other profile of this package is named already, since launch files
    and commands name that for all their processes.  Where the machine has too little shared memory nothing is set and a
    warning says so: Fast DDS would print errors and fall back to UDP.
    """
    profile = str(resource('config', _PROFILES[sends_pictures]))
    named = [variable for variable in PROFILE_VARIABLES if variable in environ]
    if named:
        for variable in named:
            if _is_ours(environ[variable], _PROFILES[not sends_pictures]):
                environ[variable] = profile
        return
    problem = shared_memory_problem()
    if problem is not None:
        logging.getLogger(__name__).warning('large images may be lost between processes: %s', problem)
        return
    for variable in PROFILE_VARIABLES:
        environ[variable] = profile


def _is_ours(path: str, name: str) -> bool:
    """Whether a path leads to this package's own profile of that name."""
    try:
        return os.path.samefile(path, resource('config', name))
    except OSError:  # Fast DDS will say that it cannot read it
        return False
