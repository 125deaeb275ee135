# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator's towns as OpenDRIVE maps, for a served driver that is to know their junctions.

Of each town the reference lines of its roads are written, and which of them are within junctions; lanes and lights are
not. Where --policy egodriver asks a server it says which town it is in.

  vla_driver convert towns --out maps
  vla_driver serve egodriver --map-dir maps
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_driver.types import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        'networks', nargs='*', metavar='NET', help='a town by name, or a SUMO network (default: every town here)'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where the maps go, one folder a town')


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.serve.maps import write_map
    from vla_driver.sim.world.opendrive import opendrive_of
    from vla_driver.sim.world.towns import TOWNS, load_network, map_name, town_path

    written: set[str] = set()
    for town in args.networks or [name for towns in TOWNS.values() for name in towns]:
        path = town_path(town)
        if (name := map_name(path)) in written:
            raise InvalidInput(f'{town}: a map {name} was written already; give the networks different names')
        written.add(name)
        print(write_map(args.out, name, opendrive_of(load_network(path))))
    return 0
