# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruned prefill and decoding equal the whole sequence with the dropped tokens masked, for every pruner.

The reference goes through the stock language model of transformers, removes nothing, caches nothing, and recomputes
everything for each token.  What the comparison must notice, it is shown to notice: wrong positions and wrong deepstack.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.in_model import NOTHING_LEAVES, InModelPruner, PrefillPruning, PrefillRun
from vla_driver.model.pruning.registry import PRUNER_NAMES, make_pruner
from vla_driver.model.pruning.stage import AttentionWanted, as_stage
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.pruning.trained.recon_layers import layer_spec
from vla_driver.model.qwen.grids import Grids
from vla_driver.model.qwen.language import LanguageRunner
from vla_driver.model.qwen.sequence import Sequence, build, prune, whole_positions
from vla_driver.model.qwen.vision import VisionTower

GRIDS = Grids((4,) * 6, (6,) * 6, 2)
NAMES = ('front', 'front_right', 'front_left', 'back', 'back_left', 'back_right')
TOLERANCE = 4e-5
KEPT = 53
STEPS = 12
FAMILIES = ('qwen2.5', 'qwen3')


def start_in_model(pruner: Any, sequence: Sequence) -> PrefillRun:
    """Return one run of an in-model pruner over a sequence, in a model of four layers."""
    return prune(sequence, as_stage(pruner, TokenBudget(count=KEPT)), 4)[1]


def whole_sequence(model: Any, ids: Tensor, pixels: Tensor) -> Sequence:
    return build(model, ids, VisionTower(model.model.visual).encode(pixels, GRIDS, AttentionWanted()), NAMES)


def run_ours(
    model: Any, sequence: Sequence, run: PrefillRun = NOTHING_LEAVES, next_position: int | None = None
) -> list[Tensor]:
    """Return the logits of prefill and 12 greedy steps on the pruned sequence, with a cache."""
    runner = LanguageRunner(model)
    logits, cache = runner.prefill(sequence, run)
    position = sequence.next_position if next_position is None else next_position
    out = [logits]
    for step in range(STEPS):
        out.append(runner.step(int(out[-1].argmax()), position + step, cache))
    return out


def run_masked(model: Any, sequence: Sequence, kept: Tensor, features: Tensor | None = None) -> list[Tensor]:
    """The reference: the stock model over the whole sequence, a 0/1 mask on what was dropped, no cache."""
    embeddings, positions = sequence.embeddings.clone(), sequence.positions
    mask = torch.zeros(1, embeddings.shape[1], dtype=torch.int64)
    mask[0, sequence.text] = 1
    mask[0, sequence.visual[kept]] = 1
    if features is not None:
        embeddings[0, sequence.visual[kept]] = features
    out: list[Tensor] = []
    for _ in range(STEPS + 1):
        extra = {}
        if sequence.deepstack:
            visual = torch.zeros(1, embeddings.shape[1], dtype=torch.bool)
            visual[0, sequence.visual] = True
            extra = {'visual_pos_masks': visual, 'deepstack_visual_embeds': list(sequence.deepstack)}
        hidden = model.model.language_model(
            inputs_embeds=embeddings, position_ids=positions, attention_mask=mask, use_cache=False, **extra
        ).last_hidden_state
        out.append(model.lm_head(hidden[:, -1]))
        token = model.get_input_embeddings()(out[-1].argmax(dim=-1, keepdim=True))
        embeddings = torch.cat([embeddings, token], dim=1)
        positions = torch.cat([positions, positions.max().expand(3, 1, 1) + 1], dim=2)
        mask = torch.cat([mask, torch.ones(1, 1, dtype=torch.int64)], dim=1)
    return out


def difference(ours: list[Tensor], reference: list[Tensor]) -> float:
    """Return the largest difference of logits; infinite where the tokens differ."""
    if [int(x.argmax()) for x in ours] != [int(x.argmax()) for x in reference]:
        return float('inf')
    return max(float((a - b).abs().max()) for a, b in zip(ours, reference, strict=True))


