# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train usual-view`: a copy of a checkpoint whose panorama knows what usually stands where a token left.

With `view_config.reads: kept` nothing stands on the panorama where a token was dropped, which no training has shown the
model: what it does then says as much about zeros as about the choice of tokens.  This command measures what usually
stands there, the mean token of each place over recorded drives, and writes a checkpoint with `view_config.reads:
usual`, in which that mean takes the place of what was dropped (mean ablation instead of zero ablation).  Nothing is
trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.train.arguments import add_data_argument
from vla_driver.train.usual_view import write_usual_view


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_data_argument(parser)
    parser.add_argument('--model', required=True, metavar='CKPT', help='native checkpoint')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='the copy; must not exist')
    parser.add_argument('--moments', type=int, default=400, metavar='N', help='evenly spread (default: 400)')


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for a model without panorama, and for a folder that exists."""
    moments = write_usual_view(args.model, args.data, args.out, args.moments)
    print(f'{args.out}: the usual view of {moments} moments')
    return 0
