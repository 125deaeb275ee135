# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Fewer passes, the very same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch, Prefix
from vla_driver.model.words.decoding import Said, Trust, say, say_slowly
from vla_driver.model.words.labels import shown_cameras, statements
from vla_driver.model.words.losses import word_losses, word_weights
from vla_driver.types import CAMERA_NAMES

SEEN = [CAMERA_NAMES, ('front',), ('front', 'back'), ()]


def _both(model: VlaModel, prefix: Prefix, seen: tuple[str, ...], guess: tuple[int, ...] = ()) -> tuple[Said, Said]:
    layers = model.language.layers
    with torch.no_grad():
        return say_slowly(model.words, layers, prefix, seen), say(model.words, layers, prefix, seen, guess)


def _assert_same(slow: Said, fast: Said) -> None:
    assert fast.words == slow.words
    assert fast.chances == pytest.approx(slow.chances, abs=1e-4)
    assert fast.confidence == pytest.approx(slow.confidence, abs=1e-4)


@pytest.mark.parametrize('seed', range(4))
def test_random_weights_say_the_same(
    speaking_model: Callable[..., VlaModel], random_prefix: Callable[..., Prefix], seed: int
) -> None:
    model = speaking_model(seed)
    grammar, last = model.words.grammar, ()
    with torch.no_grad():  # drafts begin as copies of the main head: here they draft anything
        for head in model.words.drafts:
            head.up.weight.normal_(std=0.5)
    heard = set()
    for number in range(12):
        prefix = random_prefix(model, 10 * seed + number, scale=3.0)
        seen = SEEN[number % len(SEEN)]
        slow, fast = _both(model, prefix, seen, last)
        _assert_same(slow, fast)
        grammar.check(fast.words, seen)
        assert slow.passes == len(slow.words)
        assert fast.passes <= sum(chance < 1.0 for chance in fast.chances) or fast.passes <= 1
        heard.add(fast.words)
        last = fast.words
    assert len(heard) > 2


def test_a_right_guess_takes_one_pass(
    speaking_model: Callable[..., VlaModel], random_prefix: Callable[..., Prefix]
) -> None:
    model = speaking_model(1)
    prefix = random_prefix(model, 3)
    slow, fast = _both(model, prefix, CAMERA_NAMES)
    _, again = _both(model, prefix, CAMERA_NAMES, slow.words)
    _assert_same(slow, again)
    assert again.passes == 1
    # Any other guess costs passes, never words.
    for cut in range(len(slow.words)):
        _, other = _both(model, prefix, CAMERA_NAMES, slow.words[:cut])
        _assert_same(slow, other)
        wrong = (*slow.words[:cut], model.words.grammar.start, *slow.words[cut + 1 :])
        _assert_same(slow, _both(model, prefix, CAMERA_NAMES, wrong)[1])
    assert fast.passes >= 1


def test_a_guess_that_names_an_unseen_camera_is_not_said(
    speaking_model: Callable[..., VlaModel], random_prefix: Callable[..., Prefix]
) -> None:
    model = speaking_model(2)
    grammar = model.words.grammar
    guess = tuple(grammar.read('person in back at 5 m is crossing, so stop, target 0 km/h.'))
    seen = tuple(name for name in CAMERA_NAMES if name != 'back')
    for number in range(6):
        slow, fast = _both(model, random_prefix(model, number), seen, guess)
        _assert_same(slow, fast)
        grammar.check(fast.words, seen)


@pytest.mark.parametrize('masked', CAMERA_NAMES)
def test_a_masked_camera_is_never_named(
    speaking_model: Callable[..., VlaModel], random_prefix: Callable[..., Prefix], masked: str
) -> None:
    model = speaking_model()
    grammar = model.words.grammar
    place = grammar.vocabulary.id(masked.replace('_', '-'))
    with torch.no_grad():  # a model that says nothing but this camera, where it may
        model.words.embedding.weight[place] *= 0
        model.words.embedding.weight[grammar.vocabulary.id('nothing')] *= 0
        prefix = random_prefix(model, 5)
        hidden, _ = model.words.read(
            model.language.layers, prefix, torch.tensor([[grammar.start, *grammar.vocabulary.ids(['person', 'in'])]])
        )
        model.words.embedding.weight[place] = 4.0 * hidden[0, -1]
        model.words.embedding.weight[grammar.vocabulary.id('person')] = 4.0 * hidden[0, 0]
    slow, fast = _both(model, prefix, CAMERA_NAMES)
    _assert_same(slow, fast)
    assert place in fast.words
    seen = tuple(name for name in CAMERA_NAMES if name != masked)
    slow, fast = _both(model, prefix, seen, fast.words)
    _assert_same(slow, fast)
    assert place not in fast.words


