# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""In which precision a model computes: bfloat16 where the device multiplies it natively, else float32.

The environment variable VLA_DRIVER_PRECISION overrules the choice (`float32`, `bfloat16`; `auto` or nothing leaves it
to the device).  A variable, and not an argument, because it must reach every process: nodes, workers, trainers.
What is stored or reported carries the answer of `precision`, so that results of two precisions are never mixed up.

For the CPU the answer is had without torch, which takes seconds to load; only what makes tensors imports it.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import nn

VARIABLE: Final = 'VLA_DRIVER_PRECISION'
PRECISIONS: Final = ('auto', 'float32', 'bfloat16')


#: Either one multiplies bfloat16; as Linux names them.
_CPU_FLAGS: Final = frozenset({'avx512_bf16', 'amx_tile'})
_CPU_INFO: Final = Path('/proc/cpuinfo')


def bfloat16_pays(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 natively; elsewhere it would be emulated, slower than float32.

    Loads torch for a GPU only.
    """
    kind = _kind(device)
    if kind == 'cuda':
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == 'cpu' and _cpu_multiplies_bfloat16()


@functools.cache
def _cpu_multiplies_bfloat16() -> bool:
    if _CPU_INFO.exists():
        return bool(cpu_flags(_CPU_INFO.read_text(encoding='utf-8', errors='replace')) & _CPU_FLAGS)
    # Not Linux: only torch knows, and what runs without torch need not load it to be told.
    torch = sys.modules.get('torch')
    return torch is not None and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Return what the first processor in a text of /proc/cpuinfo can do; nothing where it does not say (ARM)."""
    line = next((line for line in cpuinfo.splitlines() if line.partition(':')[0].strip() == 'flags'), '')
    return frozenset(line.partition(':')[2].split())


def _kind(device: torch.device | str) -> str:
    """Return the kind of a device: 'cuda' of 'cuda:1'."""
    return str(device).partition(':')[0]


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
    import torch

    return torch.bfloat16 if precision(device) == 'bfloat16' else torch.float32


def autocast(device: torch.device | str) -> AbstractContextManager[Any]:
    """Return the context in which a model runs: autocast to bfloat16, or nothing for float32."""
    if precision(device) == 'float32':
        return nullcontext()
    import torch

    return torch.autocast(_kind(device), dtype=torch.bfloat16)


def store_for_inference(model: nn.Module, device: torch.device | str) -> None:
    """Keep the weights of matrix products in the precision in which autocast uses them.

    Otherwise autocast converts all of them on every tick, which costs some milliseconds of memory traffic.
    Norms and embeddings stay in float32.
    """
    if precision(device) == 'float32':
        return
    import torch
    from torch import nn

    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) or getattr(module, 'multiplies', False):
            module.to(torch.bfloat16)
