# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Words beside the path."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from vla_driver.geometry import unicycle
from vla_driver.planning.agreement import heeded_in
from vla_driver.planning.intent import present
from vla_driver.show.drawing import HAZARD_COLOUR, Scene, birds_eye
from vla_driver.show.words import hazard_place, told_to, word_lines
from vla_driver.types import PLAN_STEPS, HazardKind, Intent, MetaAction, Observation, Plan


def test_words_their_age_and_the_hazard_are_shown(observation_at: Callable[..., Observation]) -> None:
    observation = observation_at(10.0)
    text = 'light red front near : stop because it is red and close'
    intent = Intent(
        9.5, MetaAction.STOP, 2.0, np.array([-3.0, 0.0, 0.0]), 0.0, HazardKind.RED_LIGHT, '', 18.0, 0.9, text
    )
    told = present(intent, observation)
    trajectory = unicycle.integrate(5.0, np.full(PLAN_STEPS, -1.5), np.zeros(PLAN_STEPS))
    plan = Plan(10.0, trajectory, observation.ego, 'model')
    plan = dataclasses.replace(plan, heeded=heeded_in(plan, told))
    *words, age = word_lines(told, plan)
    assert ' '.join(words) == text and max(map(len, words)) <= 34
    assert age == 'said 0.5 s ago, agreement 1.0'
    assert word_lines(None, plan) == ()
    np.testing.assert_allclose(hazard_place(told, observation.rig), [[15.0, 0.0]])
    passed = present(dataclasses.replace(intent, hazard_m=2.0), observation)
    assert len(hazard_place(passed, observation.rig)) == len(hazard_place(None, observation.rig)) == 0
    # Of what was recorded, a plan's own intent is found by its age.
    others = [dataclasses.replace(intent, stamp_s=stamp_s) for stamp_s in (9.0, 9.5, 10.0)]
    found = told_to(plan, observation, others)
    assert found is not None and found.intent.stamp_s == pytest.approx(9.5)
    assert told_to(dataclasses.replace(plan, heeded=None), observation, others) is None
    bare, ringed = (
        birds_eye(plan, Scene(hazards_m=places)) for places in (np.zeros((0, 2)), hazard_place(told, observation.rig))
    )
    changed = (bare != ringed).any(axis=2)
    assert changed.sum() > 50
    assert (np.abs(ringed[changed].astype(int) - HAZARD_COLOUR).sum(axis=1) < 30).sum() > 20
