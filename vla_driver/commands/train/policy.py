# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train policy`: imitation of the expert from collected episodes."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.train.arguments import add_data_argument, add_machine_arguments, add_setting, settings_of
from vla_driver.train.distributed.zero import Sharing
from vla_driver.train.policy import STAGES, PolicyRun, train_policy
from vla_driver.train.policy_trainer import PolicyConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_data_argument(parser, 'episodes')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the checkpoint and the log go')
    parser.add_argument(
        '--stage',
        choices=STAGES,
        default='all',
        help='vision: depth, classes and scene only; reflex: what is read off the panorama, at a tenth of the work; '
        'policy: no dense labels; words: the slow half alone, driving stays bit by bit as it is; all: everything '
        '(default)',
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--steps', type=int, metavar='N', help='length of the run in optimiser steps')
    length.add_argument('--minutes', type=float, metavar='M', help='length of the run in minutes (default: 60)')
    parser.add_argument(
        '--batch', type=int, default=PolicyConfig.clips, metavar='K', help='clips per step (default: %(default)s)'
    )
    add_setting(parser, PolicyConfig, 'ticks', 'T', 'ticks per clip')
    add_setting(parser, PolicyConfig, 'seed', 'S', 'seed of weights, data and noise')
    add_setting(parser, PolicyConfig, 'learning_rate', 'LR', 'peak of the learning rate')
    parser.add_argument('--resume', action='store_true', help='continue the run in --out exactly where it was saved')
    parser.add_argument('--init', metavar='CKPT', help='start from the weights of a checkpoint (DAgger rounds)')
    parser.add_argument(
        '--refit-anchors',
        action='store_true',
        help='with --init: fit the anchors to these episodes, and learn anew to choose among them',
    )
    parser.add_argument('--blind', action='store_true', help='train the control that sees no images')
    parser.add_argument(
        '--freeze-vision',
        action='store_true',
        help='keep the encoder as it is (needs --init) and train the rest on its features, encoded once',
    )
    parser.add_argument(
        '--freeze-reflex',
        action='store_true',
        help='keep the first answers, read off the panorama, as they are (needs --init and --freeze-vision): a short '
        'stage policy, of small steps, adds to them and spoils nothing',
    )
    parser.add_argument(
        '--features', type=Path, metavar='DIR', help='where encoded features are kept (default: OUT/features)'
    )
    parser.add_argument(
        '--config',
        type=Path,
        metavar='FILE',
        help='JSON of VlaConfig entries that differ from nano; with --init, from the checkpoint: what it has not, or '
        'in other shapes, starts afresh',
    )
    parser.add_argument(
        '--prune',
        nargs='+',
        default=(),
        metavar='PRUNER',
        help='pruning in the loop: at four of five steps one of these, drawn, drops up to 80 %% of the visual tokens '
        "(needs a model that reads kept tokens alone: view_config.reads 'kept')",
    )
    parser.add_argument('--recon', type=Path, metavar='DIR', help="the folder that the pruner 'recon' stands for")
    add_setting(
        parser,
        PolicyConfig,
        'line_share',
        'SHARE',
        'in so many of the clips, from 0 to 1, turns and target points are made of the line of the way: for drivers of '
        'whom no junction is announced (`serve egodriver` without maps)',
    )
    add_setting(parser, PolicyRun, 'save_minutes', 'M', 'minutes from one checkpoint to the next', form='g')
    add_setting(parser, PolicyRun, 'validate_clips', 'N', 'held-out clips')
    add_setting(
        parser,
        PolicyRun,
        'processes',
        'N',
        'share the clips of a step among N processes of this machine, through torchrun and DeepSpeed: one for each '
        'GPU, or on the CPU with one thread each; started by torchrun itself, on several machines, it takes its number',
    )
    add_setting(
        parser,
        PolicyConfig,
        'shares',
        'N',
        'parts of a step that are drawn by themselves, and computed one after the other where processes are fewer; '
        '1: one for each process, or as in the run that is resumed',
    )
    add_setting(parser, Sharing, 'zero', 'STAGE', 'of several processes: ZeRO parts the moments (1), and gradients (2)')
    add_setting(
        parser,
        Sharing,
        'expert_parallel',
        'N',
        'of several processes: so many hold all experts together; 0: as many as the experts divide among',
    )
    add_machine_arguments(parser, threads="CPU threads of a process (default: torch's, shared)")


def policy_run(args: argparse.Namespace) -> PolicyRun:
    """Return the run that the arguments describe."""
    minutes = 60.0 if args.steps is None and args.minutes is None else args.minutes
    config = settings_of(PolicyConfig, args, clips=args.batch, minutes=minutes, prune=tuple(args.prune))
    sharing = settings_of(Sharing, args)
    return settings_of(PolicyRun, args, config=config, architecture=args.config, sharing=sharing)


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be trained on."""
    train_policy(policy_run(args))
    return 0
