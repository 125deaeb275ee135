# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The gated feed-forward network of a decoder layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGlu(nn.Module):
    """Gated feed-forward network (arXiv 2002.05202): down(silu(gate(x)) * up(x))."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        out: Tensor = self.down(self.hidden(x))
        return out

    def hidden(self, x: Tensor) -> Tensor:
        """Return what `down` brings back to the width: [..., dim] -> [..., hidden]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return F.silu(gate) * up
