# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver <command>`: finds the command, loads it alone, and turns errors into one line and an exit code.

A command is a module with `add_arguments(parser)` and `run(args) -> int`.  Only the one that was asked
for is imported, so that `vla_driver --help` does not wait for torch, ROS or OpenGL.

Exit codes: 0 done; 1 done, but the answer is bad (`doctor` found a fault); 2 an error, named on stderr;
130 interrupted; 143 ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from vla_driver.commands.flags import in_flags
from vla_driver.types import VlaDriverError


@dataclass(frozen=True)
class Command:
    """What a command is called and does, in one line; its module has its words for a path (`commands/`)."""

    words: tuple[str, ...]
    summary: str

    @property
    def module(self) -> str:
        """The module with `add_arguments` and `run`."""
        return '.'.join(('vla_driver', 'commands', *self.words)).replace('-', '_')


COMMANDS: Final = (
    Command(('convert', 'nuscenes'), 'scenes of nuScenes as ROS 2 bags'),
    Command(('convert', 'nuscenes-fg'), 'foreground masks of nuScenes'),
    Command(('convert', 'sim-fg'), 'foreground masks of simulated episodes'),
    Command(('convert', 'towns'), "the simulator's towns as OpenDRIVE maps"),
    Command(('demo',), 'replay the sample bag through the nodes and write a report'),
    Command(('doctor',), 'check what is installed and say what to do about the rest'),
    Command(('drive',), 'drive one route in the simulator, in closed loop'),
    Command(('evaluate', 'attention'), 'what sparse attention saves, by the number of tokens'),
    Command(('evaluate', 'closed-loop'), 'success and safety on held-out routes'),
    Command(('evaluate', 'efficiency'), 'what pruning saves: operations and time'),
    Command(('evaluate', 'engines'), 'whether an engine plans what torch plans'),
    Command(('evaluate', 'fast-slow'), 'what the slow half is worth, and what it costs'),
    Command(('evaluate', 'flow'), 'few steps of the flow against fifty; forecasts of others'),
    Command(('evaluate', 'moe'), 'a mixture of experts against the dense model'),
    Command(('evaluate', 'open-loop'), 'L2 and collisions against recorded driving'),
    Command(('evaluate', 'latency'), 'camera-to-path latency of the nodes over DDS'),
    Command(('evaluate', 'pruning'), 'driving and foreground kept, pruner by pruner'),
    Command(('evaluate', 'tick-time'), "the model's tick, pruned and not, in one run"),
    Command(('evaluate', 'words'), 'what the slow half says, against the expert'),
    Command(('export',), "a checkpoint's graphs, which run twice as fast"),
    Command(('inspect',), 'say what the driver finds in a bag, and what it lacks'),
    Command(('record',), 'let the expert drive and write a bag'),
    Command(('replay',), 'replay a bag through the nodes over DDS'),
    Command(('serve', 'egodriver'), 'drive for another simulator, over gRPC'),
    Command(('train', 'collect'), 'collect labelled episodes in the simulator'),
    Command(('train', 'export'), 'turn a run into a checkpoint that ships'),
    Command(('train', 'policy'), 'train the driving policy by imitation'),
    Command(('train', 'reinforce'), 'fine-tune the driving policy by rewards'),
    Command(('train', 'pruner'), 'train ReconPruner, which selects visual tokens'),
    Command(('train', 'plan-pruner'), 'measure a pruner that keeps what the plan needs'),
    Command(('train', 'usual-view'), 'what the panorama shows for dropped tokens'),
    Command(('train', 'early-head'), 'train a head for pruning inside the encoder'),
)
_GROUPS: Final = {
    'convert': 'convert data',
    'evaluate': 'measure a policy or the nodes',
    'serve': 'drive for others that call',
    'train': 'train a model',
}
#: Signals so soon after the first one are repetitions of it: `timeout` sends two.
_REPEATED_S: Final = 1.0
#: SIGTERM ends these as ever: their processes save and end when this one is gone, but take a Ctrl-C for one of the
#: terminal's, which has reached them already.
_END_WITH_THEIR_STARTER: Final = (('train', 'policy'),)


