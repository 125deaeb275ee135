# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where bfloat16 pays: the autocast context of training and driving, and weights stored for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn


def bfloat16_pays(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 natively; elsewhere it would be emulated, slower than float32."""
    kind = torch.device(device).type
    if kind == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()) if kind == 'cpu' else False


def autocast(device: torch.device | str) -> AbstractContextManager[Any]:
    """Return the context in which the model runs: bfloat16 autocast where it pays, else nothing."""
    if not bfloat16_pays(device):
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def store_for_inference(model: nn.Module, device: torch.device | str) -> None:
    """Keep the weights of matrix products in the precision in which autocast uses them.

    Otherwise autocast converts all of them on every tick, which costs some milliseconds of memory traffic.
    Norms and embeddings stay in float32.
    """
    if not bfloat16_pays(device):
        return
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(torch.bfloat16)
