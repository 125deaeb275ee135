# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which drives a split and a seed stand for."""

from __future__ import annotations

import itertools

import pytest

from vla_driver.sim.world.scenario import scenarios

SEEDS = (0, 1, 99, 100, 101, 201, 801, 5001)


def test_no_drive_of_one_split_and_seed_is_one_of_another() -> None:
    """What a drive looks like follows from its seed: trained on, the looks of a test would not be unseen."""
    drives = {
        (split, seed): {scenario.seed for scenario in scenarios(split, 10_000, seed)}
        for split in ('train', 'val', 'test')
        for seed in SEEDS
    }
    for one, other in itertools.combinations(drives, 2):
        assert not drives[one] & drives[other], (one, other)


@pytest.mark.parametrize(('split', 'first'), [('train', 1_000_000), ('val', 2_000_000), ('test', 3_000_000)])
def test_the_first_seeds_stay_what_they_were(split: str, first: int) -> None:
    for seed in (0, 1, 99):
        assert [scenario.seed for scenario in scenarios(split, 3, seed)] == [
            first + 10_000 * seed + k for k in range(3)
        ]


def test_every_seed_fits_sumo() -> None:
    assert all(scenario.seed < 2**31 for scenario in scenarios('test', 100, 5001))