def test_a_trained_model_needs_at_most_half_the_passes(
    speaking_model: Callable[..., VlaModel], reasoned_batch: Callable[..., ClipBatch]
) -> None:
    model = speaking_model()
    batch = reasoned_batch(model.config, clips=2, ticks=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.no_grad():
        seen = model.encode(batch.inputs)
        ego = model.ego(batch.inputs)
    shown = shown_cameras(seen.tokens, 8, 6, ego.device)
    for _ in range(150):
        prefix = model.prefill(ego, seen.tokens, None)
        losses = word_losses(model.words, model.language.layers, prefix, batch, shown, prefix_gradient=1.0)
        optimizer.zero_grad()
        (losses['words'] + losses['drafts']).backward()
        optimizer.step()
    wanted = statements(batch.labels, batch.inputs.speed_mps, shown, model.config.camera_names)
    slow_passes = fast_passes = right = 0
    with torch.no_grad():
        prefix = model.prefill(ego, seen.tokens, None)
    for row, statement in enumerate(wanted):
        one = Prefix(
            tuple(k[row : row + 1] for k in prefix.keys),
            tuple(v[row : row + 1] for v in prefix.values),
            prefix.scene[row : row + 1],
        )
        slow, fast = _both(model, one, CAMERA_NAMES)
        _assert_same(slow, fast)
        slow_passes, fast_passes = slow_passes + slow.passes, fast_passes + fast.passes
        assert statement is not None
        right += list(fast.words) == model.words.grammar.say(statement)
    assert right >= 7  # it has learned what it says
    # Half would be met by forced words alone; the drafts must be of use as well.
    assert fast_passes <= slow_passes / 4


def test_confidence_is_how_likely_the_meaning_is(
    speaking_model: Callable[..., VlaModel], random_prefix: Callable[..., Prefix]
) -> None:
    """It is the product of the chances of action, hazard and camera, found by hand; other words do not count."""
    model = speaking_model()
    grammar, layers, prefix = model.words.grammar, model.language.layers, random_prefix(model, 4, scale=3.0)
    weights = word_weights(model.words)
    with torch.no_grad():
        said = say(model.words, layers, prefix, CAMERA_NAMES, trust=Trust(weights, 0.7))
        wanted, total = grammar.understand(said.words).meaning, 0.0
        stack: list[tuple[list[int], float]] = [([], 1.0)]
        while stack:
            line, chance = stack.pop()
            allowed = grammar.allowed(line, CAMERA_NAMES)
            if not allowed:
                total += chance
                continue
            words = torch.tensor([[grammar.start, *line]])
            hidden, _ = model.words.read(layers, prefix, words)
            chances = (model.words.logits(hidden[0, -1]) - weights.log())[allowed].div(0.7).softmax(dim=-1)
            # Distances and speeds make no difference to what comes of it only on average: the one said stands for all.
            same = grammar.synonyms(allowed, said.words[len(line)])
            if len(same) == 1:
                stack.append(([*line, same[0]], chance * float(chances[allowed.index(same[0])])))
            else:
                sure = sum(float(chances[allowed.index(word)]) for word in same)
                stack.append(([*line, said.words[len(line)]], chance * sure))
    assert grammar.understand(said.words).meaning == wanted
    assert said.confidence == pytest.approx(total, rel=1e-4)
    assert 0.0 < said.confidence < 1.0


def test_trust_changes_no_word(speaking_model: Callable[..., VlaModel], random_prefix: Callable[..., Prefix]) -> None:
    model = speaking_model(3)
    prefix, layers = random_prefix(model, 8, scale=3.0), model.language.layers
    even = torch.ones(len(model.words.grammar.vocabulary))
    with torch.no_grad():
        plain, cold, hot = (
            say(model.words, layers, prefix, CAMERA_NAMES, trust=trust)
            for trust in (None, Trust(even, 0.2), Trust(even, 5.0))
        )
    assert plain.words == cold.words == hot.words
    assert cold.confidence > hot.confidence


@pytest.mark.parametrize(
    'changes', [{'num_experts': 4, 'experts_per_token': 2, 'expert_size': 16}, {'attention': ('full', 'local_strided')}]
)
def test_experts_and_sparse_layers_say_the_same(
    small_config: Callable[..., VlaConfig], random_prefix: Callable[..., Prefix], changes: dict[str, Any]
) -> None:
    config = small_config(words_config={'grammar': 1})
    for name, value in changes.items():
        setattr(config.language_config, name, value)
    torch.manual_seed(0)
    model = VlaModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for number in range(6):
        slow, fast = _both(model, random_prefix(model, number, scale=3.0), CAMERA_NAMES)
        _assert_same(slow, fast)
        assert fast.passes <= slow.passes / 2
