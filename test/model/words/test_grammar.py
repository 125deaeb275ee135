# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Statements to sentences and back, and what is no sentence."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from vla_driver.model.words.grammar import Grammar, Statement, WordFault, why_of
from vla_driver.model.words.vocabulary import DISTANCES_M, SPEEDS_KMH, VOCABULARY_FILE, make_vocabulary
from vla_driver.types import CAMERA_NAMES, HazardKind, InvalidInput, MalformedAnswer, MetaAction

GRAMMAR = Grammar(1, CAMERA_NAMES)


def _every_statement() -> list[Statement]:
    """All that can be said, distances and speeds as they are said."""
    made = []
    for action, speed in itertools.product(MetaAction, SPEEDS_KMH):
        made.append(Statement(action, speed / 3.6))
    reasons = {
        HazardKind.RED_LIGHT: ('red',),
        HazardKind.VEHICLE_AHEAD: ('stopped', 'slower', 'moving'),
        HazardKind.VEHICLE_CROSSING: ('crossing',),
        HazardKind.PERSON: ('crossing',),
    }
    for hazard, whys in reasons.items():
        for why, camera, metres, action in itertools.product(whys, CAMERA_NAMES, DISTANCES_M, MetaAction):
            made.append(Statement(action, 10 / 3.6, hazard, camera, float(metres), why))
    return made


def test_every_statement_is_said_and_understood() -> None:
    texts = set()
    for statement in _every_statement():
        ids = GRAMMAR.say(statement)
        assert len(ids) <= GRAMMAR.longest
        back = GRAMMAR.understand(ids)
        assert back.meaning == statement.meaning
        assert back.why == statement.why
        assert back.target_speed_mps == pytest.approx(statement.target_speed_mps)
        assert back.distance_m == statement.distance_m or math.isnan(statement.distance_m)
        text = GRAMMAR.text(ids)
        assert GRAMMAR.read(text) == ids
        assert 8 <= sum(word not in ',.' for word in text.replace(',', ' ,').replace('.', ' .').split()) <= 14
        texts.add(text)
    assert len(texts) == len(_every_statement())


def test_a_sentence_reads_as_english() -> None:
    light = Statement(MetaAction.STOP, 0.0, HazardKind.RED_LIGHT, 'front', 18.0)
    assert GRAMMAR.text(GRAMMAR.say(light)) == 'light in front at 20 m is red, so stop, target 0 km/h.'
    nothing = Statement(MetaAction.KEEP, 8.4)
    assert GRAMMAR.text(GRAMMAR.say(nothing)) == 'nothing in view matters, so hold, target 30 km/h.'
    crossing = Statement(MetaAction.SLOW_DOWN, 2.5, HazardKind.VEHICLE_CROSSING, 'front_left', 9.0, 'crossing')
    assert GRAMMAR.text(GRAMMAR.say(crossing)) == 'vehicle in front-left at 10 m is crossing, so slow, target 10 km/h.'


def test_a_statement_becomes_an_intent() -> None:
    statement = Statement(MetaAction.STOP, 0.0, HazardKind.PERSON, 'front_right', 5.0, 'crossing')
    intent = statement.intent(12.5, 2.0, np.array([1.0, 2.0, 0.3]), 0.75, 'a text')
    assert (intent.stamp_s, intent.ttl_s, intent.confidence, intent.text) == (12.5, 2.0, 0.75, 'a text')
    assert (intent.meta_action, intent.hazard) == (MetaAction.STOP, HazardKind.PERSON)
    assert (intent.hazard_camera, intent.hazard_m, intent.target_speed_mps) == ('front_right', 5.0, 0.0)
    assert intent.pose is not None
    assert intent.pose.tolist() == [1.0, 2.0, 0.3]


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        ('', WordFault.EMPTY),
        ('light in front at 20 m is purple, so stop, target 0 km/h.', WordFault.UNKNOWN_WORD),
        ('<start> nothing in view matters, so hold, target 30 km/h.', WordFault.UNKNOWN_WORD),
        ('light in front at 20 m is crossing, so stop, target 0 km/h.', WordFault.FORBIDDEN_WORD),
        ('nothing in front matters, so hold, target 30 km/h.', WordFault.FORBIDDEN_WORD),
        ('stop.', WordFault.FORBIDDEN_WORD),
        ('light in front at 25 m is red, so stop, target 0 km/h.', WordFault.FORBIDDEN_WORD),
        ('nothing in view matters, so hold, target 30 km/h', WordFault.UNFINISHED),
        ('nothing in view matters, so hold, target 30 km/h. so', WordFault.STRAY_TEXT),
    ],
)
def test_what_the_grammar_forbids_is_refused_by_name(text: str, fault: WordFault) -> None:
    with pytest.raises(MalformedAnswer) as refused:
        GRAMMAR.read(text)
    assert refused.value.fault == fault


