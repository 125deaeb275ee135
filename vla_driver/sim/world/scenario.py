# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which drive to make: town, route, traffic, look and navigation noise, all from one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vla_driver.settings.scenario import ScenarioParameters
from vla_driver.sim.world.towns import TOWNS, town_path
from vla_driver.types import InvalidInput

_LENGTH_M = ScenarioParameters.length_m
_SPLIT_SEEDS = {'train': 1_000_000, 'val': 2_000_000, 'test': 3_000_000}
#: From this seed on, those of a split lie apart from all others: below, 100 times 10,000 drives fit between two splits.
_FAR_SEED, _FAR = 100, 500_000_000


@dataclass(frozen=True)
class Scenario:
    """One drive.  density: vehicles per lane kilometre; people: pedestrians per road kilometre."""

    town: str
    seed: int
    length_m: float = _LENGTH_M
    density_per_km: float = 7.0
    people_per_km: float = 5.0
    routes: tuple[Path, ...] = ()

    @property
    def network_path(self) -> Path:
        """The SUMO network."""
        return town_path(self.town)


def scenarios(
    split: str, count: int, seed: int = 0, length_m: float = _LENGTH_M, networks: Path | None = None
) -> list[Scenario]:
    """Return `count` scenarios of a split, its towns in turn; the same arguments give the same drives.

    networks: a folder of SUMO networks to take instead of the split's towns.
    """
    if split not in TOWNS:
        raise InvalidInput(f'split {split!r} is unknown; allowed: {", ".join(TOWNS)}')
    if count < 1:
        raise InvalidInput(f'{count} scenarios asked for, expected at least 1')
    towns = TOWNS[split] if networks is None else _networks(networks)
    first = _SPLIT_SEEDS[split] + 10_000 * seed
    if seed >= _FAR_SEED:
        # 100 and more would reach the next split, and drives of training look like those of the test.
        first += _FAR * (1 + list(_SPLIT_SEEDS).index(split))
    return [Scenario(towns[k % len(towns)], first + k, length_m) for k in range(count)]


def _networks(folder: Path) -> list[str]:
    towns = sorted(str(path) for kind in ('*.net.xml', '*.net.xml.gz') for path in Path(folder).glob(kind))
    if not towns:
        raise InvalidInput(
            f'no networks (*.net.xml, *.net.xml.gz) in {folder}; scripts/make_training_towns.py makes some'
        )
    return towns


def with_traffic(
    drives: Sequence[Scenario], density_per_km: tuple[float, float], people_per_km: tuple[float, float]
) -> list[Scenario]:
    """Return the drives, each with traffic of its own, drawn evenly from bounds (from, to) by its seed.

    Raises `InvalidInput` for bounds that are none.
    """
    for name, (low, high) in (('density', density_per_km), ('people', people_per_km)):
        if not 0.0 <= low <= high:
            raise InvalidInput(f'{name} from {low:g} to {high:g} per km, expected 0 <= from <= to')
    found = []
    for drive in drives:
        rng = np.random.default_rng([drive.seed, 1])
        density, people = float(rng.uniform(*density_per_km)), float(rng.uniform(*people_per_km))
        found.append(replace(drive, density_per_km=density, people_per_km=people))
    return found


def custom_scenario(network: Path, routes: Sequence[Path] = (), seed: int = 0, length_m: float = _LENGTH_M) -> Scenario:
    """Return a drive through the user's own SUMO network, with the user's traffic when `routes` are given."""
    missing = [str(path) for path in (network, *routes) if not Path(path).is_file()]
    if missing:
        raise InvalidInput(f'no such file: {", ".join(missing)}; --town takes a .net.xml[.gz], --routes .rou.xml files')
    return Scenario(str(network), seed, length_m, routes=tuple(Path(path) for path in routes))


def chosen_scenario(wanted: ScenarioParameters) -> Scenario:
    """Return the drive that the settings name; raise InvalidInput naming what is wrong."""
    routes = [Path(route) for route in wanted.routes if route]
    if not wanted.town:
        if routes:
            raise InvalidInput('parameter routes needs parameter town: route files belong to one network')
        return scenarios(wanted.split, wanted.scenario + 1, wanted.seed, wanted.length_m)[wanted.scenario]
    if wanted.town in {town for towns in TOWNS.values() for town in towns} and not routes:
        return Scenario(wanted.town, wanted.seed, wanted.length_m)
    return custom_scenario(Path(wanted.town), routes, wanted.seed, wanted.length_m)
