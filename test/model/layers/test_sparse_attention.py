# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Sparse attention equals attention under its dense mask, connects everything in two layers, and can be cached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.attention_pattern import LocalStrided
from vla_driver.model.layers.flex_attention import block_mask, flex_local_strided
from vla_driver.model.layers.sparse_attention import cached_local_strided, local_strided_attention, masked_local_strided
from vla_driver.types import InvalidInput

#: (tokens, window, unit): whole windows, a rest, fewer tokens than a window, units, a rest within a unit.
_SIZES = [(96, 16, 1), (101, 16, 1), (7, 16, 1), (96, 24, 8), (101, 24, 8), (1, 16, 1), (60, 60, 1), (33, 8, 8)]


def _dense(q: Tensor, k: Tensor, v: Tensor, pattern: LocalStrided, causal: bool, valid: Tensor | None = None) -> Tensor:
    """Return the same by the dense mask, as [B, N, H * d]."""
    heads, tokens = q.shape[1], q.shape[2]
    mask = pattern.seen(tokens, causal).repeat_interleave(heads // 2, dim=0).unsqueeze(0)
    if valid is not None:
        mask = mask & (valid[:, None, None, :] | torch.eye(tokens, dtype=torch.bool))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


def _drawn(tokens: int, heads: int = 4, kv_heads: int = 4, dim: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, h, tokens, dim).requires_grad_() for h in (heads, kv_heads, kv_heads))  # type: ignore[return-value]


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize(('tokens', 'window', 'unit'), _SIZES)
def test_equals_the_dense_mask(tokens: int, window: int, unit: int, causal: bool) -> None:
    """Forward and backward."""
    pattern = LocalStrided(window, unit)
    inputs = _drawn(tokens)
    got, want = local_strided_attention(*inputs, pattern, causal=causal), _dense(*inputs, pattern, causal)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(want)
    ones, others = (torch.autograd.grad((out * weight).sum(), inputs) for out in (got, want))
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(('tokens', 'window', 'unit'), [*_SIZES, (1, 0, 1), (256, 0, 1), (257, 0, 1), (300, 0, 12)])
def test_equals_what_graphs_compute(tokens: int, window: int, unit: int) -> None:
    inputs = _drawn(tokens)
    got = masked_local_strided(*inputs, window, unit)
    want = local_strided_attention(*inputs, LocalStrided.of(tokens, window, unit))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize(('heads', 'kv_heads'), [(8, 4), (8, 2), (8, 1), (6, 3)])
