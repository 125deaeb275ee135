# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Choosing a drive in the simulator: arguments of `drive` and `record`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vla_driver.settings.options import add_options, settings_from
from vla_driver.settings.scenario import ScenarioParameters
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.sim.world.scenario import Scenario


def add_scenario_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """Add --split, --index, --seed, --town, --routes and --length."""
    names = ('split', 'scenario', 'seed', 'town', 'routes', 'length_m')
    add_options(parser, ScenarioParameters, *names, defaults={'split': split})


def scenario_settings(args: argparse.Namespace) -> ScenarioParameters:
    """Return the settings that the arguments name."""
    settings = settings_from(args, ScenarioParameters)
    if not settings.town and any(settings.routes):
        raise InvalidInput('--routes belongs to a town of your own: give --town NET, too')
    return settings


def scenario_of(args: argparse.Namespace) -> Scenario:
    """Return the scenario that the arguments name."""
    from vla_driver.sim.world.scenario import chosen_scenario

    return chosen_scenario(scenario_settings(args))
