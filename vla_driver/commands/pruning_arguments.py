# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""--pruner, --prune-ratio and the rest: arguments of `replay`, `demo`, `drive` and parts of `evaluate`."""

from __future__ import annotations

import argparse
from typing import Any

from vla_driver.policies.pruning_settings import NO_PRUNER, SCOPES, PruningSettings, camera_weights
from vla_driver.types import InvalidInput


def add_pruning_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a pruner and its budget."""
    group = parser.add_argument_group('pruning of visual tokens')
    group.add_argument(
        '--pruner',
        default=NO_PRUNER,
        metavar='NAME',
        help="recon (the checkpoint's own), a folder of ReconPruner weights, or a baseline such as uniform, random:1, "
        'divprune, vispruner, visionzip, cdpruner, prune2drive, fastv:2, sparsevlm; early:1-head prunes inside the '
        'encoder (default: none)',
    )
    amount = group.add_mutually_exclusive_group()
    amount.add_argument('--prune-ratio', type=float, metavar='R', help='share of the tokens pruned (default: 0.5)')
    amount.add_argument('--prune-count', type=int, metavar='K', help='tokens kept, over all cameras')
    group.add_argument('--prune-scope', choices=SCOPES, default='global', help='a share per camera, or the best of all')
    group.add_argument('--prune-floor', type=int, default=1, metavar='K', help='no camera keeps fewer (default: 1)')
    group.add_argument(
        '--prune-camera-weight',
        action='append',
        default=[],
        metavar='NAME=W',
        help="weight of a camera's share with --prune-scope camera, e.g. front=2 (repeatable)",
    )


def pruning_settings(args: argparse.Namespace) -> PruningSettings:
    """Return the settings that the arguments name; raise InvalidInput for a budget out of range or without pruner."""
    if args.pruner == NO_PRUNER and (args.prune_ratio is not None or args.prune_count is not None):
        raise InvalidInput('--prune-ratio and --prune-count need a pruner: give --pruner, too')
    settings = PruningSettings(
        args.pruner,
        0.5 if args.prune_ratio is None else args.prune_ratio,
        args.prune_count,
        args.prune_scope,
        args.prune_floor,
        camera_weights(args.prune_camera_weight),
    )
    settings.budget()
    return settings


def planner_parameters(settings: PruningSettings) -> dict[str, Any]:
    """Return the planner node's parameters for these settings."""
    return {
        'pruner': settings.pruner,
        'prune_ratio': float(settings.ratio),
        'prune_count': settings.count or 0,
        'prune_scope': settings.scope,
        'prune_floor': settings.floor,
        'prune_camera_weights': [f'{name}={weight}' for name, weight in settings.weights.items()] or [''],
    }


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