def _wanted(argv: Sequence[str]) -> Command | None:
    for command in COMMANDS:
        if tuple(argv[: len(command.words)]) == command.words:
            return command
    return None


def _parser(wanted: Command | None) -> argparse.ArgumentParser:
    from vla_driver import __version__

    parser = argparse.ArgumentParser(
        prog='vla_driver',
        description='Autonomous driving from six cameras: a vision-language-action model in ROS 2.',
        epilog='vla_driver COMMAND --help tells more. Start with: vla_driver doctor, vla_driver demo.',
    )
    parser.add_argument('--version', action='version', version=f'vla_driver {__version__}')
    top = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    groups = {}
    for command in COMMANDS:
        into = top
        if len(command.words) == 2:
            group = command.words[0]
            if group not in groups:
                summary = _GROUPS[group]
                holder = top.add_parser(group, help=summary, description=f'{summary.capitalize()}.')
                groups[group] = holder.add_subparsers(title='commands', metavar='COMMAND', required=True)
            into = groups[group]
        if command is wanted:
            module = importlib.import_module(command.module)
            child = into.add_parser(
                command.words[-1],
                help=command.summary,
                description=(module.__doc__ or '').strip() or command.summary,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            module.add_arguments(child)
            child.set_defaults(run=module.run)
        else:
            into.add_parser(command.words[-1], help=command.summary, add_help=False)
    return parser


def _fail(message: str) -> int:
    print(f'error: {message}', file=sys.stderr)
    return 2


@contextmanager
def _ended_by_sigterm(words: Sequence[str]) -> Iterator[threading.Event]:
    """Let SIGTERM interrupt a command as Ctrl-C does, and set what is yielded: without that nothing is cleaned up.

    A ROS participant, for one, would leave its shared memory behind.  A SIGTERM that is ignored, or that somebody
    listens to already, is left alone, as is one elsewhere than in the main thread.
    """
    asked = threading.Event()
    first_s: list[float] = []
    owner = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != owner:  # a fork, which is to end as if nobody listened
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        asked.set()
        now_s = time.monotonic()
        if first_s and now_s - first_s[0] < _REPEATED_S:
            return
        first_s[:] = [now_s]
        raise KeyboardInterrupt

    listens = threading.current_thread() is threading.main_thread()
    listens = listens and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    listens = listens and not any(tuple(words[: len(own)]) == own for own in _END_WITH_THEIR_STARTER)
    if listens:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield asked
    finally:
        if listens and signal.getsignal(signal.SIGTERM) is interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Errors that a user can mend (VlaDriverError, a missing file or module) are one line on stderr; a
    defect keeps its traceback.  VLA_DRIVER_DEBUG=1 shows the traceback of every error.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with _ended_by_sigterm(words) as asked:
        return _run(words, asked, ends=argv is None)


def _run(words: Sequence[str], asked: threading.Event, *, ends: bool) -> int:
    """Do what `main` says.  asked: set where SIGTERM interrupts; ends: whether the process ends with the command."""
    try:
        args = _parser(_wanted(words)).parse_args(words)
        return int(args.run(args) or 0)
    except KeyboardInterrupt:
        if ends:  # another signal must not change the status
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        print('terminated' if asked.is_set() else 'interrupted', file=sys.stderr)
        return 143 if asked.is_set() else 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (VlaDriverError, ModuleNotFoundError, OSError) as error:
        if os.environ.get('VLA_DRIVER_DEBUG') == '1':
            raise
        if isinstance(error, ModuleNotFoundError):
            if (error.name or '').startswith('vla_driver.msg'):
                return _fail('the ROS messages of this package are not built; run `make setup` (colcon build)')
            if (error.name or '').startswith('vla_driver'):
                raise
            return _fail(f'Python module {error.name!r} is not installed; run `make setup`, or `vla_driver doctor`')
        # What a launch file asks for is told in its words.
        return _fail(str(error) if '--for-launch' in words else in_flags(str(error)))


if __name__ == '__main__':
    sys.exit(main())
