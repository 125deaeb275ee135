# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What came when, and where the ego was in between."""

from __future__ import annotations

import math

import pytest

from vla_driver.geometry import se2
from vla_driver.observation.history import History
from vla_driver.observation.messages import ego_at
from vla_driver.types import EgoState


def test_history_answers_from_stamps():
    history: History[str] = History(size=3)
    assert history.at(1.0) is None
    assert history.is_due(1.0)
    for stamp_s in (1.0, 1.2, 1.1):
        history.add(stamp_s, f'{stamp_s}')
    history.add(1.1, 'again')
    assert history.at(1.15) == (1.1, 'again')
    assert history.at(1.2) == (1.2, '1.2')
    assert history.at(0.9, after_s=0.2) == (1.0, '1.0')
    assert history.at(0.9, after_s=0.05) is None
    assert history.at(1.5, before_s=0.2) is None
    history.add(1.3, '1.3')
    assert len(history) == 3
    assert not history.is_due(1.3)
    assert not history.is_due(1.32)  # the next is due at 1.4
    assert history.is_due(1.4)
    assert not history.is_due(2.4)  # it has stopped
    assert history.between(1.1, 1.3) == ('1.2',)
    history.forget_after(1.1)
    assert history.newest_s == 1.1


def test_what_is_too_late_is_brought_back():
    history: History[str] = History()
    assert history.bring_back(1.0, 0.5) == 0.0
    for stamp_s in (0.2, 1.0):
        history.add(stamp_s, f'{stamp_s}')
    assert history.bring_back(1.0, 0.5) == 0.0
    history.add(8.0, 'old')
    history.add(9.0, 'new')
    assert history.bring_back(1.0, 1.0) == 8.0
    assert (history.at(1.0), len(history)) == ((1.0, 'new'), 2)


def test_moving_the_ego_state():
    ego = EgoState(5.0, 1.0, 2.0, 0.3, 8.0, 0.4)
    assert ego_at(ego, 5.0) == ego
    later = ego_at(ego, 5.1)
    turn, radius = 0.04, 8.0 / 0.4
    exact = se2.compose(ego.pose, [radius * math.sin(turn), radius * (1 - math.cos(turn)), turn])
    assert later.pose == pytest.approx(exact, abs=1e-4)
    assert ego_at(later, 5.0).pose == pytest.approx(ego.pose, abs=1e-9)