@pytest.mark.parametrize('masked', CAMERA_NAMES)
def test_a_masked_camera_is_never_allowed(masked: str) -> None:
    seen = [name for name in CAMERA_NAMES if name != masked]
    place = GRAMMAR.vocabulary.id(masked.replace('_', '-'))
    for noun in ('light', 'vehicle', 'person'):
        allowed = GRAMMAR.allowed(GRAMMAR.vocabulary.ids([noun, 'in']), seen)
        assert place not in allowed
        assert len(allowed) == len(seen)
    statement = Statement(MetaAction.STOP, 0.0, HazardKind.PERSON, masked, 5.0)
    ids = GRAMMAR.say(statement)
    assert GRAMMAR.understand(ids, CAMERA_NAMES).camera == masked
    with pytest.raises(MalformedAnswer) as refused:
        GRAMMAR.understand(ids, seen)
    assert refused.value.fault == WordFault.UNSEEN_CAMERA


def test_without_any_camera_nothing_matters() -> None:
    assert GRAMMAR.allowed([], ()) == [GRAMMAR.vocabulary.id('nothing')]
    assert GRAMMAR.allowed([], ('side',)) == [GRAMMAR.vocabulary.id('nothing')]
    assert len(GRAMMAR.allowed([], ('back',))) == 4


def test_why_a_vehicle_ahead_matters() -> None:
    ahead = HazardKind.VEHICLE_AHEAD
    assert why_of(ahead, 8.0, 0.1) == 'stopped'
    assert why_of(ahead, 8.0, 4.0) == 'slower'
    assert why_of(ahead, 8.0, 7.9) == 'moving'
    assert why_of(ahead, 8.0, math.inf) == 'slower'
    assert why_of(HazardKind.NONE, 8.0) == ''


def test_statements_that_cannot_be_said_are_refused() -> None:
    with pytest.raises(InvalidInput, match="camera 'roof', allowed: front_left"):
        GRAMMAR.say(Statement(MetaAction.STOP, 0.0, HazardKind.PERSON, 'roof', 5.0))
    with pytest.raises(InvalidInput, match='target speed nan'):
        GRAMMAR.say(Statement(MetaAction.STOP, math.nan))
    with pytest.raises(InvalidInput, match='grammar is 7, allowed: 0'):
        make_vocabulary(7, CAMERA_NAMES)


def test_the_vocabulary_is_kept_beside_the_weights(tmp_path: Path) -> None:
    vocabulary = GRAMMAR.vocabulary
    with pytest.raises(InvalidInput, match=r'has no vocabulary\.json'):
        vocabulary.check(tmp_path)
    vocabulary.save(tmp_path)
    vocabulary.check(tmp_path)
    content = json.loads((tmp_path / VOCABULARY_FILE).read_text())
    assert content['words'] == list(vocabulary.words)
    content['words'][3:5] = reversed(content['words'][3:5])
    (tmp_path / VOCABULARY_FILE).write_text(json.dumps(content))
    with pytest.raises(InvalidInput, match='word 3 is'):
        vocabulary.check(tmp_path)
    (tmp_path / VOCABULARY_FILE).write_text('{"words": 3}')
    with pytest.raises(InvalidInput, match='is no vocabulary'):
        vocabulary.check(tmp_path)
