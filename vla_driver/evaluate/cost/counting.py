# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Operations, counted while real modules run; and stages of pruning whose choice costs what it costs, whatever it is.

On the "meta" device nothing is computed, so nothing can be chosen: a counted stage counts what choosing takes and
keeps as many tokens as it should, drawn without looking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from vla_driver.model.pruning.base import KeptTokens, camera_sizes
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.in_model import InModelPruner, Layout, PrefillRun, check_stages
from vla_driver.model.pruning.stage import BeforeBlock, BehindEncoder, TokenStage, Units, WithinPrefill
from vla_driver.model.pruning.trained.early import EarlyPruner
from vla_driver.model.tokens import VisualTokens


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


#: torch's counter knows the fused attention of every device but the CPU's.
_CPU_ATTENTION: Final = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def counted(call: Callable[[], Any]) -> tuple[Any, int]:
    """Return what `call` returns, and the operations it took; of nested calls the outer one counts all."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        value = call()
    return value, int(counter.get_total_flops())


def scattered(tokens: int, keep: int) -> Tensor:
    """Return `keep` of `tokens` numbers, the same on every device: how full windows are depends on who stays."""
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(0))
    return order[:keep].sort().values


class CountedBeforeBlock(BeforeBlock):
    """flops: of the head, which scores the units; they are among those of the encoder, too."""

    def __init__(self, pruner: EarlyPruner, budget: TokenBudget) -> None:
        super().__init__(pruner, budget)
        self.flops = 0

    def before_block(self, number: int, units: Callable[[], Units]) -> KeptTokens | None:
        """See `TokenStage`."""
        if number != self.pruner.block:
            return None
        states = units().states
        if self.pruner.head is not None:
            self.flops += counted(lambda: self.pruner.head(states.float()))[1]  # type: ignore[misc]
        return KeptTokens(scattered(states.shape[1], self.budget.total(states.shape[1])).unsqueeze(0))


class CountedBehindEncoder(BehindEncoder):
    """flops: of scoring and choosing, as `scoring(pruner, budget, tokens, text)` counts them."""

    def __init__(self, pruner: Any, budget: TokenBudget, scoring: Callable[..., int]) -> None:
        super().__init__(pruner, budget)
        self._scoring, self.flops = scoring, 0

    def behind_encoder(self, tokens: VisualTokens, text: Tensor) -> KeptTokens | None:
        """See `TokenStage`."""
        self.flops += self._scoring(self.pruner, self.budget, tokens, text)
        return KeptTokens(torch.arange(self.budget.total(len(tokens.camera))).unsqueeze(0))


class CountedWithinPrefill(WithinPrefill):
    """flops: of the scores; they are among those of the prefill, too."""

    def __init__(self, pruner: InModelPruner, budget: TokenBudget) -> None:
        super().__init__(pruner, budget)
        self._counted: _CountedRun | None = None

    def within_prefill(
        self, tokens: VisualTokens, layout: Callable[[], Layout], embeddings: Tensor, depth: int
    ) -> PrefillRun:
        """See `TokenStage`."""
        self._counted = _CountedRun(self.pruner, self.budget, layout(), embeddings, depth)
        return self._counted

    @property
    def flops(self) -> int:
        """The operations of the scores so far."""
        return 0 if self._counted is None else self._counted.flops


class CountedNothing(TokenStage):
    """The stage that keeps everything, counted: it takes nothing."""

    flops = 0


CountedStage = CountedBeforeBlock | CountedBehindEncoder | CountedWithinPrefill | CountedNothing


def counted_stage(stage: TokenStage, scoring: Callable[..., int]) -> CountedStage:
    """Return the counted form of a stage; scoring: as in `CountedBehindEncoder`."""
    forms: dict[type[TokenStage], Callable[[Any], CountedStage]] = {
        TokenStage: lambda plain: CountedNothing(),
        BeforeBlock: lambda plain: CountedBeforeBlock(plain.pruner, plain.budget),
        BehindEncoder: lambda plain: CountedBehindEncoder(plain.pruner, plain.budget, scoring),
        WithinPrefill: lambda plain: CountedWithinPrefill(plain.pruner, plain.budget),
    }
    return forms[type(stage)](stage)


class _CountedRun(PrefillRun):
    """An in-model pruner's stages without its choice: the operations of its scores are counted, values never matter.

    Merging of what leaves (SparseVLM's recycling) is not among the counted operations: it is a few distances.
    """

    def __init__(
        self, pruner: InModelPruner, budget: TokenBudget, layout: Layout, embeddings: Tensor, depth: int
    ) -> None:
        sizes = camera_sizes(layout.camera, len(layout.names))
        stages = check_stages(pruner, sizes, layout.names, budget, depth)
        self._stages = {stage.layer - 1: stage.kept for stage in stages}
        self._visual = layout.visual[0]
        self._home = layout.visual.device  # of the model, but for one on "meta", whose places are real
        #: Judges: in a causal model FastV's is the last token; SparseVLM's are some of the text, counted as all.
        every = torch.ones(embeddings.shape[1], dtype=torch.bool)
        every[self._visual.cpu()] = False
        self.text = every.nonzero()[:, 0].to(self._home).unsqueeze(0)
        self.flops = 0

    def due(self, layer: int) -> bool:
        """See `PrefillRun`."""
        return layer in self._stages and self._stages[layer] < len(self._visual)

    def step(
        self, layer: int, hidden: Tensor, queries: Tensor, keys: Tensor, visible: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `PrefillRun`."""
        del visible  # a mask costs no multiplications
        # `attention_rows` itself does not run on "meta"; its product of queries and keys is what it costs.
        grouped = queries.unflatten(1, (keys.shape[1], -1))
        self.flops += counted(lambda: grouped @ keys.unsqueeze(2).transpose(-1, -2))[1]
        leaving = self._visual[self._stages[layer] :]
        keep = torch.ones(hidden.shape[1], dtype=torch.bool)
        keep[leaving.cpu()] = False
        where = keep.cumsum(0) - 1
        self.text = where[self.text.cpu()].to(self.text.device)
        self._visual = where[self._visual[: self._stages[layer]].cpu()]
        places = keep.nonzero()[:, 0].unsqueeze(0).to(self._home)
        return hidden[:, places[0].to(hidden.device)], places
