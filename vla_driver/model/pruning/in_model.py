# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruners that act inside the language model, on its own attention (FastV, SparseVLM).

Tokens leave before layer k by the attention that layer k - 1 gives them, so the layers before k hold keys and values
of all tokens and those from k on of fewer.  A backend runs one `PrefillPruning` a prefill:

    run = PrefillPruning(pruner, budget, layout, embeddings, depth)
    for number, layer in enumerate(layers):
        before, x = x, layer(x)
        if run.due(number):                        # the attention of this layer is asked for
            q = queries of take(before, run.text)  # [B, H, T, d], as the layer computes them, rotated where it rotates
            x, keep = run.step(x, q, keys)         # keys [B, Hkv, L, d] of this layer, rotated
            positions = gather(positions, keep)    # and whatever else runs along the sequence (masks, cos, sin)
    run.kept                                       # which of the N visual tokens reached the last layer
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vla_driver.model.layers.gather import take
from vla_driver.model.pruning.base import KeptTokens, best_within, camera_sizes, ranked
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.clusters import cluster_count, merge_clusters
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Layout:
    """Where a sequence of L tokens holds what.

    visual [B, N] int64: positions of the visual tokens, ascending; text [B, T] int64: positions of the tokens that may
    judge them, ascending; camera [N]: of each visual token; names: what the camera numbers mean.
    valid [B, N]: false for tokens of a missing camera (None: all are valid).
    last: how many of the text tokens, at the end, make up the end of the prompt: 1 in a causal model, where only the
    last token has read everything; all T in the native model, whose prefix is bidirectional.
    """

    visual: Tensor
    text: Tensor
    camera: Tensor
    names: tuple[str, ...]
    valid: Tensor | None = None
    last: int = 1

    def __post_init__(self) -> None:
        if self.visual.ndim != 2 or self.text.ndim != 2 or self.visual.shape[1] != len(self.camera):
            raise InvalidInput(
                f'layout: visual {tuple(self.visual.shape)}, text {tuple(self.text.shape)}, camera '
                f'{tuple(self.camera.shape)}; expected [B, N], [B, T], [N]'
            )
        if not 1 <= self.last <= self.text.shape[1]:
            raise InvalidInput(f'layout: last {self.last} of {self.text.shape[1]} text tokens; allowed: 1 to all')


@dataclass(frozen=True)
class Stage:
    """Before layer `layer` (1 <= layer < depth) all but `kept` visual tokens leave."""

    layer: int
    kept: int


@runtime_checkable
class InModelPruner(Protocol):
    """Selects tokens inside the language model.

    recycle: of the tokens that leave, the best are merged to a few (clusters.py), which count among those kept.
    """

    name: str
    recycle: bool

    def stages(self, tokens: int, budget: TokenBudget, depth: int) -> tuple[Stage, ...]:
        """Return when how many of `tokens` stay in a model of `depth` layers, by ascending layer and falling count.

        Raises `InvalidInput` where the depth or the budget does not allow it.
        """
        ...

    def judges(self, text: Tensor, visual: Tensor, last: int) -> Tensor:
        """Return which text tokens judge, bool [B, T], from the input embeddings text [B, T, D], visual [B, N, D].

        At least one in each row; last: see `Layout`.
        """
        ...


def attention_rows(queries: Tensor, keys: Tensor, visible: Tensor | None = None) -> Tensor:
    """Return the attention [B, T, L] of queries [B, H, T, d] over keys [B, Hkv, L, d]: softmax, mean over heads.

    visible: bool, broadcast to [B, H, T, L], true where a query may look (causal, no padding); None: everywhere.
    """
    with torch.autocast(queries.device.type, enabled=False):
        grouped = queries.float().unflatten(1, (keys.shape[1], -1))
        scores = grouped @ keys.float().unsqueeze(2).transpose(-1, -2) * queries.shape[-1] ** -0.5
        scores = scores.flatten(1, 2)
        if visible is not None:
            scores = scores.masked_fill(~visible, -torch.inf)
        return scores.softmax(dim=-1).mean(dim=1)


