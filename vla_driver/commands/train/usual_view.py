# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train usual-view`: copy a checkpoint so that its panorama shows the usual where a token was dropped.

With `view_config.reads: kept` nothing stands on the panorama where a token was dropped.  No training has shown that to
the model, so what it does then depends on the zeros as well as on the choice of tokens.  This command measures the mean
token of each place over recorded drives.  It writes a copy with `view_config.reads: usual`, in which that mean stands
where a token was dropped (mean ablation instead of zero ablation).  Nothing is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.train.arguments import add_data_argument
from vla_driver.train.pruning.usual_view import write_usual_view


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_data_argument(parser)
    parser.add_argument('--model', required=True, metavar='CKPT', help='native checkpoint')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the copy; must not exist')
    parser.add_argument(
        '--moments',
        type=int,
        default=400,
        metavar='N',
        help='how many moments are averaged, evenly spread (default: 400)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for a model without panorama, and for a folder that exists."""
    moments = write_usual_view(args.model, args.data, args.out, args.moments)
    print(f'{args.out}: the usual view of {moments} moments')
    return 0
