# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Controls, without which no pruner's result means anything: none, random, uniform grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from vla_driver.model.pruning.base import KeptTokens, keep_best, random_scores
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.tokens import VisualTokens


class NoPruner:
    """Keeps every token, whatever the budget."""

    name = 'none'

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`."""
        index = torch.arange(len(tokens.camera), device=tokens.camera.device)
        return KeptTokens(index.expand(len(tokens.features), -1).contiguous())


class RandomPruner:
    """Keeps tokens at random within the budget: other ones for other pictures, the same ones for the same pictures.

    The draw of a row depends on the seed and on some of that row's features, so a drive repeats exactly and a row does
    not depend on the others of its batch.
    """

    name = 'random'

    def __init__(self, seed: int = 0):
        self.seed = seed

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`."""
        # A draw by rank has no scores worth showing.
        return KeptTokens(keep_best(random_scores(tokens.features[:, :, 0], self.seed), tokens, budget).index)


class UniformPruner:
    """Keeps an even grid in every image: a checkerboard at one half, every second row and column at a quarter.

    Cells are ranked by the ordered-dither matrix (Bayer 1973), whose every beginning lies evenly.  Both scopes give
    each camera its share.
    """

    name = 'uniform'

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`."""
        rows, columns = tokens.row.cpu().numpy(), tokens.column.cpu().numpy()
        rank = np.zeros_like(rows)
        for bit in range(int(max(rows.max(), columns.max())).bit_length()):
            row, column = (rows >> bit) & 1, (columns >> bit) & 1
            rank = 4 * rank + 2 * (row ^ column) + row
        scores = -torch.from_numpy(rank).float().to(tokens.row.device).expand(len(tokens.features), -1)
        everywhere = dataclasses.replace(tokens, valid=torch.ones_like(tokens.valid))
        return KeptTokens(keep_best(scores, everywhere, dataclasses.replace(budget, scope='camera')).index)
