# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The towns that ship with the package, and their split by shape: nothing is ever tuned on test."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from vla_driver.types import InvalidInput

TOWNS = {
    'train': ('train_grid', 'train_blocks', 'train_web', 'train_rand', 'train_sprawl'),
    'val': ('val_rand',),
    'test': ('test_web', 'test_ladder'),
}

_FOLDER = Path(__file__).parent / 'towns'


def prepare_sumo() -> None:
    """Point SUMO_HOME at the data wheel unless the user has set it (SUMO reads its type maps there)."""
    if 'SUMO_HOME' not in os.environ:
        import sumo_data

        os.environ['SUMO_HOME'] = sumo_data.__path__[0]


def town_path(name: str) -> Path:
    """Return the network file of a shipped town, or of a path to a SUMO network; raise `InvalidInput`."""
    shipped = _FOLDER / f'{name}.net.xml.gz'
    if shipped.is_file():
        return shipped
    path = Path(name)
    if path.is_file():
        return path
    allowed = ', '.join(town for towns in TOWNS.values() for town in towns)
    raise InvalidInput(f'town {name!r} is neither shipped nor a file; shipped: {allowed}; or give a .net.xml[.gz] file')


def map_name(path: Path) -> str:
    """Return what a network is called: its file's name without what it is."""
    return path.name.removesuffix('.gz').removesuffix('.xml').removesuffix('.net')


@lru_cache(maxsize=8)
def load_network(path: Path) -> Any:
    """Return the sumolib network with its junction-internal lanes and signal programs."""
    prepare_sumo()
    import sumolib

    try:
        return sumolib.net.readNet(str(path), withInternal=True, withPrograms=True)
    except Exception as error:
        raise InvalidInput(f'{path} is not a SUMO network: {error}; expected a .net.xml[.gz] of netconvert') from error
