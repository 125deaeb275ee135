# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half may have said by a tick of an episode: the reason of an earlier tick, as it looks by now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch

from vla_driver.data.episode import Episode
from vla_driver.data.others import OtherTracks
from vla_driver.data.reasons import HAZARDS, META_ACTIONS, reason_at
from vla_driver.geometry import se2
from vla_driver.model.tokens import IntentInputs
from vla_driver.planning.intent import IntentLimits, optical_azimuth, weight_at
from vla_driver.types import CameraModel

#: How old an intent is where no chance is wanted (validation).
USUAL_AGE_S: Final = 0.5
#: kinds and numbers of a tick to which nothing was said.
SILENCE: Final = ((0, 0, 0), (0.0,) * 7)

Told = tuple[tuple[int, int, int], tuple[float, ...]]


def earlier_tick(stamps: np.ndarray, tick: int, age_s: float) -> int:
    """Return the latest tick that is at least age_s older than `tick`; -1 where there is none."""
    return int(np.searchsorted(stamps[: tick + 1], stamps[tick] - age_s + 1e-6, side='right')) - 1


def told_at(
    episode: Episode,
    tracks: OtherTracks,
    cameras: Mapping[str, CameraModel],
    camera_names: Sequence[str],
    tick: int,
    age_s: float,
    ttl_s: float,
) -> Told:
    """Return what was said of the pictures about age_s before a tick, as a row of `IntentInputs`."""
    stamps = np.asarray(episode['stamp'])
    then = earlier_tick(stamps, tick, age_s)
    if then < 0:
        return SILENCE
    age_s = float(stamps[tick] - stamps[then])
    weight = weight_at(age_s, ttl_s)
    moved = se2.relative(np.asarray(episode['pose'][then]), np.asarray(episode['pose'][tick]))
    limits = IntentLimits()
    if weight <= 0.0 or math.hypot(moved[0], moved[1]) > limits.moved_m or abs(moved[2]) > limits.turned_rad:
        return SILENCE
    reason = reason_at(episode, tracks, then)
    known = math.isfinite(reason.distance_m)
    azimuth = optical_azimuth(cameras[reason.camera]) if reason.camera in cameras else 0.0
    distance = reason.distance_m - moved[0] * math.cos(azimuth) - moved[1] * math.sin(azimuth) if known else 0.0
    place = camera_names.index(reason.camera) + 1 if reason.camera in camera_names else 0
    kinds = (META_ACTIONS.index(reason.meta_action), HAZARDS.index(reason.hazard), place)
    return kinds, (reason.target_speed_mps, 1.0, float(distance), float(known), age_s, 1.0, weight)


def told_inputs(rows: Sequence[Told]) -> IntentInputs | None:
    """Return a batch's rows; None where nothing was said to any of them."""
    if all(row is SILENCE for row in rows):
        return None
    kinds = torch.tensor([row[0] for row in rows], dtype=torch.int64)
    return IntentInputs(kinds, torch.tensor([row[1] for row in rows], dtype=torch.float32))
