# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half said, beside the path: its words and their age, how the plan agrees, and where the hazard is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from vla_driver.planning.intent import PresentIntent, camera_azimuth, present
from vla_driver.types import CameraRig, FloatArray, Intent, Observation, Plan

#: So long a line fits under the bird's-eye view.
_LINE: Final = 34


def told_to(plan: Plan, observation: Observation, intents: Iterable[Intent]) -> PresentIntent | None:
    """Return the intent that a plan was told, as it looked then; None where it was told none of these."""
    if plan.heeded is None:
        return None
    stamp_s = plan.stamp_s - plan.heeded.age_s
    said = next((one for one in intents if abs(one.stamp_s - stamp_s) < 1e-3), None)
    return None if said is None else present(said, observation)


def word_lines(told: PresentIntent | None, plan: Plan) -> tuple[str, ...]:
    """Return the words in short lines, then their age, weight and the plan's agreement; nothing where none was told."""
    if told is None:
        return ()
    lines, line = [], ''
    for word in (told.intent.text or told.intent.meta_action.value).split():
        if line and len(line) + 1 + len(word) > _LINE:
            lines.append(line)
            line = word
        else:
            line = f'{line} {word}'.strip()
    agrees = '' if plan.heeded is None else f', agreement {plan.heeded.agreement:.1f}'
    return (*lines, line, f'said {told.age_s:.1f} s ago{agrees}')


def hazard_place(told: PresentIntent | None, rig: CameraRig) -> FloatArray:
    """Return [1, 2] where what was reacted to is by now, x and y in base_link; [0, 2] where nobody knows, or passed."""
    if told is None or not told.hazard_m > 0.0:
        return np.zeros((0, 2))
    azimuth = camera_azimuth(rig, told.intent.hazard_camera)
    return told.hazard_m * np.array([[math.cos(azimuth), math.sin(azimuth)]])
