# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train pruner`: ReconPruner of FastDriveVLA (arXiv 2507.23318), by masked reconstruction.

The checkpoint's vision encoder stays frozen; the pruner learns to keep tokens from which a decoder can rebuild the
foreground, and to drop those from which it can rebuild the background.  Data are episodes (vla_driver train
collect) or folders of foreground pairs (vla_driver convert nuscenes-fg, convert sim-fg).  --out becomes the pruner:
config.json and model.safetensors, with the run's log and state beside them.
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
from vla_driver.train.pruning.pruner import PrunerRun, train_pruner
from vla_driver.train.pruning.pruner_trainer import PrunerConfig
from vla_driver.train.pruning.reconstruction import OBJECTIVES

#: Fields of PrunerConfig: (name, metavar, what it means).
_LEARNING = (
    ('steps', 'N', 'length of the run in steps'),
    ('batch', 'B', 'moments per step'),
    ('learning_rate', 'LR', 'peak of the learning rate'),
    ('decoder_steps', 'N', 'first steps, in which only the decoder learns, from random tokens'),
    ('pruner_rate', 'F', "learning rate of the pruner in units of the decoder's"),
    ('score_limit', 'S', 'scores beyond it are not pushed further out; 0: no limit'),
    ('object_weight', 'W', 'weight of the errors on foreground other than road; 1: as in the paper'),
    (
        'guide',
        'G',
        'weight of telling the scores directly which tokens are foreground; 0: reconstruction alone, as in the paper',
    ),
    (
        'guide_road',
        'W',
        'with --guide: what a token of nothing but road is worth, where one with a thing on it is worth 1',
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_data_argument(parser)
    parser.add_argument(
        '--model',
        required=True,
        metavar='CKPT',
        help='whose tokens are pruned: a native checkpoint (folder or shipped name), or a Qwen-VL (2.5, 3) folder',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the pruner and the log go')
    for name, metavar, words in _LEARNING:
        add_setting(parser, PrunerConfig, name, metavar, words)
    parser.add_argument(
        '--no-centre',
        action='store_true',
        help="use the scores as they are, as in the paper; otherwise the moment's mean is taken off first",
    )
    add_setting(parser, PrunerConfig, 'warmup', 'N', 'steps in which the learning rate rises')
    add_setting(parser, PrunerConfig, 'decoder_layers', 'N', 'layers of the decoder that rebuilds the pictures')
    parser.add_argument(
        '--cell',
        type=int,
        metavar='PIXELS',
        help="side of a token's area in the pictures that are rebuilt (default: half of what the encoder sees of it)",
    )
    add_setting(parser, PrunerConfig, 'alpha', 'A', 'weight of the foreground')
    ablation = parser.add_mutually_exclusive_group()
    ablation.add_argument(
        '--pixels-only',
        dest='objective',
        action='store_const',
        const='pixels-only',
        help='ablation: rebuild foreground pixels only, no background branch',
    )
    ablation.add_argument(
        '--adversarial-only',
        dest='objective',
        action='store_const',
        const='adversarial-only',
        help='ablation: both branches, but they predict the mask instead of pixels',
    )
    parser.set_defaults(objective=OBJECTIVES[0])
    add_setting(parser, PrunerConfig, 'seed', 'S', 'seed of weights and data')
    parser.add_argument('--resume', action='store_true', help='continue the run in --out exactly where it was saved')
    parser.add_argument(
        '--features',
        type=Path,
        metavar='DIR',
        help="keep the native encoder's features of episodes there (those of train policy fit); 0.2 MB a tick",
    )
    parser.add_argument(
        '--picture-size',
        metavar='WxH',
        help='size to which pictures are brought for a Qwen-VL checkpoint (default: 672x392)',
    )
    add_setting(parser, PrunerRun, 'save_minutes', 'M', 'minutes from one checkpoint to the next', form='g')
    add_setting(parser, PrunerRun, 'validate', 'N', 'held-out moments')
    add_machine_arguments(parser)


def pruner_run(args: argparse.Namespace) -> PrunerRun:
    """Return the run that the arguments describe; its `cell` is apart, for the encoder may have to say it."""
    config = settings_of(PrunerConfig, args, centre=not args.no_centre, cell=args.cell or PrunerConfig.cell)
    return settings_of(PrunerRun, args, config=config, picture_size=picture_size(args.picture_size))


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for settings and data that cannot be trained on."""
    print_figures(train_pruner(pruner_run(args)))
    return 0
