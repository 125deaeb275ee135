# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train plan-pruner`: measure a PlanPruner for a native model that reads kept tokens alone.

It keeps the set of tokens from which the model reads most nearly what it reads from all of them.  What is measured is
how strongly steering and votes react to what is read, over recorded drives; that takes a minute.  The figures printed
compare it with other pruners on held-out drives: how far the reading (read), the steering (bend; both as shares of
their variance) and the votes (nats) are from those of all tokens, at 25, 50 and 75 % dropped.  --out becomes a folder
that `--pruner` and `pruner:=` take; in a checkpoint's folder `plan` it is what the pruner `plan` stands for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.train.arguments import (
    add_data_argument,
    add_machine_arguments,
    add_setting,
    print_figures,
    settings_of,
)
from vla_driver.train.pruning.plan_pruner import PlanPrunerRun, make_plan_pruner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_data_argument(parser, 'episodes')
    parser.add_argument('--model', required=True, metavar='CKPT', help="native, with view_config.reads 'kept'")
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where pruner and log go')
    parser.add_argument(
        '--features', type=Path, metavar='DIR', help='where encoded features are kept (default: OUT/features)'
    )
    for name, metavar, words in (
        ('directions', 'R', 'in which the plan reacts, the leading ones'),
        ('batches', 'N', 'batches that are measured on'),
        ('batch', 'B', 'ticks in a batch'),
        ('seed', 'S', 'seed of data'),
        ('validate', 'N', 'held-out ticks'),
    ):
        add_setting(parser, PlanPrunerRun, name, metavar, words)
    add_machine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be measured on."""
    print_figures(make_plan_pruner(settings_of(PlanPrunerRun, args)))
    return 0
