# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of a batch, each at places of its own."""

from __future__ import annotations

import torch
from torch import Tensor


def take(x: Tensor, index: Tensor) -> Tensor:
    """Return x [B, N, ...] at index [B, K] of each row: [B, K, ...]."""
    return x[torch.arange(len(index), device=index.device).unsqueeze(1), index]
