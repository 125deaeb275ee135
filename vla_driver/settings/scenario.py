# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs that choose a drive in the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from vla_driver.settings.knob import parameter


@dataclass(frozen=True)
class ScenarioParameters:
    """Which drive is made."""

    split: str = parameter('test', 'which towns', choices=('train', 'val', 'test'), launch=True)
    scenario: int = parameter(0, 'which drive of the split', low=0, high=9999, launch=True, flag='--index', metavar='N')
    # SUMO takes no larger one.
    seed: int = parameter(
        0, 'seed of route, traffic, light and colours', low=0, high=2**31 - 2, launch=True, metavar='N'
    )
    town: str = parameter(
        '',
        'a shipped town by name, or a SUMO network (.net.xml or .net.xml.gz), to drive instead of a split',
        unset='as `split` says',
        launch=True,
        metavar='NET',
    )
    routes: tuple[str, ...] = parameter(
        ('',), "SUMO traffic of one's own `town` (.rou.xml)", unset='random traffic', launch=True, metavar='ROU'
    )
    length_m: float = parameter(
        220.0, 'least length of the route', low=50.0, high=20000.0, flag='--length', metavar='M'
    )
