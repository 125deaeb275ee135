# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""An intent as the numbers that a native model is told, the same for every engine.  Without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vla_driver.planning.intent import present
from vla_driver.types import HazardKind, Intent, InvalidInput, MetaAction, Observation, Policy

META_ACTIONS: Final = tuple(MetaAction)
HAZARDS: Final = tuple(HazardKind)


def intent_arrays(
    intent: Intent, observation: Observation, camera_names: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return kinds [1, 3] and numbers [1, 7] of `model.tokens.IntentInputs`: an intent as it looks at an observation.

    A camera that the model does not know counts as none.
    """
    now = present(intent, observation)
    place = camera_names.index(intent.hazard_camera) + 1 if intent.hazard_camera in camera_names else 0
    kinds = (META_ACTIONS.index(intent.meta_action), HAZARDS.index(intent.hazard), place)
    numbers = (
        *_known(intent.target_speed_mps),
        *_known(now.hazard_m),
        now.age_s,
        intent.confidence,
        now.weight,
    )
    return np.array([kinds], np.int64), np.array([numbers], np.float32)


@runtime_checkable
class Guided(Protocol):
    """A policy that heeds an intent more or less strongly: 0 not at all, 1 as trained."""

    guidance: float


def set_guidance(policy: Policy, scale: float) -> None:
    """Let a policy heed intents with this scale from its next tick on.

    Raises `InvalidInput`, changing nothing, for a scale out of range, and for another than 1 where none is heeded.
    """
    if not 0.0 <= scale <= 5.0:
        raise InvalidInput(f'guidance {scale:g}: expected 0 (as with no intent) to 5; 1 heeds an intent as trained')
    if policy.needs.intents and isinstance(policy, Guided):
        policy.guidance = float(scale)
    elif scale != 1.0:
        why = (
            f'{policy.engine.engine} heeds an intent as trained; choose engine torch, or leave it at 1'
            if policy.needs.intents
            else f'policy {policy.name!r} can be told no intent; leave it at 1'
        )
        raise InvalidInput(f'guidance {scale:g}: {why}')


def _known(value: float) -> tuple[float, float]:
    """Return a number and 1, or two zeros where it is not known."""
    return (0.0, 0.0) if math.isnan(value) else (value, 1.0)
