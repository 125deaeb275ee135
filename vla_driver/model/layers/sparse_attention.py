# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Local and strided attention (model/attention_pattern.py), by reshaping into dense attention.

Both parts are dense attention over a view of the tokens, so they run wherever that runs, with gradients.
`flex_attention.py` computes the same as one kernel on CUDA, `masked_local_strided` by masks, for graphs.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_driver.model.attention_pattern import GRAIN, LocalStrided
from vla_driver.model.layers.attention import attention
from vla_driver.types import InvalidInput

#: The widest window that a graph chooses by itself, in `GRAIN`s or units; enough for a million tokens.
_MOST_GRAINS: Final = 64


def local_strided_attention(
    q: Tensor, k: Tensor, v: Tensor, pattern: LocalStrided, *, causal: bool = False, valid: Tensor | None = None
) -> Tensor:
    """Attend q [B, H, N, d] over k, v [B, Hkv, N, d] (H even, a multiple of Hkv): [B, N, H * d].

    valid [B, N]: false for keys that nobody sees but themselves; what comes out at such places means nothing.
    Raises `InvalidInput` for another count of heads.
    """
    tokens, window = q.shape[2], pattern.window
    beyond = -tokens % window
    if beyond:
        if valid is None:
            valid = torch.ones(1, tokens, dtype=torch.bool, device=q.device)
        valid = F.pad(valid, (0, beyond))
        q, k, v = (F.pad(x, (0, 0, 0, beyond)) for x in (q, k, v))
    if valid is not None:
        valid = valid.expand(len(q), -1)
    near, far = halves(q, k, v)
    local = (_causal_local if causal else _local)(*near, window=window, valid=valid)
    strided = _strided(*far, pattern=pattern, causal=causal, valid=valid)
    return torch.cat([local, strided], dim=-1)[:, :tokens]


def masked_local_strided(q: Tensor, k: Tensor, v: Tensor, window: int = 0, unit: int = 1) -> Tensor:
    """Return `local_strided_attention`, not causal, by masks over all pairs of tokens; window, unit: of the pattern.

    For graphs, which learn only when they run how many tokens there are: how these are cut into windows then has no
    ONNX.  Of the few hundred tokens of a tick, all pairs cost no more than the cutting does.
    """
    at = torch.arange(q.shape[2], device=q.device)
    width = _width_for(at, unit) if window == 0 else window
    places = at // width, (at // unit) % (width // unit)
    apart = [(place.unsqueeze(1) != place.unsqueeze(0)).expand(len(q), -1, -1) for place in places]
    near, far = halves(q, k, v)
    return torch.cat([attention(*near, apart[0]), attention(*far, apart[1])], dim=-1)


def _width_for(at: Tensor, unit: int) -> Tensor:
    """Return the window of `LocalStrided.of` for tokens at [N], in whole numbers throughout: a root may be rounded."""
    grain = math.lcm(GRAIN, unit)
    least = (grain * torch.arange(1, _MOST_GRAINS, device=at.device)).square()
    return grain * (1 + (least < (at[-1] + 1) * unit).sum())