def test_heads_share_keys_and_values(heads: int, kv_heads: int, causal: bool) -> None:
    inputs, pattern = _drawn(50, heads, kv_heads), LocalStrided(16)
    got = local_strided_attention(*inputs, pattern, causal=causal)
    torch.testing.assert_close(got, _dense(*inputs, pattern, causal), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('causal', [False, True])
def test_rows_of_unequal_length(causal: bool) -> None:
    """Nobody sees padding; gradients stay finite where a whole window or class is padding."""
    inputs, pattern = _drawn(70), LocalStrided(16)
    valid = torch.arange(70) < torch.tensor([[70], [9]])
    got = local_strided_attention(*inputs, pattern, causal=causal, valid=valid)
    want = _dense(*inputs, pattern, causal, valid)
    torch.testing.assert_close(got[valid], want[valid], atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(got[valid].square().sum(), inputs)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert gradients[1][1, :, 9:].abs().max() == 0


@pytest.mark.parametrize('unit', [1, 4])
@pytest.mark.parametrize('tokens', [1, 40, 200, 333])
def test_two_layers_connect_everything(tokens: int, unit: int) -> None:
    pattern = LocalStrided.of(tokens, unit=unit)
    everybody = torch.ones(tokens, tokens, dtype=torch.bool)
    for causal in (False, True):
        local, strided = pattern.seen(tokens, causal).float()
        once = local + strided
        assert torch.equal((once @ once) > 0, everybody.tril() if causal else everybody)
    assert once.sum(dim=1).max() <= pattern.window + -(-tokens // pattern.window) * unit


@pytest.mark.parametrize(('tokens', 'window', 'unit'), _SIZES)
def test_the_cache_gives_the_rows_of_the_whole(tokens: int, window: int, unit: int) -> None:
    """A text decoded token by token, or a few at once, sees what a pass over all of it sees."""
    q, k, v = _drawn(tokens, 4, 2)
    pattern = LocalStrided(window, unit)
    whole = local_strided_attention(q, k, v, pattern, causal=True)
    for new in {1, min(3, tokens), min(20, tokens)}:
        rows = cached_local_strided(q[:, :, -new:], k, v, pattern)
        torch.testing.assert_close(rows, whole[:, -new:], atol=1e-5, rtol=1e-5)
    before = cached_local_strided(q[:, :, :1], k[:, :, :1], v[:, :, :1], pattern)
    torch.testing.assert_close(before, whole[:, :1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('causal', [False, True])
@pytest.mark.parametrize(('tokens', 'window', 'unit'), [(96, 24, 8), (101, 16, 1), (256, 128, 64)])
def test_flex_attention_computes_the_same(tokens: int, window: int, unit: int, causal: bool) -> None:
    q, k, v = (x.detach() for x in _drawn(tokens, 4, 2))
    pattern = LocalStrided(window, unit)
    got = flex_local_strided(q, k, v, pattern, causal=causal, compiled=False)
    want = local_strided_attention(q, k, v, pattern, causal=causal)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_compiled_flex_attention_computes_the_same() -> None:
    q, k, v = (x.detach() for x in _drawn(256, 4, 2, 16))
    pattern = LocalStrided(128, 64)
    got = flex_local_strided(q, k, v, pattern)
    torch.testing.assert_close(got, local_strided_attention(q, k, v, pattern), atol=1e-5, rtol=1e-5)


def test_units_of_a_tile_leave_tiles_empty() -> None:
    """With a stride of single tokens the kernel would compute all strided tiles; in units of tiles it skips most."""
    assert block_mask(2048, LocalStrided.of(2048, unit=64), 2, False, 'cpu').sparsity() > 75
    assert block_mask(2048, LocalStrided.of(2048), 2, False, 'cpu').sparsity() < 50


def test_the_window_grows_with_the_root() -> None:
    assert [LocalStrided.of(n).window for n in (1, 200, 256, 257, 3072, 8192)] == [16, 16, 16, 32, 64, 96]
    assert LocalStrided.of(4096, unit=64) == LocalStrided(512, 64)
    assert LocalStrided.of(4096, window=40) == LocalStrided(40)


@pytest.mark.parametrize(('window', 'unit'), [(10, 4), (-1, 1), (0, 0), (4, 8)])
def test_windows_that_do_not_fit_are_refused(window: int, unit: int) -> None:
    with pytest.raises(InvalidInput, match=f'attention window {window}, unit {unit}'):
        LocalStrided.of(100, window, unit)


@pytest.mark.parametrize('heads', [(3, 3), (4, 3)])
def test_heads_that_do_not_fit_are_refused(heads: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match=f'{heads[0]} heads over {heads[1]}'):
        local_strided_attention(*_drawn(20, *heads), LocalStrided(16))


class _Sparse(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return local_strided_attention(q, k, v, LocalStrided.of(q.shape[2]))


def test_runs_as_a_graph(tmp_path: Path) -> None:
    """With a rest that is padded, as the exported tick would have it."""
    import onnxruntime

    inputs = tuple(x.detach() for x in _drawn(50))
    file = tmp_path / 'sparse.onnx'
    torch.onnx.export(_Sparse(), inputs, str(file), input_names=['q', 'k', 'v'], dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    (got,) = session.run(None, {name: x.numpy() for name, x in zip('qkv', inputs, strict=True)})
    np.testing.assert_allclose(got, _Sparse()(*inputs).numpy(), atol=1e-5)