def pruner_for(name: str, model: Any) -> Any:
    if name != 'recon':
        return make_pruner(name)
    torch.manual_seed(3)
    return ReconPruner(layer_spec(model.config)).eval()


def is_in_model(name: str) -> bool:
    return name != 'recon' and isinstance(make_pruner(name), InModelPruner)


OF_ANY_MODEL = tuple(name for name in PRUNER_NAMES if name != 'plan')  # which knows what a native model reads
BEFORE = tuple(name for name in OF_ANY_MODEL if not is_in_model(name))
INSIDE = tuple(name for name in OF_ANY_MODEL if is_in_model(name))


def test_the_numbers_of_the_whole_sequence(tiny: Callable[..., Any], prompt_ids: Tensor) -> None:
    positions = whole_positions(tiny('qwen2.5'), prompt_ids, GRIDS)
    assert positions.shape == (3, 1, 169)
    assert GRIDS.units == 144
    assert int(positions.max()) + 1 == 61


@pytest.mark.parametrize(('name', 'attention'), [(name, 'sdpa') for name in BEFORE] + [('visionzip', 'eager')])
@pytest.mark.parametrize('family', FAMILIES)
@torch.inference_mode()
def test_pruning_before_the_language_model_equals_masking(
    tiny: Callable[..., Any], prompt_ids: Tensor, pixels: Callable[..., Tensor], family: str, name: str, attention: str
) -> None:
    model = tiny(family, attention)
    whole = whole_sequence(model, prompt_ids, pixels(model))
    budget = TokenBudget(count=KEPT)
    kept = pruner_for(name, model).select(whole.tokens, budget, whole.embeddings[:, whole.text])
    features = None if kept.features is None else kept.features[0]
    pruned = whole.select(kept.index[0], features)
    assert pruned.embeddings.shape[1] == len(whole.text) + (whole.tokens.features.shape[1] if name == 'none' else KEPT)
    assert difference(run_ours(model, pruned), run_masked(model, whole, kept.index[0], features)) < TOLERANCE