def cached_local_strided(q: Tensor, k: Tensor, v: Tensor, pattern: LocalStrided) -> Tensor:
    """Attend the last T tokens, q [B, H, T, d], over keys and values of all N, causally: [B, T, H * d].

    Equals the last rows of the causal `local_strided_attention` of all.  One token after the other, each on the
    W + N * u / W keys that it sees: meant for a few.
    """
    (near_q, near_k, near_v), (far_q, far_k, far_v) = halves(q, k, v)
    tokens, new = k.shape[2], q.shape[2]
    rows = []
    for row in range(new):
        at = tokens - new + row
        window = slice(max(0, at + 1 - pattern.window), at + 1)
        near = attention(near_q[:, :, row : row + 1], near_k[:, :, window], near_v[:, :, window])
        if pattern.unit == 1:
            seen: slice | Tensor = slice(at % pattern.window, at + 1, pattern.window)
        else:
            starts = torch.arange((at // pattern.unit) % pattern.classes, at // pattern.unit + 1, pattern.classes)
            seen = (starts.unsqueeze(1) * pattern.unit + torch.arange(pattern.unit)).flatten()
            seen = seen[seen <= at].to(q.device)
        far = attention(far_q[:, :, row : row + 1], far_k[:, :, seen], far_v[:, :, seen])
        rows.append(torch.cat([near, far], dim=-1))
    return torch.cat(rows, dim=1)


_Part = tuple[Tensor, Tensor, Tensor]


def halves(q: Tensor, k: Tensor, v: Tensor) -> tuple[_Part, _Part]:
    """Return (q, k, v) of the local heads, and of the strided ones; keys that both halves share are repeated."""
    heads, kv_heads = q.shape[1], k.shape[1]
    if heads % 2 or heads % kv_heads:
        raise InvalidInput(
            f'{heads} heads over {kv_heads} of keys and values; local and strided attention share an even number of '
            'heads, which the heads of keys and values divide'
        )
    if kv_heads == 1:
        return (q[:, : heads // 2], k, v), (q[:, heads // 2 :], k, v)
    if kv_heads % 2:
        k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    (q1, q2), (k1, k2), (v1, v2) = (x.chunk(2, dim=1) for x in (q, k, v))
    return (q1, k1, v1), (q2, k2, v2)


def _local(q: Tensor, k: Tensor, v: Tensor, window: int, valid: Tensor | None) -> Tensor:
    """[B, h, N, d], N a multiple of the window -> [B, N, h * d]: every window by itself."""
    batch, heads, tokens, dim = q.shape
    q, k, v = (_in_windows(x, window) for x in (q, k, v))
    apart = None if valid is None else _apart(valid.reshape(-1, window))
    return attention(q, k, v, apart).reshape(batch, tokens, heads * dim)


def _in_windows(x: Tensor, window: int) -> Tensor:
    """[B, h, N, d] -> [B * N / window, h, window, d]."""
    return x.unflatten(2, (-1, window)).transpose(1, 2).flatten(0, 1)


def _causal_local(q: Tensor, k: Tensor, v: Tensor, window: int, valid: Tensor | None) -> Tensor:
    """Return the same for the last `window` tokens of each: those of its own block and of the one before, masked."""
    batch, heads, tokens, dim = q.shape
    # A block of nothing stands before the first one.
    k, v = (F.pad(x, (0, 0, window, 0)) for x in (k, v))
    k, v = (torch.cat([_in_windows(x[:, :, :-window], window), _in_windows(x[:, :, window:], window)], dim=2)
            for x in (k, v))  # fmt: skip
    row, column = torch.arange(window, device=q.device).unsqueeze(1), torch.arange(2 * window, device=q.device)
    if valid is None:
        valid = torch.ones(batch, tokens, dtype=torch.bool, device=q.device)
    before = F.pad(valid, (window, 0))
    known = torch.stack([before[:, :-window], before[:, window:]], dim=1).unflatten(2, (-1, window))
    known = known.transpose(1, 2).flatten(0, 1).flatten(1)  # [B * N / window, 2 * window]
    apart = (column > row + window) | (column <= row) | (~known.unsqueeze(1) & (column != row + window))
    return attention(_in_windows(q, window), k, v, apart).reshape(batch, tokens, heads * dim)


def _strided(q: Tensor, k: Tensor, v: Tensor, pattern: LocalStrided, causal: bool, valid: Tensor | None) -> Tensor:
    """[B, h, N, d], N a multiple of the window -> [B, N, h * d]: every class by itself."""
    batch, heads, tokens, dim = q.shape
    classes, unit = pattern.classes, pattern.unit
    q, k, v = (
        x.unflatten(2, (-1, classes, unit)).permute(0, 3, 1, 2, 4, 5).flatten(3, 4).flatten(0, 1) for x in (q, k, v)
    )
    apart = None
    if valid is not None:
        apart = _apart(valid.unflatten(1, (-1, classes, unit)).transpose(1, 2).reshape(batch * classes, -1))
    if causal:
        later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
        apart = later.expand(len(q), -1, -1) if apart is None else apart | later
    mixed = attention(q, k, v, apart).unflatten(0, (batch, classes)).unflatten(2, (-1, unit))
    return mixed.transpose(1, 2).reshape(batch, tokens, heads * dim)


def _apart(valid: Tensor) -> Tensor:
    """Return [G, n, n] of valid [G, n]: nobody sees what is not valid but that itself, or it would see nothing."""
    itself = torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
    return ~(valid.unsqueeze(1) | itself)
