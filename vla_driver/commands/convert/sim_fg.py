# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Foreground masks of simulated episodes, in the format that `convert nuscenes-fg` writes.

`train pruner` reads episodes themselves; this is for looking at masks, and for other programs.  Pictures are copied
as the JPEGs they are; masks come from the simulator's labels, at a quarter of the pictures' resolution.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.common import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('source', type=Path, nargs='+', metavar='SRC', help='folders of episodes (train collect)')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where pictures, masks and index go')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='take every Nth tick (default: 1)')


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.data.clips import find_episodes
    from vla_driver.data.foreground.pairs import convert_episodes
    from vla_driver.types import InvalidInput

    if args.every < 1:
        raise InvalidInput(f'--every {args.every}, expected 1 or more')
    episodes = find_episodes(args.source)
    with progress(len(episodes), 'episode', 'masks') as bar:
        written = convert_episodes(episodes, args.out, args.every, lambda: bar.update(1))
    print(f'{args.out}: {written} ticks added')
    return 0
