# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train reinforce`: fine-tune a model that drives by rewards instead of an example.

At each recorded tick several plans are rolled forward among the others as they were recorded, and judged by NAVSIM's
score: collisions, the road and red lines as factors; progress, time to collision and comfort.  What was better than
the rest of its group becomes likelier.  The encoder stays as it is, and is read from its features; imitation goes on
beside.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.train.arguments import add_data_argument, add_machine_arguments, add_setting, settings_of
from vla_driver.model.checkpoint import resolve_checkpoint
from vla_driver.train.reinforce import ReinforceRun, reinforce
from vla_driver.train.reinforcement.trainer import ReinforceConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_data_argument(parser, 'episodes that say who was where (version 2)')
    parser.add_argument('--model', required=True, metavar='CKPT', help='native checkpoint that drives already')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the checkpoint and the log go')
    parser.add_argument(
        '--features', type=Path, metavar='DIR', help='where encoded features are kept (default: OUT/features)'
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--steps', type=int, metavar='N', help='length of the run in optimiser steps')
    length.add_argument('--minutes', type=float, metavar='M', help='length of the run in minutes (default: 30)')
    parser.add_argument(
        '--batch', type=int, default=ReinforceConfig.clips, metavar='B', help='clips per step (default: %(default)s)'
    )
    add_setting(parser, ReinforceConfig, 'ticks', 'T', 'ticks per clip, all of them judged')
    add_setting(
        parser,
        ReinforceConfig,
        'samples',
        'G',
        'plans of a group: half are those of the likeliest anchors, half the plan itself with something added; below '
        '4 the latter are none',
    )
    add_setting(parser, ReinforceConfig, 'imitation', 'W', "weight of imitation's loss")
    add_setting(parser, ReinforceConfig, 'divergence', 'W', "weight of the votes' divergence from --model, in nats")
    add_setting(parser, ReinforceConfig, 'votes', 'W', "weight of the votes' policy gradient")
    add_setting(parser, ReinforceConfig, 'decoder', 'W', "weight of the flow's policy gradient")
    add_setting(
        parser, ReinforceConfig, 'temperature', 'T', 'of the votes that weight a group: above 1 tries the unlikely more'
    )
    add_setting(parser, ReinforceConfig, 'learning_rate', 'LR', 'peak of the learning rate')
    add_setting(parser, ReinforceConfig, 'seed', 'S', 'seed of data and noise')
    parser.add_argument('--resume', action='store_true', help='continue the run in --out exactly where it was saved')
    add_setting(parser, ReinforceRun, 'save_minutes', 'M', 'minutes from one checkpoint to the next', form='g')
    add_setting(parser, ReinforceRun, 'validate', 'N', 'held-out clips')
    add_machine_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be trained on."""
    minutes = 30.0 if args.steps is None and args.minutes is None else args.minutes
    start = str(resolve_checkpoint(args.model))
    config = settings_of(ReinforceConfig, args, clips=args.batch, minutes=minutes, start=start)
    reinforce(settings_of(ReinforceRun, args, config=config))
    return 0
