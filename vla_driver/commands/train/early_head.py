# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train early-head`: train a head that says inside the vision encoder what a ReconPruner says behind it.

The head sees the hidden states before one block of the frozen encoder.  Its teacher, a trained ReconPruner, sees the
finished tokens of the same pictures and says how likely each is worth keeping.  The head learns that answer by
cross-entropy.  In the native model, whose panorama and memory read all tokens, it also learns to complete the tokens
that leave (squared distance to the finished ones).  No labels are needed: any pictures of the cameras will do.  --out
becomes a folder that `--pruner` and `pruner:=` take.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.train.arguments import (
    add_data_argument,
    add_machine_arguments,
    add_setting,
    picture_size,
    print_figures,
    settings_of,
)
from vla_driver.train.pruning.early_head import EarlyHeadRun, train_early_head


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_data_argument(parser)
    parser.add_argument('--model', required=True, metavar='CKPT', help='native checkpoint or Qwen-VL folder')
    parser.add_argument(
        '--teacher', type=Path, metavar='DIR', help="a ReconPruner's folder (default: the checkpoint's own)"
    )
    parser.add_argument('--block', type=int, required=True, metavar='B', help='tokens leave before this block')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where head and log go')
    for name, metavar, words in (
        ('hidden', 'H', "the head's width"),
        ('steps', 'N', 'length of the run in steps'),
        ('batch', 'B', 'moments per step'),
        ('learning_rate', 'LR', 'peak of the learning rate'),
        ('seed', 'S', 'seed of weights and data'),
        ('validate', 'N', 'held-out moments'),
    ):
        add_setting(parser, EarlyHeadRun, name, metavar, words)
    parser.add_argument(
        '--picture-size',
        metavar='WxH',
        help='size to which pictures are brought for a Qwen-VL checkpoint (default: 672x392)',
    )
    add_machine_arguments(parser)


def early_head_run(args: argparse.Namespace) -> EarlyHeadRun:
    """Return the run that the arguments describe."""
    return settings_of(EarlyHeadRun, args, picture_size=picture_size(args.picture_size))


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be trained on."""
    print_figures(train_early_head(early_head_run(args)))
    return 0
