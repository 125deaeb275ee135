# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The encoder's own loop equals the stock one, and early pruning equals masking in the later blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.stage import AttentionWanted, TokenStage, Units, as_stage
from vla_driver.model.pruning.trained.early import (
    EarlyHead,
    EarlyPruner,
    early_scores,
    load_early_pruner,
    save_early_head,
)
from vla_driver.model.qwen.grids import Grids
from vla_driver.model.qwen.vision import VisionTower
from vla_driver.types import InvalidInput

#: Windows of 2x2 units are cut off at these pictures' edges.
RAGGED = Grids((5, 3, 4), (7, 6, 5), 2)
DEEP = {
    'qwen2.5': {'depth': 5, 'fullatt_block_indexes': [2, 4]},
    'qwen3': {'depth': 5, 'deepstack_visual_indexes': [0, 2, 4]},
}
FAMILIES = ('qwen2.5', 'qwen3')


def patches(model: Any, grids: Grids = RAGGED) -> Tensor:
    vision = model.config.vision_config
    width = 3 * vision.temporal_patch_size * vision.patch_size**2
    return torch.randn(grids.units * 4, width, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize('family', FAMILIES)
@torch.inference_mode()
def test_the_loop_equals_the_stock_encoder(tiny: Callable[..., Any], family: str) -> None:
    model = tiny(family, **DEEP[family])
    stock = model.model.get_image_features(patches(model), RAGGED.thw, return_dict=True)
    ours = VisionTower(model.model.visual).encode(patches(model), RAGGED)
    torch.testing.assert_close(ours.features, torch.cat(stock.pooler_output), atol=1e-4, rtol=1e-4)
    levels = getattr(stock, 'deepstack_features', None) or []
    assert len(levels) == len(ours.deepstack) == (3 if family == 'qwen3' else 0)
    for mine, theirs in zip(ours.deepstack, levels, strict=True):
        torch.testing.assert_close(mine, torch.cat(theirs), atol=1e-4, rtol=1e-4)
    assert ours.kept.tolist() == list(range(RAGGED.units))


def masked_encoder(
    tower: VisionTower, pixels: Tensor, grids: Grids, block: int, kept: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """The reference: every patch in every block, [P, P] masks, dropped keys masked from `block` on.

    Returns merged tokens [N, D], deepstack levels, and the attention [N] received in the last full block.
    """
    visual, order = tower.visual, tower.order(grids)
    hidden, rotary = tower.embed(pixels, grids, order)
    count = len(order.unit)
    here = torch.isin(order.unit, kept).repeat_interleave(4)
    inverse = order.unit.argsort()
    levels, received = [], torch.zeros(count)
    for number, layer in enumerate(visual.blocks):
        segments = order.image if number in tower.full_blocks else order.window
        label = torch.repeat_interleave(torch.arange(len(segments)), torch.tensor(segments)).repeat_interleave(4)
        mask = label[:, None] == label[None]
        if number >= block:
            mask = mask & (here[None] | torch.eye(len(here), dtype=torch.bool))
        q, k, v = layer.attn.qkv(layer.norm1(hidden)).reshape(len(hidden), 3, layer.attn.num_heads, -1).unbind(1)
        q, k = apply_rotary_pos_emb_vision(q, k, *rotary)
        weights = torch.einsum('qhd,khd->hqk', q, k) * q.shape[-1] ** -0.5
        weights = weights.masked_fill(~mask, -torch.inf).softmax(-1)
        if number == tower.last_full_block:
            received = weights.mean(0).sum(0).reshape(count, 4).mean(1)[inverse]
        hidden = hidden + layer.attn.proj(torch.einsum('hqk,khd->qhd', weights, v).flatten(1))
        hidden = hidden + layer.mlp(layer.norm2(hidden))
        if number in getattr(visual, 'deepstack_visual_indexes', ()):
            at = visual.deepstack_visual_indexes.index(number)
            levels.append(visual.deepstack_merger_list[at](hidden)[inverse])
    return visual.merger(hidden)[inverse], levels, received


class Leave(TokenStage):
    """Keeps given units in front of a block."""

    def __init__(self, block: int, kept: torch.Tensor) -> None:
        super().__init__()
        self.block, self.units = block, kept

    def before_block(self, number: int, units: Callable[[], Units]) -> KeptTokens | None:
        return KeptTokens(self.units.unsqueeze(0)) if number == self.block else None


@pytest.mark.parametrize('block', [1, 2, 3, 4])
@pytest.mark.parametrize('family', FAMILIES)
@torch.inference_mode()
def test_early_pruning_equals_masking_in_the_later_blocks(tiny: Callable[..., Any], family: str, block: int) -> None:
    model = tiny(family, **DEEP[family])
    tower, pixels = VisionTower(model.model.visual), patches(model)
    # From a whole window or two nothing stays.
    kept = torch.randperm(RAGGED.units, generator=torch.Generator().manual_seed(5))[:20].sort().values
    ours = tower.encode(pixels, RAGGED, Leave(block, kept))
    features, levels, _ = masked_encoder(tower, pixels, RAGGED, block, kept)
    assert ours.kept.tolist() == kept.tolist()
    torch.testing.assert_close(ours.features, features[kept], atol=2e-4, rtol=1e-4)
    for mine, theirs in zip(ours.deepstack, levels, strict=True):
        torch.testing.assert_close(mine, theirs[kept], atol=2e-4, rtol=1e-4)
    # The comparison sees it when tokens leave one block later or earlier.
    other, _, _ = masked_encoder(tower, pixels, RAGGED, block - 1, kept)
    assert (ours.features - other[kept]).abs().max() > 1e-2


@pytest.mark.parametrize('family', FAMILIES)
@torch.inference_mode()
def test_attention_received_is_the_column_sum(tiny: Callable[..., Any], family: str) -> None:
    model = tiny(family, **DEEP[family])
    tower = VisionTower(model.model.visual)
    ours = tower.encode(patches(model), RAGGED, AttentionWanted())
    _, _, received = masked_encoder(tower, patches(model), RAGGED, 99, torch.arange(RAGGED.units))
    assert ours.attention is not None
    torch.testing.assert_close(ours.attention, received, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('source', ['norm', 'attention', 'random', 'head'])
@torch.inference_mode()
def test_every_source_keeps_its_best_within_the_budget(tiny: Callable[..., Any], source: str) -> None:
    model = tiny('qwen2.5', **DEEP['qwen2.5'])
    torch.manual_seed(6)
    pruner = EarlyPruner(3, source, EarlyHead(32, 16) if source == 'head' else None)
    names = ('front', 'back', 'front_left')
    budget = TokenBudget(count=20, floor=4)
    encoded = VisionTower(model.model.visual).encode(patches(model), RAGGED, as_stage(pruner, budget), names)
    assert len(encoded.kept) == len(encoded.features) == 20
    image = RAGGED.places()[0][encoded.kept]
    assert torch.bincount(image, minlength=3).min() >= 4
    # A camera without a picture gives no more than its floor.
    stage = as_stage(pruner, budget)
    encoded = VisionTower(model.model.visual).encode(patches(model), RAGGED, stage, names, missing=('front',))
    assert stage.selection(1.0).cameras['front'].kept.sum() == 4  # type: ignore[union-attr]
    assert int((RAGGED.places()[0][encoded.kept] == 0).sum()) == 4


def test_scores_are_differentiable_and_refused_by_name() -> None:
    states = torch.randn(2, 10, 4, 32)
    head = EarlyHead(32, 16)
    early_scores(states, 'head', head=head).sum().backward()
    assert head.inner.weight.grad is not None
    assert head.inner.weight.grad.abs().sum() > 0
    for arguments, message in (
        ({'source': 'head'}, 'no trained head'),
        ({'source': 'head', 'head': EarlyHead(16)}, 'width 32'),
        ({'source': 'attention'}, 'is not given'),
        ({'source': 'luck'}, 'allowed: head, attention, norm, random'),
    ):
        with pytest.raises(InvalidInput, match=message):
            early_scores(states, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match='a head is needed'):
        EarlyPruner(2, 'norm', head)


def test_random_units_differ_from_picture_to_picture() -> None:
    states = torch.randn(3, 40, 4, 8)
    states[2] = states[0]
    first, second, third = early_scores(states, 'random')
    assert not torch.equal(first, second)
    assert torch.equal(first, third)
    assert not torch.equal(first, early_scores(states, 'random', seed=1)[0])


def test_heads_are_saved_and_loaded(tmp_path: Path) -> None:
    head = EarlyHead(32, 16)
    save_early_head(head, 3, tmp_path / 'early', trained_on='nothing')
    pruner = load_early_pruner(tmp_path / 'early')
    states = torch.randn(2, 10, 4, 32)
    assert (pruner.block, pruner.name) == (3, 'early-head')
    torch.testing.assert_close(early_scores(states, 'head', head=pruner.head), head(states))
    with pytest.raises(InvalidInput, match='of width 64, but the head was trained for 32'):
        early_scores(torch.randn(2, 10, 4, 64), 'head', head=pruner.head)
    (tmp_path / 'early' / 'config.json').write_text('{"model_type": "vla_driver_recon_pruner"}')
    with pytest.raises(InvalidInput, match='vla_driver_recon_pruner'):
        load_early_pruner(tmp_path / 'early')
    with pytest.raises(InvalidInput, match='does not load'):
        load_early_pruner(tmp_path / 'nowhere')


@pytest.mark.parametrize('block', [0, 5])
def test_a_block_that_is_not_there_is_refused(tiny: Callable[..., Any], block: int) -> None:
    model = tiny('qwen2.5', **DEEP['qwen2.5'])
    with pytest.raises(InvalidInput, match='allowed: 1 to 4'):
        VisionTower(model.model.visual).encode(
            patches(model), RAGGED, as_stage(EarlyPruner(block, 'norm'), TokenBudget(ratio=0.5))
        )


def test_the_registry_knows_early_pruners(tmp_path: Path) -> None:
    made = make_pruner('early:6-random')
    assert isinstance(made, EarlyPruner)
    assert (made.block, made.source) == (6, 'random')
    assert make_pruner('early:6').name == 'early-norm'
    for spec in ('early', 'early:', 'early:x', 'early:-head', 'early:-norm'):
        with pytest.raises(InvalidInput, match='expected early:BLOCK-SOURCE'):
            make_pruner(spec)
    with pytest.raises(InvalidInput, match="no checkpoint's heads are known"):
        make_pruner('early:6-head')
    save_early_head(EarlyHead(32, 16), 3, tmp_path)
    loaded = make_pruner(tmp_path)
    assert isinstance(loaded, EarlyPruner)
    assert loaded.block == 3
