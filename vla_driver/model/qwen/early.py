# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Early pruning (model/pruning/early.py) in the vision encoders of Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.early import EarlyPruner
from vla_driver.model.qwen.vision import EarlyExit, Grids
from vla_driver.model.tokens import VisualTokens


def early_exit(
    pruner: EarlyPruner, budget: TokenBudget, grids: Grids, names: tuple[str, ...], missing: tuple[str, ...] = ()
) -> EarlyExit:
    """Return what `VisionTower.encode` needs to prune pictures of `grids` from the cameras `names`.

    Pictures of `missing` cameras give no more than the floor.
    """

    def choose(states: Tensor, received: Callable[[], Tensor]) -> Tensor:
        rows, attention = states.unsqueeze(0), received().unsqueeze(0) if pruner.source == 'attention' else None
        return pruner.choose(rows, attention, unit_tokens(states, grids, names, missing), budget).index[0]

    return EarlyExit(pruner.block, choose)


def unit_tokens(states: Tensor, grids: Grids, names: tuple[str, ...], missing: tuple[str, ...] = ()) -> VisualTokens:
    """Return hidden states [U, patches, d] as the tokens of a `TokenBudget`: features [1, U, d] are patch means."""
    camera, row, column = (x.to(states.device) for x in grids.places())
    absent = torch.tensor([name in missing for name in names], device=states.device)
    nowhere = torch.zeros(1, grids.units, 3, device=states.device)
    return VisualTokens(
        states.mean(dim=1).unsqueeze(0), camera, row, column, nowhere, nowhere, ~absent[camera].unsqueeze(0), names
    )
