# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""FastV (arXiv 2403.06764): after a few layers, tokens to which the end of the prompt pays no attention leave."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.in_model import Stage
from vla_driver.types import InvalidInput


class FastV:
    """Before layer `layer` the budget's tokens stay, by the attention of layer - 1 from the end of the prompt.

    The paper's default is layer 2; its score is the attention of the prompt's last token, mean over heads (section 4).
    """

    name = 'fastv'
    recycle = False

    def __init__(self, layer: int = 2):
        if layer < 1:
            raise InvalidInput(
                f'fastv: layer {layer}; allowed: 1 (a layer must have attended before) to the last layer'
            )
        self.layer = layer

    def stages(self, tokens: int, budget: TokenBudget, depth: int) -> tuple[Stage, ...]:
        """Return the one stage."""
        if self.layer >= depth:
            raise InvalidInput(
                f'fastv: layer {self.layer} of a language model of {depth} layers; allowed: 1 to {depth - 1}'
            )
        return (Stage(self.layer, budget.total(tokens)),)

    def judges(self, text: Tensor, visual: Tensor, last: int) -> Tensor:
        """The end of the prompt judges."""
        batch, count = text.shape[:2]
        return (torch.arange(count, device=text.device) >= count - last).expand(batch, -1)
