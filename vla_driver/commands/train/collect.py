# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Collect training episodes: the simulator driven by the expert with disturbances, or by a learner (DAgger).

Every tick is labelled with what the expert would do from there, whoever drove there (S. Ross et al., "A Reduction
of Imitation Learning and Structured Prediction to No-Regret Online Learning", 2011).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.commands.train.arguments import add_setting, settings_of
from vla_driver.data.collection import CollectionRun, collect
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument('--out', type=Path, required=True, help='folder for the episodes; existing ones are kept')
    for name, words in (
        ('split', 'train or val'),
        ('episodes', 'how many episodes'),
        ('seconds', 'simulated seconds an episode'),
        ('seed', 'another seed gives other drives'),
        ('jobs', 'worker processes'),
    ):
        add_setting(parser, CollectionRun, name, None, words, form='g' if name == 'seconds' else 's')
    parser.add_argument(
        '--towns', type=Path, metavar='DIR', help="a folder of SUMO networks to drive in instead of the split's towns"
    )
    for name, whom in (('density', 'vehicles per kilometre of lane'), ('people', 'people per kilometre of road')):
        low, high = getattr(CollectionRun, name)
        parser.add_argument(
            f'--{name}',
            type=float,
            nargs=2,
            default=(low, high),
            metavar=('FROM', 'TO'),
            help=f'{whom}; every drive draws its own (default: {low:g} {high:g})',
        )
    parser.add_argument('--model', default='', help='checkpoint that drives in a DAgger round; none: the expert alone')
    add_setting(parser, CollectionRun, 'learner', None, 'share of the time the model drives')
    add_options(parser, PolicyParameters, 'engine')


def run(args: argparse.Namespace) -> int:
    """Run the command; raises InvalidInput for the test towns and for a share out of range."""
    print(f'{collect(settings_of(CollectionRun, args))} new ticks in {args.out}')
    return 0
