# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruned prefill, action and decode equal the whole sequence with the dropped tokens masked out, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vla_driver.model.layers.attention import split_heads
from vla_driver.model.native.training import perceive
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning import in_model
from vla_driver.model.pruning.base import KeptTokens, needs_attention
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.in_model import InModelPruner, attention_rows
from vla_driver.model.pruning.published.fastv import FastV
from vla_driver.model.pruning.published.sparsevlm import SparseVlm
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.stage import AttentionWanted, as_stage
from vla_driver.model.tokens import ClipBatch, Prefix, Remembered, VisualTokens

DEPTH = 4


@pytest.fixture
def model(larger_model: Callable[..., VlaModel]) -> VlaModel:
    made = larger_model(language_layers=DEPTH)
    with torch.no_grad():
        made.flow.anchors.normal_()
        for name, weight in made.named_parameters():
            if weight.ndim > 1 and not name.startswith('vision.'):
                # Wrong tokens must be seen; the reflex, which in-model pruning spares, must not drown them.
                weight.normal_(0.0, 0.02 if name.startswith(('reflexes.', 'view.', 'flow.of_reflex')) else 0.25)
    return made


@pytest.fixture
def seen(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> tuple[VisualTokens, Remembered | None, Tensor]:
    """Tokens with attention, memory, ego tokens of a batch of four rows."""
    batch = clip_batch(model.config, clips=2, ticks=2)
    with torch.no_grad():
        tokens = model.encode(batch.inputs, AttentionWanted()).tokens
        ego = model.ego(batch.inputs)
        _, remembered, _ = perceive(model, model.dropouts, batch, ego)
        return tokens, remembered, ego


#: The whole sequence [B, L, D], and what was read off the panorama (`Prefix.read`, `Prefix.view`).
Whole = tuple[Tensor, Tensor, Tensor]


def _whole(
    model: VlaModel,
    ego: Tensor,
    tokens: VisualTokens,
    remembered: Remembered | None,
    shown: VisualTokens | None = None,
) -> Whole:
    """Return the sequence of all tokens; shown: those that the panorama reads, if others (it is not pruned)."""
    x, read, view = model._sequence(ego, tokens, remembered, None)
    assert read is not None and view is not None
    if shown is not None:
        read, said = model.view(shown.features, model.view.spread(shown.rays, shown.origins), shown.valid)
        end = x.shape[1] - ego.shape[1] - model.scene_queries.shape[0]
        x = x.clone()
        x[:, end - said.shape[1] : end] = said
        view = said.sum(dim=1)
    return x, read, view


def _controls(model: VlaModel, prefix: Prefix, ego: Tensor) -> Tensor:
    return model.decode(model.act(prefix, ego), model.reflex(prefix, ego))


def _masked(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Plain attention under visible [B, S]; return the mixture [B, L, H * d] and the weights [B, H, L, S]."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    weights = scores.masked_fill(~visible[:, None, None], -torch.inf).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2), weights


def _reference(
    model: VlaModel, whole: Whole, ego: Tensor, visible: list[Tensor], replace: dict[int, Callable[[Tensor], Tensor]]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run everything with nothing removed; visible[layer] [B, L].  Return controls, scene states, weights by layer."""
    cache, weights = [], []
    scene = model.scene_queries.shape[0]
    x, read, view = whole
    for number, layer in enumerate(model.language.layers):
        normed = layer.norm1(x)
        k, v = (split_heads(part, layer.kv_heads) for part in layer.kv(normed).chunk(2, dim=-1))
        mixed, weight = _masked(split_heads(layer.q(normed), layer.heads), k, v, visible[number])
        x = x + layer.out(mixed)
        x = x + layer.mlp(layer.norm2(x))
        x = replace[number](x) if number in replace else x
        cache.append((k, v))
        weights.append(weight)
    y = model.action.condition(ego.sum(dim=1) + view).unsqueeze(1) + model.action.queries
    for number, (layer, (k, v)) in enumerate(zip(model.action.layers, cache, strict=True)):
        normed = layer.norm1(y)
        own = [split_heads(part, layer.kv_heads) for part in layer.kv(normed).chunk(2, dim=-1)]
        keys, values = torch.cat([k, own[0]], dim=2), torch.cat([v, own[1]], dim=2)
        see = torch.cat([visible[number], visible[number].new_ones(len(y), y.shape[1])], dim=1)
        y = y + layer.out(_masked(split_heads(layer.q(normed), layer.heads), keys, values, see)[0])
        y = y + layer.mlp(layer.norm2(y))
    seen = Prefix((), (), x, read=read, view=view)  # the reflexes look at the panorama alone
    controls = model.decode(model.action.norm(y), model.reflex(seen, ego))
    return controls, model.language.norm(x[:, -scene:]), weights


def _visible(index: Tensor, visual: int, length: int) -> Tensor:
    mask = torch.ones(len(index), length, dtype=torch.bool)
    mask[:, :visual] = False
    return mask.scatter_(1, index, True)


@pytest.mark.parametrize(
    'name', ['random', 'uniform', 'divprune', 'vispruner', 'visionzip', 'cdpruner', 'prune2drive', 'none']
)
@torch.no_grad()
def test_pruned_equals_masked(model: VlaModel, seen: tuple[VisualTokens, Remembered | None, Tensor], name: str) -> None:
    tokens, remembered, ego = seen
    pruner = make_pruner(name)
    kept = pruner.select(tokens, TokenBudget(ratio=0.6, floor=2), ego)
    prefix = model.prefill(ego, tokens, remembered, kept)
    controls = _controls(model, prefix, ego)

    count = len(tokens.camera)
    whole = tokens
    if kept.features is not None:
        rows = torch.arange(len(ego)).unsqueeze(1)
        merged = tokens.features.clone()
        merged[rows, kept.index] = kept.features
        whole = dataclasses.replace(tokens, features=merged)
    x = _whole(model, ego, whole, remembered, tokens)
    length = x[0].shape[1]
    visible = _visible(kept.index, count, length)
    want, scene, _ = _reference(model, x, ego, [visible] * DEPTH, {})
    assert prefix.keys[0].shape[2] == length - count + kept.index.shape[1]
    torch.testing.assert_close(prefix.scene, scene, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(controls, want, atol=2e-5, rtol=1e-4)
    if name == 'none':
        assert torch.equal(prefix.scene, model.prefill(ego, tokens, remembered).scene)
        return
    # Controls of the test itself: other tokens, nothing masked, and rays of other tokens are all seen.
    other = (kept.index + 1) % count
    for wrong in (
        _reference(model, x, ego, [_visible(other, count, length)] * DEPTH, {})[1],
        _reference(model, x, ego, [torch.ones_like(visible)] * DEPTH, {})[1],
        model.prefill(ego, dataclasses.replace(tokens, rays=tokens.rays.roll(1, dims=1)), remembered, kept).scene,
    ):
        assert (wrong - scene).abs().max() > 1e-2
    if kept.features is not None:
        plain = model.prefill(ego, tokens, remembered, KeptTokens(kept.index)).scene
        assert (plain - scene).abs().max() > 1e-3, 'merging must matter'


@pytest.mark.parametrize('name', ['random', 'visionzip'])
@torch.no_grad()
def test_the_panorama_may_read_the_kept_tokens_alone(
    model: VlaModel, seen: tuple[VisualTokens, Remembered | None, Tensor], name: str
) -> None:
    tokens, remembered, ego = seen
    kept = make_pruner(name).select(tokens, TokenBudget(ratio=0.6, floor=2), ego)
    everything = model.prefill(ego, tokens, remembered, kept)
    model.config.view_config.reads = 'kept'
    prefix, unpruned = model.prefill(ego, tokens, remembered, kept), model.prefill(ego, tokens, remembered)

    rows = torch.arange(len(ego)).unsqueeze(1)
    masked, features = torch.zeros_like(tokens.valid), tokens.features.clone()
    masked[rows, kept.index] = tokens.valid[rows, kept.index]
    if kept.features is not None:
        features[rows, kept.index] = kept.features
    read, said = model.view(features, model.view.spread(tokens.rays, tokens.origins), masked)
    assert prefix.read is not None and everything.read is not None and unpruned.read is not None
    torch.testing.assert_close(prefix.read, read, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prefix.view, said.sum(dim=1), atol=1e-5, rtol=1e-4)
    assert (prefix.read - everything.read).abs().max() > 1e-4
    assert torch.equal(unpruned.read, everything.read)


@pytest.mark.parametrize(
    'pruner',
    [FastV(1), FastV(2), FastV(3), SparseVlm('average', recycle=False), SparseVlm('pruned', recycle=True)],
    ids=['fastv1', 'fastv2', 'fastv3', 'sparsevlm', 'sparsevlm-recycling'],
)
@torch.no_grad()
def test_in_model_equals_masked(
    model: VlaModel,
    seen: tuple[VisualTokens, Remembered | None, Tensor],
    pruner: InModelPruner,
    best_by_hand: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokens, remembered, ego = seen
    budget, count = TokenBudget(ratio=0.5, floor=2), len(tokens.camera)
    merges: list[tuple[Tensor, Tensor]] = []
    merge = in_model.merge_clusters

    def recording(*inputs: object) -> tuple[Tensor, Tensor]:
        merges.append(merge(*inputs))  # type: ignore[arg-type]
        return merges[-1]

    monkeypatch.setattr(in_model, 'merge_clusters', recording)
    within = as_stage(pruner, budget)
    prefix = model.prefill(ego, tokens, remembered, stage=within)
    controls = _controls(model, prefix, ego)

    # The selection, anew, from the weights of the whole sequence.
    whole = _whole(model, ego, tokens, remembered)
    x = whole[0]
    batch, length = x.shape[:2]
    asking = ego.shape[1] + model.scene_queries.shape[0]
    judges = pruner.judges(x[:, -asking:], x[:, :count], asking)
    visible = [torch.ones(batch, length, dtype=torch.bool)] * DEPTH
    replace: dict[int, Callable[[Tensor], Tensor]] = {}
    stages = pruner.stages(count, budget, DEPTH)
    here = [list(range(count))] * batch
    for number, stage in enumerate(stages):
        weights = _reference(model, whole, ego, visible, replace)[2][stage.layer - 1].mean(dim=1)
        stay = []
        for row in range(batch):
            score = torch.full((count,), -torch.inf)
            asked = weights[row, -asking:][judges[row]].mean(dim=0)
            score[here[row]] = asked[here[row]]
            centres = merges[number][0][row].tolist() if merges else []
            exact = dataclasses.replace(budget, ratio=None, count=stage.kept - len(centres))
            best = best_by_hand(score, tokens, exact)
            assert not set(best) & set(centres)
            stay.append(sorted(best + centres))
        assert all(set(new) < set(old) for new, old in zip(stay, here, strict=True))
        here = stay
        hidden_from = _visible(torch.tensor(here), count, length)
        visible = visible[: stage.layer] + [hidden_from] * (DEPTH - stage.layer)
        if merges:
            places, means = merges[number]

            def put(states: Tensor, places: Tensor = places, means: Tensor = means) -> Tensor:
                states = states.clone()
                states[torch.arange(len(states)).unsqueeze(1), places] = means
                return states

            replace[stage.layer - 1] = put
    assert within.kept is not None and within.kept.index.tolist() == here
    if isinstance(pruner, SparseVlm):
        assert len(merges) == (len(stages) if pruner.recycle else 0)

    want, scene, _ = _reference(model, whole, ego, visible, replace)
    torch.testing.assert_close(prefix.scene, scene, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(controls, want, atol=2e-5, rtol=1e-4)
    lengths = [keys.shape[2] for keys in prefix.keys]
    assert lengths == [int(mask[0].sum()) for mask in visible]
    assert len(set(lengths)) == len(stages) + 1
    # Controls of the test itself: one layer earlier or later, or nothing masked, is seen.
    for wrong in (visible[1:] + visible[-1:], visible[:1] + visible[:-1], [torch.ones_like(visible[0])] * DEPTH):
        assert (_reference(model, whole, ego, wrong, replace)[0] - want).abs().max() > 1e-4


@torch.no_grad()
def test_attention_rows_are_the_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 6, 5, 8, generator=generator), torch.randn(2, 3, 9, 8, generator=generator)
    causal = torch.arange(9) <= torch.arange(4, 9).unsqueeze(1)
    for visible in (None, causal):
        for row in range(2):
            heads = []
            for head in range(6):
                scores = q[row, head] @ k[row, head // 2].T / 8**0.5
                scores = scores if visible is None else scores.masked_fill(~visible, -torch.inf)
                heads.append(scores.exp() / scores.exp().sum(dim=-1, keepdim=True))
            torch.testing.assert_close(attention_rows(q, k, visible)[row], torch.stack(heads).mean(dim=0))


@torch.no_grad()
def test_attention_of_the_encoder(model: VlaModel, clip_batch: Callable[..., ClipBatch]) -> None:
    """Column sums by hand for one token of each group; asking for them changes nothing else."""
    inputs = clip_batch(model.config, clips=1, ticks=2).inputs
    plain, asked = model.encode(inputs), model.encode(inputs, AttentionWanted())
    assert plain.tokens.attention is None
    assert torch.equal(plain.tokens.features, asked.tokens.features)
    received = asked.tokens.attention
    assert received is not None and received.shape == asked.tokens.valid.shape
    for camera in range(6):
        # A query gives 1 away, so the mean of what is received is 1 in every picture.
        own = received[:, asked.tokens.camera == camera]
        torch.testing.assert_close(own.mean(dim=1), torch.ones(2))
    last = model.vision.blocks[-1]
    taken: list[Tensor] = []
    hook = last.qkv.register_forward_hook(lambda module, args, output: taken.append(output))
    model.encode(inputs)
    hook.remove()
    (rows, columns), _ = model.vision.groups[0]
    qkv = taken[0][0, : rows * columns].reshape(rows * columns, 3, last.num_heads, -1)
    total = torch.zeros(rows, columns)
    for head in range(last.num_heads):
        scores = qkv[:, 0, head] @ qkv[:, 1, head].T / qkv.shape[-1] ** 0.5
        total += scores.softmax(dim=-1).sum(dim=0).reshape(rows, columns) / last.num_heads
    torch.testing.assert_close(received[0, 1], total[0:2, 2:4].mean(), atol=1e-5, rtol=1e-5)
    assert needs_attention(make_pruner('vispruner')) and not needs_attention(make_pruner('divprune'))
