# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""SparseVLM (arXiv 2410.04417): tokens leave in three steps, judged by the text tokens that look at the pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.in_model import Stage
from vla_driver.types import InvalidInput

#: Where tokens leave, as shares of the depth: before layers 2, 6 and 16 of 32, as the authors count tokens (2 layers
#: read 576, 4 the first count, 10 the second, 16 the third: score.py).  Their code lets them leave behind layers 2, 6
#: and 15.
STAGE_DEPTHS = (2 / 32, 6 / 32, 16 / 32)

#: Over which layers the budget is the average count of visual tokens.
#: average: over all, as published.  pruned: over those after the first step, as FastV counts; a model of few layers
#: cannot reach a small average, because the first layers always read everything.
TARGETS = ('average', 'pruned')


class SparseVlm:
    """Progressive pruning.  The counts fall by one factor from step to step, so that their average is the budget.

    recycle: the best of the leaving tokens are merged to clusters, which count among those kept; every token, merged
    or not, keeps a position of its own (the published code renumbers them, which loses the places in the picture).
    """

    name = 'sparsevlm'

    def __init__(self, target: str = 'average', recycle: bool = True):
        if target not in TARGETS:
            raise InvalidInput(f'sparsevlm: target {target!r}; allowed: {", ".join(TARGETS)}')
        self.target, self.recycle = target, recycle

    def stages(self, tokens: int, budget: TokenBudget, depth: int) -> tuple[Stage, ...]:
        """Return up to three stages whose layer-weighted mean count is the budget, to within rounding."""
        layers = sorted({max(1, round(share * depth)) for share in STAGE_DEPTHS})
        if layers[-1] >= depth:
            raise InvalidInput(f'sparsevlm: a language model of {depth} layer(s); it needs at least 2')
        spans = [after - before for before, after in zip(layers, [*layers[1:], depth], strict=True)]
        wanted = float(budget.total(tokens))
        if wanted == tokens:
            return ()
        if self.target == 'average':
            wanted = (depth * wanted - layers[0] * tokens) / (depth - layers[0])
            if wanted < 1.0:
                least = layers[0] / depth + 1.0 / tokens
                raise InvalidInput(
                    f'sparsevlm: {budget.total(tokens)} of {tokens} visual tokens on average over {depth} layers; the '
                    f'first {layers[0]} always read all, so keep at least {least:.0%}, or count from the first step on '
                    "(pruner 'sparsevlm:pruned')"
                )

        def mean(factor: float) -> float:
            counts = [tokens * factor ** (step + 1) for step in range(len(spans))]
            return sum(span * count for span, count in zip(spans, counts, strict=True)) / sum(spans)

        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if mean(middle) < wanted else (low, middle)
        counts = [max(1, round(tokens * high ** (step + 1))) for step in range(len(spans))]
        return tuple(Stage(layer, count) for layer, count in zip(layers, counts, strict=True))

    def judges(self, text: Tensor, visual: Tensor, last: int) -> Tensor:
        """Raters: text tokens that get more than the mean of softmax_text(V T^T), averaged over the visual tokens."""
        with torch.autocast(text.device.type, enabled=False):
            share = (visual.float() @ text.float().transpose(1, 2)).softmax(dim=-1).mean(dim=1)
        raters = share > share.mean(dim=1, keepdim=True)
        return raters | ~raters.any(dim=1, keepdim=True)
