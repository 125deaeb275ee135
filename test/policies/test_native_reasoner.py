# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Observations to sentences: memory, cameras that are lost or blank, the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.words.decoding import say_slowly
from vla_driver.policies.native_reasoner import NativeReasoner
from vla_driver.policies.reasoners import load_reasoner
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import CAMERA_NAMES, HazardKind, InvalidInput, Observation, Reasoner

Observe = Callable[..., Observation]
Make = Callable[..., VlaModel]


def _alarmed(model: VlaModel) -> VlaModel:
    """Return a model that would always rather name something than nothing."""
    speaker = model.words
    with torch.no_grad():
        speaker.norm.weight.fill_(1.0)
        speaker.embedding.weight[speaker.grammar.vocabulary.id('nothing')] *= 0.0
        person = speaker.grammar.vocabulary.id('person')
        prefix = model.language.prefill(torch.zeros(1, 5, 32), 3)
        hidden, _ = speaker.read(model.language.layers, prefix, torch.tensor([[speaker.grammar.start]]))
        speaker.embedding.weight[person] = hidden[0, 0]
    return model


def test_an_observation_becomes_an_intent(speaking_model: Make, observe: Observe) -> None:
    reasoner = NativeReasoner(speaking_model(), ttl_s=1.5)
    assert isinstance(reasoner, Reasoner)
    observation = observe(3)
    intent = reasoner.reason(observation)
    assert (intent.stamp_s, intent.ttl_s) == (observation.stamp_s, 1.5)
    assert intent.pose is not None
    assert np.array_equal(intent.pose, observation.ego.pose)
    assert 0.0 < intent.confidence < 1.0
    grammar = reasoner.model.words.grammar
    assert reasoner.said is not None
    assert grammar.read(intent.text) == list(reasoner.said.words)
    statement = grammar.understand(reasoner.said.words)
    assert (intent.meta_action, intent.hazard, intent.hazard_camera) == statement.meaning
    assert intent.target_speed_mps == statement.target_speed_mps
    assert list(reasoner.timing_ms) == ['preprocess', 'prefix', 'words']


@pytest.mark.usefixtures('float32')
def test_the_words_are_those_of_the_whole_drive(speaking_model: Make, observe: Observe) -> None:
    """Drafts by what was said before change passes, not words, and memory counts."""
    drive = [observe(index) for index in range(5)]
    reasoner, model = NativeReasoner(speaking_model(2)), speaking_model(2)
    again = NativeReasoner(model)
    for observation in drive:
        intent = reasoner.reason(observation)
        with torch.inference_mode():
            read = again._perceive(observation, Stopwatch())
            slow = say_slowly(model.words, model.language.layers, read.prefix, read.seen)
        assert model.words.grammar.text(slow.words) == intent.text
        assert reasoner.said is not None
        assert reasoner.said.passes <= slow.passes / 2


@pytest.mark.usefixtures('float32')
@pytest.mark.parametrize('masked', CAMERA_NAMES)
def test_a_camera_without_a_picture_is_never_named(speaking_model: Make, observe: Observe, masked: str) -> None:
    """Neither one that is missing nor one that shows a black stand-in."""
    model = _alarmed(speaking_model())
    speaker = model.words
    place = speaker.grammar.vocabulary.id(masked.replace('_', '-'))
    reasoner = NativeReasoner(model)
    whole = observe(0)
    with torch.no_grad(), torch.inference_mode():
        words = torch.tensor([[speaker.grammar.start, *speaker.grammar.vocabulary.ids(['person', 'in'])]])
        prefix = reasoner._perceive(whole, Stopwatch()).prefix
        hidden, _ = speaker.read(model.language.layers, prefix, words)
        speaker.embedding.weight[place] = 2.0 * hidden[0, -1]
    reasoner.reset()
    assert reasoner.reason(whole).hazard_camera == masked
    if masked != 'front':  # the anchor camera cannot be missing, but it can be black
        reasoner.reset()
        assert reasoner.reason(observe(0, missing=(masked,))).hazard_camera not in (masked, '')
    reasoner.reset()
    frame = dataclasses.replace(whole.frames[masked], blank=True)
    black = dataclasses.replace(whole, frames={**whole.frames, masked: frame})
    intent = reasoner.reason(black)
    assert intent.hazard is HazardKind.PERSON
    assert intent.hazard_camera not in (masked, '')
    assert masked.replace('_', '-') not in intent.text.replace(',', ' ').split()