class PrefillRun:
    """A prefill in which every token stays.

    text [B, T]: positions of the text tokens in the sequence as it is now.
    """

    text: Tensor

    def due(self, layer: int) -> bool:
        """Whether `step` is to be called after `layer` (0, 1, ...)."""
        return False

    def step(
        self, layer: int, hidden: Tensor, queries: Tensor, keys: Tensor, visible: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden states [B, L', D] that go on, and where they were: keep [B, L'] int64, ascending.

        hidden [B, L, D]: what `layer` put out; queries [B, H, T, d]: this layer's, of the tokens at `self.text`;
        keys [B, Hkv, L, d]: this layer's; visible: as in `attention_rows`.  Raises `InvalidInput` where nothing is due.
        """
        raise InvalidInput(f'layer {layer}: no token leaves after it; call `step` only where `due` says so')

    @property
    def kept(self) -> KeptTokens | None:
        """Which of the N visual tokens have stayed so far, with the latest scores (-inf: gone before them)."""
        return None


#: The run of whoever keeps everything.
NOTHING_LEAVES = PrefillRun()


class PrefillPruning(PrefillRun):
    """One prefill under an in-model pruner: which stages are due, what stays, and where everything is now.

    seconds: time spent in `step`.
    """

    def __init__(
        self, pruner: InModelPruner, budget: TokenBudget, layout: Layout, embeddings: Tensor, depth: int
    ) -> None:
        """Take embeddings [B, L, D], the input of layer 0.  Raises `InvalidInput` where the budget cannot be met."""
        began = time.perf_counter()
        tokens = layout.visual.shape[1]
        self._pruner, self._budget, self._layout = pruner, budget, layout
        sizes = camera_sizes(layout.camera, len(layout.names))
        stages = check_stages(pruner, sizes, layout.names, budget, depth)
        self._stages = {stage.layer - 1: stage for stage in stages}
        self._judges = pruner.judges(take(embeddings, layout.text), take(embeddings, layout.visual), layout.last)
        self.text, self._visual = layout.text, layout.visual
        # Which of the N visual tokens are still here, in the order of self._visual.
        self._here = torch.arange(tokens, device=layout.visual.device).expand(len(layout.visual), -1)
        self._scores: Tensor | None = None
        self.seconds = time.perf_counter() - began

    def due(self, layer: int) -> bool:
        """See `PrefillRun`."""
        return layer in self._stages and self._stages[layer].kept < self._here.shape[1]

    def step(
        self, layer: int, hidden: Tensor, queries: Tensor, keys: Tensor, visible: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `PrefillRun`."""
        began = time.perf_counter()
        stage, (batch, length) = self._stages[layer], hidden.shape[:2]
        rows = torch.arange(batch, device=hidden.device).unsqueeze(1)
        seen = attention_rows(queries, keys, visible).gather(
            2, self._visual.unsqueeze(1).expand(-1, self.text.shape[1], -1)
        )
        weights = self._judges / self._judges.sum(dim=1, keepdim=True)
        scores = (weights.unsqueeze(-1) * seen).sum(dim=1)
        self._scores = scores.new_full((batch, self._layout.visual.shape[1]), -torch.inf)
        self._scores[rows, self._here] = scores
        stay, merged = self._choose(stage, hidden)
        chosen = torch.ones(batch, length, dtype=torch.bool, device=hidden.device)
        chosen[rows, self._visual] = False
        positions = self._visual.gather(1, torch.searchsorted(self._here.contiguous(), stay))
        chosen[rows, positions] = True
        if merged is not None:
            hidden = hidden.clone()
            hidden[rows, positions] = merged
        keep = chosen.nonzero()[:, 1].reshape(batch, -1)
        where = chosen.cumsum(dim=1) - 1  # old position -> new position
        self.text, self._visual, self._here = where.gather(1, self.text), where.gather(1, positions), stay
        hidden = take(hidden, keep)
        self.seconds += time.perf_counter() - began
        return hidden, keep

    @property
    def kept(self) -> KeptTokens:
        """See `PrefillRun`."""
        return KeptTokens(self._here.contiguous(), self._scores)

    def _choose(self, stage: Stage, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return which of the N tokens stay [B, K], and their hidden states [B, K, D] where some are merged."""
        assert self._scores is not None
        layout, here = self._layout, self._here
        budget = _chosen_by_score(self._pruner, self._budget, stage, here.shape[1])
        clusters = stage.kept - budget.total(len(layout.camera))
        # In scope 'camera' every row has kept as many of each camera; in scope 'global' this is not looked at.
        left = camera_sizes(layout.camera[here[0]], len(layout.names))
        scores = self._scores if layout.valid is None else ranked(self._scores, layout.valid)
        best = best_within(scores, layout.camera, layout.names, budget, left)
        if not clusters:
            return best, None
        states = hidden.new_zeros(*scores.shape, hidden.shape[-1])
        rows = torch.arange(len(here), device=here.device).unsqueeze(1)
        states[rows, here] = take(hidden, self._visual)
        centres, means = merge_clusters(
            states, scores.scatter(1, best, -torch.inf), here.shape[1] - best.shape[1], clusters
        )
        states[rows, centres] = means
        stay = torch.cat([best, centres], dim=1).sort(dim=1).values
        return stay, take(states, stay)


def check_stages(
    pruner: InModelPruner, sizes: Sequence[int], names: Sequence[str], budget: TokenBudget, depth: int
) -> tuple[Stage, ...]:
    """Return the stages of a pruner for cameras of sizes[c] tokens; raise `InvalidInput` where they are impossible."""
    if pruner.recycle and budget.scope == 'camera':
        raise InvalidInput(
            f"pruner {pruner.name!r}: recycling merges tokens across cameras and cannot keep shares; use scope 'global'"
        )
    budget.least(sizes, names)
    stages = pruner.stages(sum(sizes), budget, depth)
    before = Stage(0, sum(sizes))
    for stage in stages:
        if not (before.layer < stage.layer < depth and 1 <= stage.kept <= before.kept):
            raise InvalidInput(
                f'pruner {pruner.name!r}: {stage.kept} tokens before layer {stage.layer} after {before.kept} before '
                f'layer {before.layer}; allowed: layers 1 to {depth - 1} upwards, counts downwards'
            )
        _chosen_by_score(pruner, budget, stage, before.kept).least(sizes, names)
        before = stage
    return stages


def _chosen_by_score(pruner: InModelPruner, budget: TokenBudget, stage: Stage, before: int) -> TokenBudget:
    """Return the budget of the tokens that are kept by their score; the others of the stage are clusters."""
    clusters = cluster_count(before - stage.kept) if pruner.recycle else 0
    return dataclasses.replace(budget, ratio=None, count=max(1, stage.kept - clusters))
