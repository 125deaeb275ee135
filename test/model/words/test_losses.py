# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What words learn from, and what of it reaches driving."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.tokens import ClipBatch, VisualTokens
from vla_driver.model.words.gate import gate_loss
from vla_driver.model.words.grammar import Grammar, Statement
from vla_driver.model.words.labels import ACTIONS, HAZARDS, shown_cameras, spoken, statements
from vla_driver.model.words.losses import word_losses
from vla_driver.types import CAMERA_NAMES, HazardKind, InvalidInput, MetaAction


def _all_shown(batch: ClipBatch) -> torch.Tensor:
    return torch.ones(len(batch.stamp_s), 6, dtype=torch.bool)


def test_labels_become_statements(
    speaking_model: Callable[..., VlaModel], reasoned_batch: Callable[..., ClipBatch]
) -> None:
    config = speaking_model().config
    batch = reasoned_batch(config)
    reason = batch.labels.reason
    assert reason is not None
    made = statements(batch.labels, batch.inputs.speed_mps, _all_shown(batch), config.camera_names)
    for row, statement in enumerate(made):
        assert statement is not None
        hazard = HAZARDS[int(reason.hazard[row])]
        camera = config.camera_names[int(reason.camera[row])] if hazard is not HazardKind.NONE else ''
        assert statement.meaning == (ACTIONS[int(reason.meta_action[row])], hazard, camera)
    unknown = dataclasses.replace(reason, known=reason.known & (torch.arange(8) != 3))
    labels = dataclasses.replace(batch.labels, reason=unknown)
    made = statements(labels, batch.inputs.speed_mps, _all_shown(batch), config.camera_names)
    assert [k for k, one in enumerate(made) if one is None] == [3]
    outside = dataclasses.replace(reason, hazard=reason.hazard + 9)
    with pytest.raises(InvalidInput, match='reason labels: meta-action'):
        statements(
            dataclasses.replace(batch.labels, reason=outside), batch.inputs.speed_mps, _all_shown(batch), CAMERA_NAMES
        )


@pytest.mark.parametrize('lost', range(6))
def test_a_hazard_in_a_camera_that_is_lost_is_not_said(
    speaking_model: Callable[..., VlaModel], reasoned_batch: Callable[..., ClipBatch], lost: int
) -> None:
    config = speaking_model().config
    batch = reasoned_batch(config, clips=4, ticks=6)
    reason = batch.labels.reason
    assert reason is not None
    shown = _all_shown(batch)
    shown[:, lost] = False
    made = statements(batch.labels, batch.inputs.speed_mps, shown, config.camera_names)
    hit = reason.camera == lost
    assert hit.any()
    for row, statement in enumerate(made):
        assert statement is not None
        assert statement.camera != config.camera_names[lost]
        # Not kept silent about for another camera's sake: only this one's hazards become nothing.
        assert (statement.hazard is HazardKind.NONE) == bool(hit[row] | (reason.hazard[row] == 0))


def test_which_cameras_are_shown(make_tokens: Callable[..., VisualTokens]) -> None:
    tokens = make_tokens(0, batch=2)
    valid = tokens.valid.clone()
    valid[1] &= tokens.camera != 2
    shown = shown_cameras(dataclasses.replace(tokens, valid=valid), 2, 4, torch.device('cpu'))
    assert shown.tolist() == [[True] * 4, [True, True, False, True]]
    ahead = dataclasses.replace(tokens, valid=valid).select((tokens.camera < 2).nonzero()[:, 0])
    assert shown_cameras(ahead, 2, 4, torch.device('cpu')).tolist() == [[True, True, False, False]] * 2
    assert shown_cameras(None, 2, 4, torch.device('cpu')).all()
    # What a pruner has dropped is not seen, either.
    first = tokens.camera == 0
    kept = KeptTokens(torch.stack([first.nonzero()[:6, 0], (tokens.camera == 1).nonzero()[:6, 0]]))
    shown = shown_cameras(dataclasses.replace(tokens, valid=valid), 2, 4, torch.device('cpu'), kept)
    assert shown.tolist() == [[True, False, False, False], [False, True, False, False]]


