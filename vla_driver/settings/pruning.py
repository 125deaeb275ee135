# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of pruning; as values that go to a policy or a worker they are `policies.pruning_settings.PruningSettings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vla_driver.settings.knob import parameter

#: The pruner that keeps everything.
NO_PRUNER: Final = 'none'
#: camera: every camera keeps its own share.  global: the best tokens of all cameras, no camera below the floor.
SCOPES: Final = ('camera', 'global')


@dataclass(frozen=True)
class PruningParameters:
    """Which visual tokens stay; all of it may be changed on the running node."""

    pruner: str = parameter(
        NO_PRUNER,
        "prunes visual tokens: none, plan or recon (the checkpoint's own), recon:50, a pruner's folder, or a "
        'baseline such as uniform, random:1, divprune, vispruner, visionzip, cdpruner, prune2drive, fastv:2, '
        'sparsevlm; early:1-head prunes inside the encoder',
        live=True,
        launch=True,
        metavar='NAME',
    )
    prune_ratio: float = parameter(
        0.5, 'share of the visual tokens that is pruned', low=0.0, high=0.99, live=True, launch=True, metavar='R'
    )
    prune_count: int = parameter(
        0,
        'tokens kept over all cameras',
        low=0,
        high=65535,
        unset='as `prune_ratio` says',
        live=True,
        launch=True,
        metavar='K',
    )
    prune_scope: str = parameter(
        'global', 'camera: each keeps its share; global: the best of all stay', choices=SCOPES, live=True, launch=True
    )
    prune_floor: int = parameter(
        1, 'no camera keeps fewer tokens', low=1, high=65535, live=True, launch=True, metavar='K'
    )
    prune_camera_weights: tuple[str, ...] = parameter(
        ('',),
        "camera=weight of a camera's share with `prune_scope` camera, such as front=2.0",
        unset='all alike',
        live=True,
        launch=True,
        flag='--prune-camera-weight',
        metavar='NAME=W',
        repeat=True,
    )
