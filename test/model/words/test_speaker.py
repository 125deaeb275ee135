# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Words read behind a cached prefix are those of one pass over both under the mixed mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.attention import split_heads
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import Prefix
from vla_driver.types import InvalidInput


def _in_one_pass(model: VlaModel, embeddings: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Run [prefix | words] through the language model together under one explicit mask."""
    words = model.words.embed(ids)
    x, prefix = torch.cat([embeddings, words], dim=1), embeddings.shape[1]
    total = x.shape[1]
    mask = torch.ones(total, total, dtype=torch.bool).tril()
    mask[:prefix, :prefix] = True  # the prefix sees the prefix; words see it, and the words before them
    for layer in model.language.layers:
        normed = layer.norm1(x)
        keys, values = (split_heads(part, layer.kv_heads) for part in layer.kv(normed).chunk(2, dim=-1))
        q = split_heads(layer.q(normed), layer.heads)
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)
        x = x + layer.out(mixed.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.norm2(x))
    out: torch.Tensor = model.words.norm(x[:, prefix:])
    return out


def test_words_on_the_cache_equal_one_pass(speaking_model: Callable[..., VlaModel]) -> None:
    model = speaking_model()
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(2, 19, 32, generator=generator)
    ids = torch.randint(0, len(model.words.grammar.vocabulary), (2, 9), generator=generator)
    with torch.no_grad():
        prefix = model.language.prefill(embeddings, 3)
        whole = _in_one_pass(model, embeddings, ids)
        at_once, _ = model.words.read(model.language.layers, prefix, ids)
        cache, parts = None, []
        for first, last in ((0, 1), (1, 4), (4, 9)):
            hidden, cache = model.words.read(model.language.layers, prefix, ids[:, first:last], cache)
            parts.append(hidden)
    assert (at_once - whole).abs().max() < 1e-5
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5
    assert cache is not None
    assert len(cache) == 9


def test_a_word_sees_the_prefix_and_the_words_before_it_alone(
    speaking_model: Callable[..., VlaModel], random_prefix: Callable[..., Prefix]
) -> None:
    model = speaking_model()
    layers, ids = model.language.layers, torch.tensor([[0, 5, 6, 7]])
    with torch.no_grad():
        before, _ = model.words.read(layers, random_prefix(model), ids)
        later, _ = model.words.read(layers, random_prefix(model), torch.tensor([[0, 5, 9, 7]]))
        other, _ = model.words.read(layers, random_prefix(model, seed=1), ids)
    moved = (later - before).abs().amax(dim=-1)[0]
    assert moved[:2].max() == 0.0
    assert moved[2:].min() > 1e-6
    assert ((other - before).abs().amax(dim=-1) > 1e-6).all()


def test_a_model_has_no_words_unless_its_config_says_so(small_model: Callable[..., VlaModel]) -> None:
    model = small_model()
    assert not hasattr(model, 'words')
    assert model.config.words_config.vocabulary == 0


def test_words_change_nothing_of_what_a_model_drives_with(
    small_model: Callable[..., VlaModel], speaking_model: Callable[..., VlaModel]
) -> None:
    plain, speaking = small_model(), speaking_model()
    names = dict(plain.named_parameters())
    own = [name for name, _ in speaking.named_parameters() if name not in names]
    assert own
    assert all(name.startswith('words.') for name in own)


def test_a_checkpoint_carries_its_vocabulary(speaking_model: Callable[..., VlaModel], tmp_path: Path) -> None:
    model = speaking_model()
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config.words_config.vocabulary == len(model.words.grammar.vocabulary)
    assert torch.equal(loaded.words.embedding.weight, model.words.embedding.weight)
    (tmp_path / 'vocabulary.json').unlink()
    with pytest.raises(InvalidInput, match=r'has no vocabulary\.json'):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ({'grammar': 9}, 'grammar is 9, allowed'),
        ({'grammar': 1, 'vocabulary': 7}, 'vocabulary is 7, but grammar 1'),
        ({'grammar': 1, 'prefix_gradient': 1.5}, 'prefix_gradient 1.5'),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    small_config: Callable[..., VlaConfig], words: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        VlaModel(small_config(words_config=words))
