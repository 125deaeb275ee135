# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""In which precision a model computes: bfloat16 where the device multiplies it natively, else float32.

The environment variable VLA_DRIVER_PRECISION overrules the choice (`float32`, `bfloat16`; `auto` or nothing leaves it
to the device).  A variable, and not an argument, because it must reach every process: nodes, workers, trainers.
What is stored or reported carries the answer of `precision`, so that results of two precisions are never mixed up.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from torch import nn

from vla_driver.types import InvalidInput

VARIABLE: Final = 'VLA_DRIVER_PRECISION'
PRECISIONS: Final = ('auto', 'float32', 'bfloat16')


def bfloat16_pays(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 natively; elsewhere it would be emulated, slower than float32."""
    kind = torch.device(device).type
    if kind == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()) if kind == 'cpu' else False


def precision(device: torch.device | str) -> str:
    """Return the precision in which models compute on a device: 'bfloat16' or 'float32'.

    Raises `InvalidInput` for a value of VLA_DRIVER_PRECISION that is none of `PRECISIONS`.
    """
    wanted = os.environ.get(VARIABLE, '') or 'auto'
    if wanted not in PRECISIONS:
        raise InvalidInput(f'{VARIABLE} is {wanted!r}, allowed: {", ".join(PRECISIONS)}')
    if wanted != 'auto':
        return wanted
    return 'bfloat16' if bfloat16_pays(device) else 'float32'


def weight_type(device: torch.device | str) -> torch.dtype:
    """Return `precision` as torch's type."""
    return torch.bfloat16 if precision(device) == 'bfloat16' else torch.float32


def autocast(device: torch.device | str) -> AbstractContextManager[Any]:
    """Return the context in which a model runs: autocast to bfloat16, or nothing for float32."""
    if precision(device) == 'float32':
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def store_for_inference(model: nn.Module, device: torch.device | str) -> None:
    """Keep the weights of matrix products in the precision in which autocast uses them.

    Otherwise autocast converts all of them on every tick, which costs some milliseconds of memory traffic.
    Norms and embeddings stay in float32.
    """
    if precision(device) == 'float32':
        return
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(torch.bfloat16)
