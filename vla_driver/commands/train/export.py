# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train export`: make a small checkpoint with a model card from a training run.

The heads that only training needs are dropped, and the weights are stored in bfloat16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.train.export import export_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('--run', dest='source', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the checkpoint')
    parser.add_argument('--scores', type=Path, nargs='*', default=[], metavar='FILE',
                        help='files of `evaluate ... --json` to put into the model card')  # fmt: skip
    parser.add_argument('--replace', action='store_true', help='write over a checkpoint that lies in --out')


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for a folder that holds no run."""
    parameters, size = export_run(args.source, args.out, args.scores, replace=args.replace)
    print(f'{args.out}: {parameters / 1e6:.2f} M parameters, {size / 1e6:.1f} MB')
    return 0
