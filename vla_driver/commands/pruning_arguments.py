# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""--pruner, --prune-ratio and the rest: arguments of `replay`, `demo`, `drive` and parts of `evaluate`."""

from __future__ import annotations

import argparse
from typing import Any

from vla_driver.policies.pruning_settings import PruningSettings, parameters_of, settings_of
from vla_driver.settings.knob import as_parameters, knobs
from vla_driver.settings.options import add_options, settings_from
from vla_driver.settings.pruning import NO_PRUNER, PruningParameters
from vla_driver.types import InvalidInput


def add_pruning_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a pruner and its budget."""
    group = parser.add_argument_group('pruning of visual tokens')
    add_options(group, PruningParameters, 'pruner')
    add_options(group.add_mutually_exclusive_group(), PruningParameters, 'prune_ratio', 'prune_count')
    group.set_defaults(prune_ratio=None)  # whether it was given makes a difference
    add_sharing_arguments(group)


def add_sharing_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that say how the cameras share the budget."""
    names = [name for name in knobs(PruningParameters) if name not in ('pruner', 'prune_ratio', 'prune_count')]
    add_options(parser, PruningParameters, *names)


def pruning_settings(args: argparse.Namespace) -> PruningSettings:
    """Return the settings that the arguments name; raise InvalidInput for a budget without pruner, or out of range."""
    if args.pruner == NO_PRUNER and (args.prune_ratio is not None or args.prune_count is not None):
        raise InvalidInput('--prune-ratio and --prune-count need a pruner: give --pruner, too')
    settings = settings_of(settings_from(args, PruningParameters))
    settings.budget()
    return settings


def sharing_settings(args: argparse.Namespace) -> PruningSettings:
    """Return settings without pruner whose budget is shared among the cameras as the arguments say."""
    return settings_of(settings_from(args, PruningParameters))


def planner_parameters(settings: PruningSettings) -> dict[str, Any]:
    """Return the planner node's parameters for these settings."""
    return as_parameters(parameters_of(settings))


def pruning_json(settings: PruningSettings) -> dict[str, Any]:
    """Return the settings for a --json file."""
    if not settings.active:
        return {'pruner': NO_PRUNER}
    return {
        'pruner': settings.pruner,
        'ratio': None if settings.count is not None else settings.ratio,
        'count': settings.count,
        'scope': settings.scope,
        'floor': settings.floor,
        'weights': dict(settings.weights),
    }
