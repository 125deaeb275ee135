# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens that leave inside the native encoder: the kept ones are as if the others had been masked from there on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vla_driver.model.layers.gather import take
from vla_driver.model.native.seeing.vision import VisionBlock, VisionOutput
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.stage import as_stage
from vla_driver.model.pruning.trained.early import EarlyHead, EarlyPruner, load_early_pruner, save_early_head
from vla_driver.model.tokens import ClipBatch, ModelInputs
from vla_driver.policies.native import NativePolicy
from vla_driver.types import InvalidInput

DEPTH = 3


@pytest.fixture
def model(larger_model: Callable[..., VlaModel]) -> VlaModel:
    made = larger_model(vision_layers=DEPTH)
    with torch.no_grad():
        for name, weight in made.vision.named_parameters():
            if weight.ndim > 1 and 'blocks' in name:
                weight.normal_(0.0, 0.3)  # what others show must matter
    return made


@pytest.fixture
def inputs(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> ModelInputs:
    made = clip_batch(model.config, clips=2, ticks=2).inputs
    present = torch.ones_like(made.present)
    present[1, 2] = False
    return dataclasses.replace(made, present=present)


def _patches_of_tokens(model: VlaModel) -> tuple[Tensor, Tensor]:
    """Return [N, 4]: which patches each token joins, and [P]: the picture of each patch, by hand from the grids."""
    units, pictures, first, picture = [], [], 0, 0
    for (rows, columns), count in model.vision.groups:
        for _ in range(count):
            number = first + torch.arange(rows * columns).reshape(rows, columns)
            for row in range(0, rows, 2):
                for column in range(0, columns, 2):
                    units.append(number[row : row + 2, column : column + 2].flatten())
            pictures += [picture] * (rows * columns)
            first, picture = first + rows * columns, picture + 1
    return torch.stack(units), torch.tensor(pictures)


def _encode(model: VlaModel, inputs: ModelInputs, pruner: EarlyPruner, budget: TokenBudget) -> VisionOutput:
    seen = model.encode(inputs, as_stage(pruner, budget))
    assert seen.kept is not None
    return seen


def _masked_block(block: VisionBlock, x: Tensor, visible: Tensor) -> Tensor:
    """Run a block over all patches [B, P, d]; visible [B, P, P]: who may look at whom."""
    q, k, v = block.qkv(block.norm1(x)).unflatten(-1, (3, block.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~visible[:, None], -torch.inf)
    x = x + block.proj((scores.softmax(dim=-1).nan_to_num() @ v).transpose(1, 2).flatten(2))
    return x + block.fc2(F.gelu(block.fc1(block.norm2(x))))


@pytest.mark.parametrize('source', ['head', 'attention', 'norm', 'random'])
@pytest.mark.parametrize('block', [1, 2])
def test_kept_tokens_are_as_if_the_others_were_masked(
    model: VlaModel, inputs: ModelInputs, block: int, source: str
) -> None:
    torch.manual_seed(1)
    width = model.config.vision_config.hidden_size
    pruner = EarlyPruner(block, source, EarlyHead(width, 16) if source == 'head' else None)
    with torch.no_grad():
        pruned = _encode(model, inputs, pruner, TokenBudget(ratio=0.5, floor=2))
        units, picture = _patches_of_tokens(model)
        kept = pruned.kept.index
        alive = torch.zeros(len(kept), len(picture), dtype=torch.bool).scatter_(1, units[kept].flatten(1), True)
        x = model.vision.start(inputs)
        same = (picture[:, None] == picture).expand(len(kept), -1, -1)
        states = []
        for number, stage in enumerate(model.vision.blocks):
            states.append(x)
            x = _masked_block(stage, x, same if number < block else same & alive[:, None])
        whole = model.vision.tokens(x, inputs).features
        early = model.vision.tokens(states[block], inputs)
    torch.testing.assert_close(take(pruned.tokens.features, kept), take(whole, kept), rtol=1e-4, atol=1e-4)
    gone = torch.ones(kept.shape[0], units.shape[0], dtype=torch.bool).scatter_(1, kept, False)
    torch.testing.assert_close(pruned.tokens.features[gone], early.features[gone])
    # Masking matters: whoever still looked at the dropped patches would see something else.
    with torch.no_grad():
        seeing_all = model.encode(inputs).tokens.features
    assert (take(seeing_all, kept) - take(whole, kept)).abs().max() > 1e-2
    # The camera without a picture gives no more than its floor; no camera gives less.
    counts = torch.stack([torch.bincount(row, minlength=6) for row in pruned.tokens.camera[kept]])
    assert int(counts.min()) >= 2 and int(counts[1, 2]) == 2


def test_what_has_left_is_completed_by_the_head(model: VlaModel, inputs: ModelInputs, tmp_path: Path) -> None:
    torch.manual_seed(1)
    width, tokens = model.config.vision_config.hidden_size, model.config.language_config.hidden_size
    plain, head = EarlyHead(width, 16), EarlyHead(width, 16, 4, tokens)
    assert head.completion is not None
    head.load_state_dict(plain.state_dict(), strict=False)
    budget = TokenBudget(ratio=0.5, floor=2)
    with torch.no_grad():
        before = _encode(model, inputs, EarlyPruner(1, 'head', plain), budget)
        unlearned = _encode(model, inputs, EarlyPruner(1, 'head', head), budget)
        # Untaught, it adds nothing.
        torch.testing.assert_close(unlearned.tokens.features, before.tokens.features, rtol=0, atol=0)
        torch.nn.init.normal_(head.completion[-1].weight)
        save_early_head(head, 1, tmp_path / 'head')
        loaded = load_early_pruner(tmp_path / 'head')
        pruned = _encode(model, inputs, loaded, budget)
        states, _ = model.vision.encode_at(inputs, 1)
        more = head.completion(states.flatten(-2))
    kept = pruned.kept.index
    assert torch.equal(kept, before.kept.index)
    torch.testing.assert_close(take(pruned.tokens.features, kept), take(before.tokens.features, kept))
    gone = pruned.tokens.valid.clone().scatter_(1, kept, False)
    torch.testing.assert_close(pruned.tokens.features[gone], (before.tokens.features + more)[gone])
    absent = ~pruned.tokens.valid
    torch.testing.assert_close(pruned.tokens.features[absent], before.tokens.features[absent])
    with pytest.raises(InvalidInput, match='completes tokens of 4 patches and width 7, this model has 4 and'):
        NativePolicy(model).set_pruning(EarlyPruner(1, 'head', EarlyHead(width, 16, 4, 7)), budget)


def test_attention_is_that_of_the_next_block(model: VlaModel, inputs: ModelInputs) -> None:
    """Received attention is averaged over a token's patches: kept are those with most of it."""
    with torch.no_grad():
        pruned = _encode(model, inputs, EarlyPruner(1, 'attention'), TokenBudget(count=30))
        units, picture = _patches_of_tokens(model)
        x = model.vision.blocks[0](model.vision.start(inputs), model.vision.layout)
        block = model.vision.blocks[1]
        q, k, _ = block.qkv(block.norm1(x)).unflatten(-1, (3, block.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(picture[:, None] != picture, -torch.inf)
        received = scores.softmax(dim=-1).sum(dim=-2).mean(dim=1)[:, units].mean(dim=-1)
    assert pruned.kept.scores is not None
    torch.testing.assert_close(pruned.kept.scores, received, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(model: VlaModel, inputs: ModelInputs, tmp_path: Path) -> None:
    budget = TokenBudget(ratio=0.5)
    with pytest.raises(InvalidInput, match='before vision block 3; allowed: 1 to 2'):
        _encode(model, inputs, EarlyPruner(3, 'norm'), budget)
    known = dataclasses.replace(inputs, patches=torch.zeros(4, 1, 1))
    with pytest.raises(InvalidInput, match='give pictures'):
        _encode(model, known, EarlyPruner(1, 'norm'), budget)
    save_early_head(EarlyHead(48, 16), 1, tmp_path / 'other')
    with pytest.raises(InvalidInput, match='the head was trained for 48'):
        _encode(model, inputs, make_pruner(tmp_path / 'other'), budget)  # type: ignore[arg-type]
