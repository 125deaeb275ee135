# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vla_driver.model.layers.attention import attention


@pytest.mark.parametrize('kv_heads', [8, 2, 1])
def test_equals_the_fused_kernel(kv_heads: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(3, 8, 20, 16)
    k, v = torch.randn(3, kv_heads, 70, 16), torch.randn(3, kv_heads, 70, 16)
    want = F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(q, k, v), want, atol=1e-5, rtol=1e-5)


def test_cached_prefix_equals_the_mixed_mask() -> None:
    """Queries on cached keys and values equal the last rows of the whole sequence under the mixed mask."""
    torch.manual_seed(0)
    prefix, queries = 600, 20
    q, k, v = torch.randn(3, 1, 8, prefix + queries, 64)
    mask = torch.ones(prefix + queries, prefix + queries, dtype=torch.bool).tril()
    mask[prefix:, prefix:] = True
    full = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[:, :, prefix:]
    step = attention(q[:, :, prefix:], k, v)
    assert (full.transpose(1, 2).flatten(2) - step).abs().max() <= 1e-5
