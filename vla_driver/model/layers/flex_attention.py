# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The sparse pattern as one FlexAttention kernel (arXiv 2412.05496), which skips tiles that nobody sees.

For CUDA.  On the CPU it runs forward only, and is here for the comparison with `sparse_attention.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from vla_driver.model.attention_pattern import LocalStrided
from vla_driver.model.layers.sparse_attention import halves, local_strided_attention

#: Tiles of the kernel.  A stride in smaller units leaves no tile empty: nothing would be skipped.
TILES: Final = (64, 128)


@lru_cache(maxsize=64)
def block_mask(tokens: int, pattern: LocalStrided, heads: int, causal: bool, device: str) -> Any:
    """Return which tiles of N x N `heads` heads compute, the first half local and the others strided."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(_: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        # One expression, not a choice: the kernel traces it.
        near = head < heads // 2
        return (near & pattern.local(i, j, causal)) | (~near & pattern.strided(i, j, causal))

    tile = max((size for size in TILES if pattern.unit % size == 0), default=TILES[-1])
    return create_block_mask(seen, None, heads, tokens, tokens, device=device, BLOCK_SIZE=tile)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def flex_local_strided(
    q: Tensor, k: Tensor, v: Tensor, pattern: LocalStrided, *, causal: bool = False, compiled: bool = True
) -> Tensor:
    """Return what `local_strided_attention` does; compiled: false runs the definition, slowly."""
    from torch.nn.attention.flex_attention import flex_attention

    halves(q, k, v)  # refuses heads that do not fit
    mask = block_mask(q.shape[2], pattern, q.shape[1], causal, str(q.device))
    kernel: Any = _compiled() if compiled else flex_attention
    mixed: Tensor = kernel(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    return mixed.transpose(1, 2).flatten(2)


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, pattern: LocalStrided, *, causal: bool = False) -> Tensor:
    """Return `local_strided_attention`, on CUDA by one kernel where the pattern lets it skip tiles."""
    if q.is_cuda and pattern.unit % TILES[0] == 0:
        return flex_local_strided(q, k, v, pattern, causal=causal)
    return local_strided_attention(q, k, v, pattern, causal=causal)
