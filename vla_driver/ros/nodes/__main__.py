# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m vla_driver.ros.nodes planner --ros-args ...`: one node in this process.

Importing a node takes a second or more.  Whoever interrupts that finds nothing begun yet: the process ends with
status 0, as a running node does, and without a traceback.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(0)


def start(node: str) -> int:
    """Import and run a node; `sys.argv` holds its arguments, after the program's name; return its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    # Whoever imports a message imports rosidl's generator of messages with its parser, 0.1 s for nothing: it does
    # without where that is not installed, and this says so.
    sys.modules.setdefault('rosidl_generator_py.generate_py_impl', None)  # type: ignore[arg-type]
    return int(importlib.import_module(f'vla_driver.ros.nodes.{node}').main())


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit('usage: python -m vla_driver.ros.nodes NODE [--ros-args ...]')
    sys.exit(start(sys.argv.pop(1)))
