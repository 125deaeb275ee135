# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the language model leaves out changes nothing that is read; who sees whom in it is as its configuration says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vla_driver.model.attention_pattern import LocalStrided
from vla_driver.model.config import LanguageConfig
from vla_driver.model.layers.attention import split_heads
from vla_driver.model.native.acting.action import ActionExpert
from vla_driver.model.native.language import LanguageModel
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.fastv import FastV
from vla_driver.model.pruning.published.sparsevlm import SparseVlm
from vla_driver.model.pruning.stage import as_stage
from vla_driver.types import InvalidInput


def test_the_last_layer_works_for_the_queries_alone(small_model: Callable[..., VlaModel]) -> None:
    language = small_model().language.eval()
    torch.manual_seed(0)
    x = torch.randn(2, 23, language.norm.weight.shape[0])
    with torch.no_grad():
        prefix = language.prefill(x, 3)
        for layer, keys, values in zip(language.layers, prefix.keys, prefix.values, strict=True):
            x, k, v = layer(x)
            assert torch.equal(keys, k)
            assert torch.equal(values, v)
        torch.testing.assert_close(prefix.scene, language.norm(x[:, -3:]), atol=1e-5, rtol=1e-5)


def _sparse(small_model: Callable[..., VlaModel], window: int = 0) -> VlaModel:
    """Return a model whose four layers are sparse, with weights that do not average everything away."""
    model = small_model()
    settings = model.config.language_config.to_dict() | {'num_hidden_layers': 4, 'attention_window': window}
    torch.manual_seed(1)
    model.language = LanguageModel(LanguageConfig(**settings | {'attention': ['local_strided'] * 4}))
    for weight in model.language.parameters():
        torch.nn.init.normal_(weight, std=0.3 if weight.ndim > 1 else 1.0)
    return model


def test_sparse_layers_equal_layers_under_the_dense_mask(small_model: Callable[..., VlaModel]) -> None:
    """Whatever the number of tokens; the last layer's queries see all."""
    language = _sparse(small_model).language
    for tokens in (23, 64, 131):
        x = torch.randn(2, tokens, language.norm.weight.shape[0])
        with torch.no_grad():
            prefix, y = language.prefill(x, 3), x
            mask = LocalStrided.of(tokens).seen(tokens).repeat_interleave(2, dim=0).unsqueeze(0)
            for number, layer in enumerate(language.layers):
                normed = layer.norm1(y)
                k, v = (split_heads(part, layer.kv_heads) for part in layer.kv(normed).chunk(2, dim=-1))
                torch.testing.assert_close(prefix.keys[number], k, atol=1e-4, rtol=1e-4)
                q = split_heads(layer.q(normed), layer.heads)
                if number == 3:
                    mask = None
                mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
                y = y + layer.out(mixed.transpose(1, 2).flatten(2))
                y = y + layer.mlp(layer.norm2(y))
            torch.testing.assert_close(prefix.scene, language.norm(y[:, -3:]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('pruner', [FastV(), SparseVlm()])
def test_tokens_leave_between_sparse_layers(small_model: Callable[..., VlaModel], clip_batch: Any, pruner: Any) -> None:
    """In the prefill, as between full ones: later layers hold fewer keys, and the plan is finite and another one."""
    model = _sparse(small_model)
    model.config.language_config.num_hidden_layers = 4
    model.action = ActionExpert(model.config)
    batch = clip_batch(model.config, clips=1, ticks=2)
    with torch.no_grad():
        tokens, ego = model.encode(batch.inputs).tokens, model.ego(batch.inputs)
        whole = model.prefill(ego, tokens, None)
        stage = as_stage(pruner, TokenBudget(ratio=0.2))
        pruned = model.prefill(ego, tokens, None, stage=stage)
        assert pruned.keys[-1].shape[2] < pruned.keys[0].shape[2] == whole.keys[0].shape[2]
        plan, other = (model.decode(model.act(p, ego), model.reflex(p, ego)) for p in (pruned, whole))
    assert plan.isfinite().all() and not torch.equal(plan, other)


def test_a_sparse_model_is_saved_and_trains(small_config: Any, clip_batch: Any, tmp_path: Path) -> None:
    config = small_config()
    config.language_config.attention = ('local_strided', 'full')
    torch.manual_seed(0)
    model = VlaModel(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch, losses = clip_batch(config), []
    for _ in range(8):
        torch.manual_seed(3)  # the same things are withheld
        out = model(batch)
        losses.append(float(out.loss.detach()))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    model.save_pretrained(tmp_path)
    assert [layer.sparse for layer in VlaModel.from_pretrained(tmp_path).language.layers] == [True, False]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'attention': ['full']}, r"attention is \['full'\]; expected one of full, local_strided for each of the 4"),
        ({'attention': ['dense'] * 4}, "'dense'"),
        ({'attention': ['local_strided'] * 4, 'num_attention_heads': 1}, 'num_attention_heads is 1'),
        ({'attention': ['local_strided'] * 4, 'attention_window': 10, 'attention_unit': 4}, 'window 10, unit 4'),
    ],
)
def test_attention_that_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        LanguageConfig(**settings)
