# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The seam at which visual tokens are selected, between the vision encoder and the language model.

A pruner says *which* tokens stay; the model then gathers them.  Indices are sorted, so the order of the
pictures stays, and every kept token keeps its own position (ray, or M-RoPE ids), as FastDriveVLA does
(arXiv 2507.23318, section on inference).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class KeptTokens:
    """Which tokens stay: index [B, K] int64, ascending in each row; scores [B, N] where the pruner has any."""

    index: Tensor
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        if self.index.ndim != 2 or self.index.dtype != torch.int64:
            raise InvalidInput(
                f'kept tokens: index {tuple(self.index.shape)} of {self.index.dtype}, expected [B, K] int64'
            )


@runtime_checkable
class Pruner(Protocol):
    """Selects tokens before the language model."""

    name: str

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """Return what stays of tokens [B, N, D].

        text [B, T, D]: what the language model is asked, in its own embedding space (the words of a prompt; the
        native model's ego and navigation tokens), for pruners that look at it; they raise `InvalidInput`
        without it.  Raises `InvalidInput` for a budget that the tokens cannot satisfy.
        """
        ...


def keep_best(scores: Tensor, tokens: VisualTokens, budget: TokenBudget) -> KeptTokens:
    """Return the tokens of highest score [B, N] within the budget; of equal scores the first one stays."""
    batch, count = scores.shape
    cameras = [(tokens.camera == camera).nonzero()[:, 0] for camera in range(len(tokens.names))]
    sizes = [len(members) for members in cameras]
    chosen = torch.zeros(batch, count, dtype=torch.bool, device=scores.device)
    quotas = budget.shares(sizes, tokens.names) if budget.scope == 'camera' else budget.floors(sizes)
    for members, quota in zip(cameras, quotas, strict=True):
        best = scores[:, members].sort(dim=1, descending=True, stable=True).indices[:, :quota]
        chosen.scatter_(1, members[best], True)
    rest = budget.total(count) - sum(quotas)
    if rest:
        others = scores.masked_fill(chosen, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :rest]
        chosen.scatter_(1, others, True)
    return KeptTokens(chosen.nonzero()[:, 1].reshape(batch, -1), scores)
