# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467) over the last axis."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., dim]."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
