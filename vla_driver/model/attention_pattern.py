# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Who sees whom in sparse attention: half of the heads a window around each token, the others one token in so many.

The pattern is that of the Sparse Transformer (arXiv 1904.10509, "strided"), the two parts on separate heads.  With a
window of W tokens, units of u tokens and C = W / u classes, token i sees token j

    local      where i // W == j // W                        causal: where i - W < j <= i
    strided    where (i // u) % C == (j // u) % C            causal: and j <= i

A whole window holds every class, so two layers connect everything (causal: everything before).  That is why the causal
window slides: cut into blocks, a token would never see those that stand further right in earlier blocks, at any depth.
A token sees W + N * u / W others, the fewest for W = sqrt(N * u); N tokens then cost about N ** 1.5.  The stride does
not depend on N, so that keys and values can be cached while a text grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from vla_driver.types import InvalidInput

#: Windows are multiples of this: products of such sizes waste no lane of vector and matrix units.
GRAIN: Final = 16


@dataclass(frozen=True)
class LocalStrided:
    """Who sees whom: windows of `window` tokens, a stride of as many, in units of `unit` tokens that stay together.

    Raises `InvalidInput` for a window that is not a positive multiple of the unit.
    """

    window: int
    unit: int = 1

    def __post_init__(self) -> None:
        if self.unit < 1 or self.window < self.unit or self.window % self.unit:
            raise InvalidInput(
                f'attention window {self.window}, unit {self.unit}; expected a unit of at least 1 and a window that is '
                'a multiple of it (or window 0: chosen by the number of tokens)'
            )

    @staticmethod
    def of(tokens: int, window: int = 0, unit: int = 1) -> LocalStrided:
        """Return the pattern for so many tokens; window 0: the least one >= sqrt(tokens * unit) that computes well."""
        if window == 0 and unit >= 1:
            grain = math.lcm(GRAIN, unit)
            window = grain * max(1, math.ceil(math.sqrt(tokens * unit) / grain))
        return LocalStrided(window, unit)

    @property
    def classes(self) -> int:
        """How many sets of tokens the strided heads keep apart."""
        return self.window // self.unit

    def local(self, i: Tensor, j: Tensor, causal: bool) -> Tensor:
        """Whether queries at positions i see keys at j, in the first half of the heads; positions int64, broadcast."""
        if causal:
            return (j <= i) & (j > i - self.window)
        return i // self.window == j // self.window

    def strided(self, i: Tensor, j: Tensor, causal: bool) -> Tensor:
        """Return the same for the second half."""
        together = (i // self.unit) % self.classes == (j // self.unit) % self.classes
        return together & (j <= i) if causal else together

    def seen(self, tokens: int, causal: bool = False) -> Tensor:
        """Return who sees whom as a dense mask [2, N, N] bool: local, strided."""
        at = torch.arange(tokens)
        i, j = at.unsqueeze(1), at.unsqueeze(0)
        return torch.stack([self.local(i, j, causal), self.strided(i, j, causal)])
