# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Observations without pictures: for policies and guards that look at the ego state only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vla_driver.types import CameraModel, CameraRig, EgoState, Navigation, Observation, TurnCommand


@pytest.fixture
def observation_at() -> Callable[..., Observation]:
    """Return a maker of observations: (stamp_s, speed_mps=5.0) -> Observation whose only camera is missing."""
    camera = CameraModel('front', 32, 16, np.array([[20.0, 0, 16], [0, 20.0, 8], [0, 0, 1]]), np.eye(4))

    def make(stamp_s: float, speed_mps: float = 5.0) -> Observation:
        return Observation(
            stamp_s,
            {},
            CameraRig('one', (camera,)),
            EgoState(stamp_s, 0.0, 0.0, 0.0, speed_mps),
            Navigation(TurnCommand.FOLLOW, 100.0, np.array([[25.0, 0.0], [50.0, 0.0]])),
            missing=('front',),
        )

    return make