def test_sentences_as_tensors() -> None:
    grammar = Grammar(1, CAMERA_NAMES)
    light = Statement(MetaAction.STOP, 0.0, HazardKind.RED_LIGHT, 'front', 20.0, 'red')
    what = spoken(grammar, [light, None, Statement(MetaAction.KEEP, 8.0)], torch.ones(3, 6, dtype=torch.bool))
    ids = grammar.say(light)
    assert what.read[0, : len(ids)].tolist() == [grammar.start, *ids[:-1]]
    assert what.said[0, : len(ids)].tolist() == ids
    assert what.known.tolist() == [True, False, True]
    chosen = [
        [grammar.vocabulary.words[k] for k in row[mask].tolist()]
        for row, mask in zip(what.said, what.choice, strict=True)
    ]
    assert chosen == [['light', 'front', '20', 'stop', '0'], [], ['nothing', 'hold', '30']]
    assert what.order[0][what.choice[0]].tolist() == [0, 1, 2, 3, 4]
    assert what.allowed.any(dim=-1).all()
    assert what.allowed.gather(2, what.said.unsqueeze(2)).all()


def test_losses_fall_and_are_finite(
    speaking_model: Callable[..., VlaModel], reasoned_batch: Callable[..., ClipBatch]
) -> None:
    torch.manual_seed(0)
    model = speaking_model().train()
    batch = reasoned_batch(model.config, clips=2, ticks=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = []
    for _ in range(24):
        out = model(batch, stage='policy')
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        history.append({name: float(out.losses[name]) for name in ('words', 'drafts', 'gate')})
    for name in ('words', 'drafts'):
        first, last = (sum(one[name] for one in part) / 6 for part in (history[:6], history[-6:]))
        assert math.isfinite(last)
        assert last < 0.8 * first, name


@pytest.mark.parametrize(('share', 'reaches'), [(0.0, False), (0.25, True)])
def test_driving_is_shielded_from_words(
    speaking_model: Callable[..., VlaModel], reasoned_batch: Callable[..., ClipBatch], share: float, reaches: bool
) -> None:
    model = speaking_model(words={'prefix_gradient': share})
    batch = reasoned_batch(model.config)
    seen, ego = model.encode(batch.inputs), model.ego(batch.inputs)
    prefix = model.prefill(ego, seen.tokens, None)
    losses = word_losses(
        model.words, model.language.layers, prefix, batch, _all_shown(batch), model.config.words_config.prefix_gradient
    )
    losses['words'].backward(retain_graph=True)
    of_vision = [p.grad for p in model.vision.parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)]
    assert bool(of_vision) == reaches
    assert model.words.embedding.weight.grad is not None
    model.zero_grad()
    (losses['drafts'] + losses['gate']).backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)}
    assert reached
    assert all(name.startswith(('words.drafts.', 'words.gate.')) for name in reached)


def test_without_labels_words_cost_nothing_but_take_part(
    speaking_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = speaking_model().train()
    out = model(clip_batch(model.config), stage='policy')
    assert [float(out.losses[name]) for name in ('words', 'drafts', 'gate')] == [0.0, 0.0, 0.0]
    out.loss.backward()
    # Processes add up gradients weight by weight: nobody may have fewer than the others.
    assert all(p.grad is not None for p in model.words.parameters())


def test_the_gate_learns_whether_a_statement_still_holds(
    speaking_model: Callable[..., VlaModel], reasoned_batch: Callable[..., ClipBatch]
) -> None:
    torch.manual_seed(0)
    model = speaking_model()
    gate, rows, ticks = model.words.gate, 240, 6
    # What the scene says is the meaning itself: the first channels tell the action now.
    action = torch.randint(0, 2, (rows // 3,)).repeat_interleave(3)
    scene = torch.zeros(rows, 3, 32)
    scene[torch.arange(rows), 0, action] = 3.0
    meaning = torch.stack([action, torch.zeros_like(action), torch.full_like(action, -1)], dim=1)
    known, stamps = torch.ones(rows, dtype=torch.bool), 0.5 * torch.arange(rows).double()
    optimizer = torch.optim.Adam(gate.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        gate_loss(gate, scene, meaning, known, stamps, ticks, training=True).backward()
        optimizer.step()
    with torch.no_grad():
        age = torch.full((rows,), 0.5)
        holds = gate(scene, meaning, age).sigmoid()
        other = torch.cat([1 - meaning[:, :1], meaning[:, 1:]], dim=1)
        fails = gate(scene, other, age).sigmoid()
    assert holds.max() < 0.2
    assert fails.min() > 0.8
