# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""VisionZip (arXiv 2412.04467): dominant tokens by attention, and contextual ones into which the rest is merged."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vla_driver.model.layers.gather import take
from vla_driver.model.pruning.base import KeptTokens, best_within, least_per_camera, ranked, required_attention
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.greedy import cosine
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


class VisionZip:
    """Most of the budget to dominant tokens; contextual ones lie evenly among the rest and take it in.

    contextual_share: of the budget, 10 of 64 in the paper.  A contextual token becomes itself plus the mean of those
    assigned to it (by cosine similarity), as in the authors' code.  Tokens are merged only within their camera: a token
    has the position of one camera alone.  The paper merges before the projector by the encoder's keys; here the tokens
    of the language model's space are compared and merged.
    """

    name = 'visionzip'
    needs_attention = True

    def __init__(self, contextual_share: float = 10 / 64):
        if not 0.0 <= contextual_share < 1.0:
            raise InvalidInput(f'visionzip: contextual_share {contextual_share}; allowed: 0 <= share < 1')
        self.contextual_share = contextual_share

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`; the tokens must carry their attention.  The result carries features."""
        attention = required_attention(tokens, self.name)
        least, count = least_per_camera(tokens, budget), len(tokens.camera)
        total = budget.total(count)
        if total == count:
            index = torch.arange(count, device=tokens.camera.device).expand(len(tokens.features), -1)
            return KeptTokens(index.contiguous(), attention, tokens.features)
        scores = ranked(attention, tokens.valid)
        if budget.scope == 'camera':
            quotas = [share - round(self.contextual_share * share) for share in least]
            dominant = _best_of_each(scores, tokens.camera, quotas)
            targets = _evenly_of_each(
                dominant, tokens.camera, [a - b for a, b in zip(least, quotas, strict=True)], count
            )
        else:
            few = max(total - round(self.contextual_share * total), sum(least))
            chosen = dataclasses.replace(budget, ratio=None, count=few)
            dominant = best_within(scores, tokens.camera, tokens.names, chosen)
            targets = _evenly(_others(dominant, count), total - few)
        index = torch.cat([dominant, targets], dim=1).sort(dim=1).values
        return KeptTokens(index, attention, _merged(tokens, index, targets))


def _others(index: Tensor, count: int) -> Tensor:
    """Return the indices [B, count - K], ascending, that are not in index [B, K]."""
    free = torch.ones(len(index), count, dtype=torch.bool, device=index.device).scatter_(1, index, False)
    return free.nonzero()[:, 1].reshape(len(index), -1)


def _evenly(rest: Tensor, number: int) -> Tensor:
    """Return `number` of rest [B, R] at a uniform stride."""
    return rest[:, :: max(1, rest.shape[1] // max(1, number))][:, :number]


def _best_of_each(scores: Tensor, camera: Tensor, quotas: list[int]) -> Tensor:
    best = []
    for number, quota in enumerate(quotas):
        members = (camera == number).nonzero()[:, 0]
        best.append(members[scores[:, members].sort(dim=1, descending=True, stable=True).indices[:, :quota]])
    return torch.cat(best, dim=1)


def _evenly_of_each(dominant: Tensor, camera: Tensor, quotas: list[int], count: int) -> Tensor:
    rest = _others(dominant, count)
    parts = []
    for number, quota in enumerate(quotas):
        # Every row has as many tokens of a camera left.
        parts.append(_evenly(rest[camera[rest] == number].reshape(len(rest), -1), quota))
    return torch.cat(parts, dim=1)


def _merged(tokens: VisualTokens, index: Tensor, targets: Tensor) -> Tensor:
    """Return the features [B, K, D] at index, those of the targets [B, C] with what is merged into them."""
    features, count = tokens.features, len(tokens.camera)
    if not targets.shape[1]:
        return take(features, index)
    leaving = _others(index, count)
    rows = torch.arange(len(index), device=index.device).unsqueeze(1)
    alike = cosine(take(features, leaving), take(features, targets))
    same = tokens.camera[leaving].unsqueeze(2) == tokens.camera[targets].unsqueeze(1)
    alike = alike.masked_fill(~same, -torch.inf)
    belongs = torch.nn.functional.one_hot(alike.argmax(dim=2), targets.shape[1]) * same  # [B, leaving, C]
    belongs = belongs.transpose(1, 2).to(features.dtype)
    with torch.autocast(features.device.type, enabled=False):
        mean = belongs @ take(features, leaving) / belongs.sum(dim=-1, keepdim=True).clamp(min=1.0)
    merged = features.clone()
    merged[rows, targets] += mean
    return take(merged, index)
