# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vla_driver.settings.guarding import GuardingParameters
from vla_driver.settings.inputs import InputParameters
from vla_driver.settings.knob import parameter
from vla_driver.settings.policy import PolicyParameters
from vla_driver.settings.pruning import PruningParameters

#: When others are forecast.
ASKED, ALWAYS = 'asked', 'always'
FORECAST: Final = (ASKED, ALWAYS)
#: Whoever starts a planner gives it this long to load its checkpoint.
START_S: Final = 120.0


@dataclass(frozen=True)
class PlannerParameters(PruningParameters, GuardingParameters, InputParameters, PolicyParameters):
    """How old things may be that the planner plans from, and what it heeds."""

    max_age_s: float = parameter(
        0.5, 'images published longer ago are dropped, never planned from', low=0.02, high=10.0, live=True, launch=True
    )
    plan_ttl_s: float = parameter(1.0, 'nobody may act on an older plan', low=0.1, high=5.0, live=True, launch=True)
    guidance: float = parameter(
        1.0,
        'how strongly the policy heeds what the reasoner says: 0 not at all, 1 as trained, more exaggerates; another '
        'value than 1 costs the action expert twice',
        low=0.0,
        high=5.0,
        live=True,
        launch=True,
    )
    forecast: str = parameter(
        'asked',
        'when plans say where others will be: asked (while somebody listens to agents or markers, or plans are braked '
        'for others) or always; at other times it would only take time',
        choices=FORECAST,
        live=True,
        launch=True,
    )
    intent_ttl_s: float = parameter(
        3.0, 'nothing that the reasoner says counts for longer', low=0.1, high=10.0, live=True, launch=True
    )
