# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the expert reacted to at a tick of an episode, and what it did about it: labels of words (version 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from vla_driver.data.episode import Episode
from vla_driver.data.others import OtherTracks
from vla_driver.model.tokens import ReasonLabels
from vla_driver.planning.meta_action import meta_action, target_speed_mps
from vla_driver.sim.expert import Cause
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES, HazardKind, MetaAction

META_ACTIONS: Final = tuple(MetaAction)
HAZARDS: Final = tuple(HazardKind)

#: What the expert will react to within this many points of its plan (1.5 s) is what it reacts to.
_SOON: Final = 6
#: Fewer pixels of the stored picture show nothing.
_VISIBLE_PIXELS: Final = 3.0
_FRONT: Final = CAMERA_NAMES.index(ANCHOR_CAMERA)


@dataclass(frozen=True)
class Reason:
    """Why and what: of one tick.

    camera: the name of the one that shows the hazard best, '' where none does; distance_m: from the rear axle to the
    hazard's centre, of a signal from the bumper to its line; inf for no hazard.
    """

    meta_action: MetaAction
    hazard: HazardKind
    camera: str
    distance_m: float
    target_speed_mps: float


def reason_at(episode: Episode, tracks: OtherTracks, tick: int) -> Reason:
    """Return what the expert reacted to at a tick: now, or else in the next 1.5 s, what comes first."""
    planned = np.asarray(episode['expert_speed'][tick], np.float64)
    action = meta_action(float(episode['speed'][tick]), planned)
    causes = episode['reaction_cause'][tick][:_SOON]
    binding = np.flatnonzero(causes)
    hazard, camera, distance = HazardKind.NONE, '', float('inf')
    if len(binding):
        cause, actor = Cause(int(causes[binding[0]])), int(episode['reaction_actor'][tick][binding[0]])
        if cause is Cause.SIGNAL:
            hazard, camera = HazardKind.RED_LIGHT, _light_camera(episode, tick)
            distance = float(episode['red_light_distance'][tick])
        else:
            hazard = _kind(cause, tracks.kind(actor))
            index, pixels = tracks.seen(tick).get(actor, (-1, 0.0))
            camera = CAMERA_NAMES[index] if pixels >= _VISIBLE_PIXELS else ''
            distance = tracks.distance_m(tick, actor)
    return Reason(action, hazard, camera, distance, target_speed_mps(planned))


def _kind(cause: Cause, body: SemanticClass | None) -> HazardKind:
    # Of those reacted to from beyond the tracks' reach nothing is recorded: they are vehicles, nobody walks so fast.
    if body is SemanticClass.PEDESTRIAN:
        return HazardKind.PERSON
    return HazardKind.VEHICLE_AHEAD if cause is Cause.LEAD else HazardKind.VEHICLE_CROSSING


def _light_camera(episode: Episode, tick: int) -> str:
    """Return the camera that shows the signal: the front one where it shows any, else the one that shows most."""
    pixels = np.asarray(episode['light_pixels'][tick])
    best = _FRONT if pixels[_FRONT] >= _VISIBLE_PIXELS else int(pixels.argmax())
    return CAMERA_NAMES[best] if pixels[best] >= _VISIBLE_PIXELS else ''


def reason_labels(found: Sequence[Reason | None], camera_names: Sequence[str]) -> ReasonLabels | None:
    """Return the reasons of a batch's rows; None in a row: nobody recorded it there.  None where no row has one."""
    if all(reason is None for reason in found):
        return None
    order = {name: place for place, name in enumerate(camera_names)}
    blank = Reason(MetaAction.KEEP, HazardKind.NONE, '', float('inf'), 0.0)
    rows = [reason or blank for reason in found]
    return ReasonLabels(
        known=torch.tensor([reason is not None for reason in found]),
        meta_action=torch.tensor([META_ACTIONS.index(r.meta_action) for r in rows]),
        hazard=torch.tensor([HAZARDS.index(r.hazard) for r in rows]),
        camera=torch.tensor([order.get(r.camera, -1) for r in rows]),
        distance_m=torch.tensor([r.distance_m for r in rows], dtype=torch.float32),
        target_speed_mps=torch.tensor([r.target_speed_mps for r in rows], dtype=torch.float32),
    )