def test_what_was_said_of_a_camera_is_in_doubt_once_it_is_lost(speaking_model: Make, observe: Observe) -> None:
    reasoner = NativeReasoner(_alarmed(speaking_model()), ask_above=1.0)
    named = reasoner.reason(observe(0)).hazard_camera
    assert named
    assert reasoner.doubt(observe(1)) < 1.0
    frame = observe(2).frames[named]
    lost = dataclasses.replace(observe(2), frames={**observe(2).frames, named: dataclasses.replace(frame, blank=True)})
    assert reasoner.doubt(lost) == 1.0


def test_the_gate_decides_when_to_think(speaking_model: Make, observe: Observe) -> None:
    model = speaking_model()
    reasoner = NativeReasoner(model, ttl_s=1.2)
    assert reasoner.doubt(observe(0)) == 1.0  # nothing was said
    with torch.no_grad():
        model.words.gate.output.weight.zero_()
        model.words.gate.output.bias.fill_(-1.5)
    reasoner.reason(observe(0))
    assert reasoner.doubt(observe(1)) == pytest.approx(torch.tensor(-1.5).sigmoid().item(), abs=1e-3)
    assert not reasoner.asks(observe(2))
    assert reasoner.asks(observe(3))  # 1.5 s later its time is over
    assert (reasoner.asked, reasoner.considered) == (1, 2)
    with torch.no_grad():
        model.words.gate.output.bias.fill_(1.5)
    reasoner.reason(observe(4))
    assert reasoner.asks(observe(5))


def test_an_observation_is_read_once(speaking_model: Make, observe: Observe, monkeypatch: pytest.MonkeyPatch) -> None:
    model = speaking_model()
    reasoner, calls = NativeReasoner(model), []
    encode = model.encode
    monkeypatch.setattr(model, 'encode', lambda *args: (calls.append(1), encode(*args))[1])
    observation = observe(0)
    reasoner.doubt(observation)
    first = reasoner.reason(observation)
    assert len(calls) == 1
    reasoner.reset()
    assert reasoner.reason(observation).text == first.text
    assert len(calls) == 2


def test_a_jump_of_the_clock_ends_what_was_said(speaking_model: Make, observe: Observe) -> None:
    reasoner = NativeReasoner(speaking_model(), ttl_s=100.0)
    reasoner.reason(observe(4))
    assert reasoner.doubt(observe(5)) < 1.0
    assert reasoner.doubt(observe(0, stamp_s=0.5)) == 1.0


def test_checkpoints_as_reasoners(speaking_model: Make, small_model: Make, observe: Observe, tmp_path: Path) -> None:
    speaking_model().save_pretrained(tmp_path / 'speaks')
    small_model().save_pretrained(tmp_path / 'mute')
    speaking_model(blind=True).save_pretrained(tmp_path / 'blind')
    reasoner = load_reasoner(tmp_path / 'speaks', device='cpu')
    assert reasoner.reason(observe(0)).text.endswith(' km/h.')
    with pytest.raises(InvalidInput, match='has no words'):
        load_reasoner(tmp_path / 'mute', device='cpu')
    with pytest.raises(InvalidInput, match='is blind'):
        load_reasoner(tmp_path / 'blind', device='cpu')
    with pytest.raises(InvalidInput, match='reads no words; leave it out'):
        load_reasoner(tmp_path / 'speaks', prompt='a.yaml', device='cpu')
    with pytest.raises(InvalidInput, match='a positive time'):
        NativeReasoner(speaking_model(), ttl_s=0.0)
