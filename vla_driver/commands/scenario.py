# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Choosing a drive in the simulator: arguments of `drive` and `record`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.sim.world.scenario import Scenario


def add_scenario_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """Add --split, --index, --town, --routes and --seed."""
    parser.add_argument('--split', choices=('train', 'val', 'test'), default=split, help=f'towns (default: {split})')
    parser.add_argument('--index', type=int, default=0, help='which scenario of the split (default: 0)')
    parser.add_argument('--seed', type=int, default=0, help='seed of route, traffic, light and colours (default: 0)')
    parser.add_argument(
        '--town', metavar='NET', help='instead of a split: a shipped town by name, or a SUMO network (.net.xml[.gz])'
    )
    parser.add_argument(
        '--routes', metavar='ROU', nargs='+', type=Path, default=[], help='SUMO traffic of that town (.rou.xml)'
    )
    parser.add_argument('--length', type=float, default=220.0, metavar='M', help='length of the route (default: 220 m)')


def chosen_scenario(args: argparse.Namespace) -> Scenario:
    """Return the scenario that the arguments name."""
    from vla_driver.sim.world.scenario import Scenario, custom_scenario, scenarios
    from vla_driver.sim.world.towns import TOWNS

    if not args.length > 0:
        raise InvalidInput(f'--length {args.length}: expected a positive number of metres')
    if args.town is None:
        if args.routes:
            raise InvalidInput('--routes belongs to a town of your own: give --town NET, too')
        if args.index < 0:
            raise InvalidInput(f'--index {args.index}: expected 0 or more')
        return scenarios(args.split, args.index + 1, seed=args.seed, length_m=args.length)[args.index]
    if args.town in {town for towns in TOWNS.values() for town in towns} and not args.routes:
        return Scenario(args.town, args.seed, args.length)
    return custom_scenario(Path(args.town), args.routes, args.seed, args.length)