class Recorded:
    """A run that notes, at each stage, which places of the whole sequence stay and what they hold then."""

    def __init__(self, run: PrefillPruning, length: int) -> None:
        self._run, self._here = run, torch.arange(length)
        self.stages: list[tuple[int, Tensor, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    def step(self, layer: int, hidden: Tensor, queries: Tensor, keys: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        out, keep = self._run.step(layer, hidden, queries, keys, visible)
        self._here = self._here[keep[0]]
        self.stages.append((layer, self._here, out))
        return out, keep


def run_layer_masked(
    model: Any, sequence: Sequence, stages: list[tuple[int, Tensor, Tensor]], merge: bool = True
) -> list[Tensor]:
    """The reference for pruning inside: all layers over all tokens, dropped columns masked from their layer on."""
    language = model.model.language_model
    embeddings, positions = sequence.embeddings, sequence.positions
    out: list[Tensor] = []
    for _ in range(STEPS + 1):
        length = embeddings.shape[1]
        hidden = embeddings
        rotary = language.rotary_emb(hidden, positions)
        seen = torch.ones(length, dtype=torch.bool)
        for number, layer in enumerate(language.layers):
            allowed = torch.ones(length, length, dtype=torch.bool).tril() & seen
            allowed |= torch.eye(length, dtype=torch.bool)  # no row of the softmax is empty
            mask = torch.zeros(length, length).masked_fill(~allowed, torch.finfo(torch.float32).min)
            hidden = layer(hidden, attention_mask=mask[None, None], position_embeddings=rotary)
            if number < len(sequence.deepstack):
                hidden = hidden.clone()
                hidden[:, sequence.visual] += sequence.deepstack[number]
            for at, stay, states in stages:
                if at == number:
                    seen = torch.zeros(length, dtype=torch.bool)
                    seen[stay] = True
                    seen[sequence.embeddings.shape[1] :] = True
                    if not merge:
                        continue
                    hidden = hidden.clone()
                    merged = (hidden[0, stay] - states[0]).abs().amax(dim=-1) > 1e-3
                    hidden[0, stay[merged]] = states[0, merged]
        out.append(model.lm_head(language.norm(hidden)[:, -1]))
        embeddings = torch.cat([embeddings, language.embed_tokens(out[-1].argmax(dim=-1, keepdim=True))], dim=1)
        positions = torch.cat([positions, positions.max().expand(3, 1, 1) + 1], dim=2)
    return out


@pytest.mark.parametrize('attention', ['sdpa', 'eager'])
@pytest.mark.parametrize('name', INSIDE)
@pytest.mark.parametrize('family', FAMILIES)
@torch.inference_mode()
def test_pruning_inside_the_language_model_equals_masking(
    tiny: Callable[..., Any], prompt_ids: Tensor, pixels: Callable[..., Tensor], family: str, name: str, attention: str
) -> None:
    model = tiny(family, attention)
    whole = whole_sequence(model, prompt_ids, pixels(model))
    pruner = pruner_for(name, model)
    run = Recorded(start_in_model(pruner, whole), whole.embeddings.shape[1])
    runner = LanguageRunner(model)
    ours = run_ours(model, whole, run)
    assert run.stages
    assert len(run.stages[-1][1]) < whole.embeddings.shape[1]
    assert difference(ours, run_layer_masked(model, whole, run.stages)) < TOLERANCE
    # The cache is ragged: later layers hold fewer.
    _, cache = runner.prefill(whole, start_in_model(pruner, whole))
    lengths = [layer.keys.shape[2] for layer in cache.layers]
    assert lengths[0] == 169
    assert lengths[-1] == len(run.stages[-1][1]) < 169
    # And the comparison sees it when tokens leave one layer too late.
    later = [(layer + 1, stay, states) for layer, stay, states in run.stages]
    assert difference(ours, run_layer_masked(model, whole, later, merge=False)) > 1e-3


@torch.inference_mode()
def test_judges_have_seen_all_pictures(
    tiny: Callable[..., Any], prompt_ids: Tensor, pixels: Callable[..., Tensor]
) -> None:
    """Words before a picture cannot attend to it, and would favour the pictures before them."""
    model = tiny('qwen2.5')
    whole = whole_sequence(model, prompt_ids, pixels(model))
    run = start_in_model(pruner_for('sparsevlm', model), whole)
    words_between = int((whole.text < whole.visual[-1]).sum())
    assert words_between > 0
    assert run.text.shape[1] == len(whole.text) - words_between > 0
    assert int(run.text.min()) > int(whole.visual.max())


@pytest.fixture
def half(
    tiny: Callable[..., Any], prompt_ids: Tensor, pixels: Callable[..., Tensor]
) -> Callable[[str], tuple[Any, Sequence, Tensor]]:
    """Return a maker of (model, whole sequence, 53 random visual tokens)."""

    def make(family: str) -> tuple[Any, Sequence, Tensor]:
        model = tiny(family)
        whole = whole_sequence(model, prompt_ids, pixels(model))
        chosen = torch.randperm(144, generator=torch.Generator().manual_seed(1))[:KEPT].sort().values
        return model, whole, chosen

    return make


@pytest.mark.parametrize('family', FAMILIES)
@torch.inference_mode()
def test_wrong_positions_are_noticed(half: Callable[[str], tuple[Any, Sequence, Tensor]], family: str) -> None:
    model, whole, kept = half(family)
    reference = run_masked(model, whole, kept)
    pruned = whole.select(kept)
    assert difference(run_ours(model, pruned), reference) < TOLERANCE
    length = pruned.embeddings.shape[1]
    stale = length + whole.next_position - whole.embeddings.shape[1]  # rope_delta of the whole, length of the pruned
    assert difference(run_ours(model, pruned, next_position=stale), reference) > 1e-2
    renumbered = dataclasses.replace(pruned, positions=torch.arange(length).expand(3, 1, -1), next_position=length)
    assert difference(run_ours(model, renumbered), reference) > 1e-2


@torch.inference_mode()
def test_wrong_stock_calls_are_noticed(half: Callable[[str], tuple[Any, Sequence, Tensor]]) -> None:
    model, whole, kept = half('qwen2.5')
    reference = run_masked(model, whole, kept)
    pruned = whole.select(kept)
    length = pruned.embeddings.shape[1]
    model.model.rope_deltas = None
    generated = model.generate(
        inputs_embeds=pruned.embeddings,
        attention_mask=torch.ones(1, length, dtype=torch.int64),
        max_new_tokens=STEPS,
        do_sample=False,
    )
    assert generated[0, :STEPS].tolist() != [int(x.argmax()) for x in reference[:STEPS]]
    # A text row with gaps is read as packed sequences; the same row without gaps is right.
    gaps = torch.cat([whole.text, whole.visual[kept]]).sort().values.view(1, 1, -1)
    first = []
    for row in (gaps, torch.arange(length).view(1, 1, -1)):
        hidden = model.model.language_model(
            inputs_embeds=pruned.embeddings, position_ids=torch.cat([row, pruned.positions]), use_cache=False
        ).last_hidden_state
        first.append(float((model.lm_head(hidden[:, -1]) - reference[0]).abs().max()))
    assert first[0] > 1e-2
    assert first[1] < TOLERANCE


@torch.inference_mode()
def test_wrong_deepstack_is_noticed(half: Callable[[str], tuple[Any, Sequence, Tensor]]) -> None:
    model, whole, kept = half('qwen3')
    assert len(whole.deepstack) == 3
    pruned = whole.select(kept)
    runner, reference = LanguageRunner(model), run_masked(model, whole, kept)[0]

    def off(sequence: Sequence) -> float:
        return float((runner.prefill(sequence)[0] - reference).abs().max())

    assert off(pruned) < TOLERANCE
    assert off(dataclasses.replace(pruned, deepstack=())) > 0.1
    turned = tuple(level.flip(0) for level in pruned.deepstack)
    assert off(dataclasses.replace(pruned, deepstack=turned)) > 0.1
    with pytest.raises((RuntimeError, IndexError)):
        off(dataclasses.replace(pruned, deepstack=whole.deepstack))


@torch.inference_mode()
def test_a_cache_shorter_than_the_sequence_decodes_like_the_stock_loop(
    half: Callable[[str], tuple[Any, Sequence, Tensor]],
) -> None:
    """Without pruning, tokens equal those of `generate` on ids and pictures."""
    model, whole, _ = half('qwen2.5')
    ours = list(itertools.islice(LanguageRunner(model).greedy(whole), STEPS))
    cache, logits = DynamicCache(), None
    hidden = model.model.language_model(
        inputs_embeds=whole.embeddings, position_ids=whole.positions, past_key_values=cache
    ).last_hidden_state
    stock = []
    for step in range(STEPS):
        logits = model.lm_head(hidden[:, -1])
        stock.append(int(logits.argmax()))
        place = torch.full((3, 1, 1), whole.next_position + step)
        hidden = model.model.language_model(
            input_ids=torch.tensor([[stock[-1]]]), position_ids=place, past_key_values=cache
        ).last_hidden_state
    assert ours == stock


@torch.inference_mode()
def test_indices_that_do_not_ascend_are_refused(half: Callable[[str], tuple[Any, Sequence, Tensor]]) -> None:
    _, whole, kept = half('qwen2.5')
    with pytest.raises(ValueError, match='do not ascend'):
        whole.select(kept.flip(0))
