# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How a node's process runs, and how it ends.

SIGINT, SIGTERM and the end of the parent (`EXIT_WITH_PARENT`) all mean the same: stop in order, with status 0.
`ros2 launch` sends SIGINT to a whole process group and then to each process again, so a second signal soon after the
first one says nothing new.  A model that is loading is given up at once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from vla_driver.ros.base.own_thread import unfinished
from vla_driver.ros.wire.domain import domain_id
from vla_driver.ros.wire.transport import use_shared_memory_profile
from vla_driver.types import VlaDriverError

if TYPE_CHECKING:
    from vla_driver.ros.base.lifecycle import DriverNode

#: Set in a child process that must end when its parent's end of the standard input closes (`ros/runs/processes.py`).
EXIT_WITH_PARENT: Final = 'VLA_DRIVER_EXIT_WITH_PARENT'

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
#: Signals so soon after the first one are repetitions of it; a later one does not wait for an orderly end.
_REPEATED_S: Final = 2.0


def _watch_parent(stop: threading.Event) -> None:
    """Set `stop` when the standard input closes: the parent is gone, however it went."""

    def watch() -> None:
        # Not through sys.stdin: its lock, held here for ever, would be in the interpreter's way at exit.
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=watch, name='parent-watch', daemon=True).start()


def _stop_on_signals(stop: threading.Event) -> None:
    """Let SIGINT and SIGTERM set `stop`; one that comes later than `_REPEATED_S` ends the process at once.

    rclpy's own handlers shut the context down first, and then nothing can be published any more: a
    controller could not send its last command, the stop.
    """
    first_s: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        now_s = time.monotonic()
        if not first_s:
            first_s.append(now_s)
        elif now_s - first_s[0] > _REPEATED_S:
            os.write(2, b'ended at once: told to stop a second time\n')  # print is not safe within a handler
            os._exit(128 + number)
        stop.set()

    for number in _SIGNALS:
        signal.signal(number, handle)


def run(
    make_node: Callable[[], DriverNode[Any]], arguments: Sequence[str] | None = None, *, sends_pictures: bool = True
) -> int:
    """Run one node until it is told to stop; return the exit status of its process.

    1 if ROS refuses the arguments, or it could not be made, configured or activated (with `autostart`), otherwise the
    node's `exit_status`.  `arguments` are those after the program's name, `--ros-args` included.  One that sends no
    pictures starts sooner and takes less memory (config/fastdds_shm_small.xml).
    Does not return, but ends the process with that status, where a thread is busy that nothing can interrupt.
    """
    use_shared_memory_profile(os.environ, sends_pictures=sends_pictures)
    try:
        domain_id(os.environ)  # of a wrong one rclpy would only say that it cannot start
    except VlaDriverError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return 1
    stop = threading.Event()
    _stop_on_signals(stop)
    words = None if arguments is None else [sys.argv[0], *arguments]
    try:
        rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # those of rclpy for words after --ros-args are private
        said = re.sub(r' ?, at \S+:\d+', '', ' '.join(str(error).split()))  # without the lines of its C code
        print(f'error: ROS does not start with these arguments: {said}', file=sys.stderr, flush=True)
        return 1
    if os.environ.get(EXIT_WITH_PARENT):
        _watch_parent(stop)
    status = _live(make_node, stop)
    # As it ends, the interpreter takes its handlers away, and a repeated signal would count as a death.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if unfinished():
        # The interpreter would take its memory away under the libraries that this thread is in.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _live(make_node: Callable[[], DriverNode[Any]], stop: threading.Event) -> int:
    """Make a node, let it live until `stop`, destroy it; return its status."""
    node = None
    # Images come in through one thread: the multi-threaded executor lost messages and cost five times the CPU.
    executor = SingleThreadedExecutor()
    try:
        node = make_node()
        node.exit_requested = stop
        executor.add_node(node)
        steps = (node.trigger_configure, node.trigger_activate) if node.parameters.autostart else ()
        for step in steps:
            # One that was told to stop has not failed.
            if not stop.is_set() and step() != TransitionCallbackReturn.SUCCESS and not stop.is_set():
                return 1
        while not stop.is_set():
            # Signals reach Python between two waits, hence the bound.
            executor.spin_once(timeout_sec=0.1)
    except VlaDriverError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return 1
    except ExternalShutdownException:
        pass
    finally:
        executor.shutdown(timeout_sec=1.0)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return node.exit_status if node is not None else 1
