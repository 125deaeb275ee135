# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The values that pass between the parts of the native model.

Shapes: B batch, C cameras, P patches, N visual tokens, S remembered ticks, M remembered tokens per
tick, D language width.  Camera axes follow `VlaConfig.camera_names`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

_T = TypeVar('_T')


def to_device(value: _T, device: torch.device | str) -> _T:
    """Return a copy of a dataclass of tensors (tuples and None allowed) on `device`."""

    def move(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.to(device, non_blocking=True)
        if isinstance(item, tuple):
            return tuple(move(part) for part in item)
        return to_device(item, device) if dataclasses.is_dataclass(item) else item

    moved = {field.name: move(getattr(value, field.name)) for field in dataclasses.fields(value)}  # type: ignore[arg-type]
    return dataclasses.replace(value, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class ModelInputs:
    """One batch of observations as tensors.

    images: per camera group uint8 [B, G, H, W, 3] RGB; present [B, C] bool: the camera has a picture;
    rays [B', P, 3]: unit viewing directions of the patch centres in base_link; origins [B', C, 3]: camera
    positions in metres (B' divides B: consecutive rows of the batch share one rig);
    speed_mps, yaw_rate_rps [B]; command [B] int64 (TurnCommand); command_distance_m [B];
    targets_m [B, 2, 2]: x forward, y left; patches [B, P, d]: the encoder's patch features, computed before
    (data/features.py); the pictures are then not looked at and `images` may be empty.
    """

    images: tuple[Tensor, ...]
    present: Tensor
    rays: Tensor
    origins: Tensor
    speed_mps: Tensor
    yaw_rate_rps: Tensor
    command: Tensor
    command_distance_m: Tensor
    targets_m: Tensor
    patches: Tensor | None = None


#: Places in `IntentInputs.numbers`.
AGE, CONFIDENCE, WEIGHT = 4, 5, 6


@dataclass(frozen=True)
class IntentInputs:
    """What the slow half said, as it looks at each tick.

    kinds [B, 3] int64: meta-action and hazard, places in `MetaAction` and `HazardKind`; camera, place in
    `VlaConfig.camera_names` plus 1, 0: none.  numbers [B, 7] float32: target speed in m/s and whether one is named
    (0 or 1), metres to the hazard by now and whether they are known, age in seconds, confidence, weight; all 0: nothing
    was said.
    """

    kinds: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class VisualTokens:
    """What the vision encoder sees: the seam at which a pruner selects.

    features [B, N, D]; camera, row, column [N] int64: where each token lies; rays [B, N, 3] unit
    directions and origins [B, N, 3] metres, both in base_link; valid [B, N] bool: false for the tokens
    of a missing camera (their features are the learned "missing" embedding).  names: what the camera numbers
    mean.  attention [B, N], where asked for: how much attention each token's patches receive in the encoder's
    last layer (mean over heads and over the token's patches, summed over the queries).
    """

    features: Tensor
    camera: Tensor
    row: Tensor
    column: Tensor
    rays: Tensor
    origins: Tensor
    valid: Tensor
    names: tuple[str, ...] = ()
    attention: Tensor | None = None

    def select(self, index: Tensor) -> VisualTokens:
        """Return the tokens at index [K] int64 alone, the same ones in every row of the batch."""
        return dataclasses.replace(
            self,
            features=self.features[:, index],
            camera=self.camera[index],
            row=self.row[index],
            column=self.column[index],
            rays=self.rays[:, index],
            origins=self.origins[:, index],
            valid=self.valid[:, index],
            attention=None if self.attention is None else self.attention[:, index],
        )


@dataclass(frozen=True)
class Remembered:
    """Tokens of S earlier ticks, and how the vehicle has moved since.

    features [B, S, M, D]; rays, origins [B, M, 3] in base_link *of that tick*; motion [B, S, 3]: that
    tick's pose (x, y, yaw) seen from now; age_s [B, S] seconds; valid [B, S] bool; places [M] int64: which of a tick's
    tokens these are, where some were selected; None: all.
    """

    features: Tensor
    rays: Tensor
    origins: Tensor
    motion: Tensor
    age_s: Tensor
    valid: Tensor
    places: Tensor | None = None

    def select(self, index: Tensor) -> Remembered:
        """Return what is remembered at the M positions index [K] int64 alone."""
        return dataclasses.replace(
            self,
            places=index if self.places is None else self.places[index],
            features=self.features[:, :, index],
            rays=self.rays[:, index],
            origins=self.origins[:, index],
        )


@dataclass(frozen=True)
class Sight:
    """The N visual tokens that are read: tokens [B, N, D]; rays, origins [B, N, 3] in base_link; valid [B, N] bool."""

    tokens: Tensor
    rays: Tensor
    origins: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Prefix:
    """Everything the language model has read, once: keys and values [B, Hkv, L, head_dim] of every layer.

    scene [B, Q, D]: final hidden states of the scene queries, the last Q tokens of the prefix; read [B, H]
    and view [B, D]: what was read off the panorama (model/native/seeing/view.py), raw and as the sum of its tokens;
    None where nothing is seen.  sight: the visual tokens as they were read first, for a model that forecasts others.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    scene: Tensor
    read: Tensor | None = None
    view: Tensor | None = None
    sight: Sight | None = None


@dataclass(frozen=True)
class AgentLabels:
    """Who else was there, nearest first, and where they went: B rows of up to A others, in base_link at the tick.

    known [B] bool: false for drives that did not record them; present [B, A] bool; person [B, A] bool (else a
    vehicle); pose [B, A, 3]: x, y, yaw of the centre; speed_mps [B, A]; size_m [B, A, 2]: length, width; future
    [B, A, T, 3]: x, y, yaw every 0.25 s; future_valid [B, A, T] bool: false after the end of the drive or out of
    reach; pixels [B, A]: how large it is in the picture that shows it largest, 0 where no camera sees it.
    """

    known: Tensor
    present: Tensor
    person: Tensor
    pose: Tensor
    speed_mps: Tensor
    size_m: Tensor
    future: Tensor
    future_valid: Tensor
    pixels: Tensor


@dataclass(frozen=True)
class ReasonLabels:
    """What the expert reacted to and what it did about it, as numbers of `data/reasons.py`; all [B].

    known bool: false for drives that did not record it; meta_action, hazard int64: places in `MetaAction` and
    `HazardKind`; camera int64: place in `VlaConfig.camera_names` of the one that shows the hazard, -1: none does;
    distance_m: to the hazard, inf for none; target_speed_mps.
    """

    known: Tensor
    meta_action: Tensor
    hazard: Tensor
    camera: Tensor
    distance_m: Tensor
    target_speed_mps: Tensor


@dataclass(frozen=True)
class ClipLabels:
    """What training knows about each tick (B = clips x ticks); distances are inf where there is nothing.

    semantic, depth_m: per camera group int64 and float [B, G, rows, columns] (depth 0: unknown);
    controls [B, T, 2] acceleration and curvature of the expert; positions_m [B, T, 2]; plan_speed_mps [B, T];
    agents, reason: None where no drive of the batch recorded them (version 1 of the format).  told: what the slow half
    may have said by then, the reason of an earlier tick, as it looks at this one; weight 0 where there is none.
    """

    semantic: tuple[Tensor, ...]
    depth_m: tuple[Tensor, ...]
    controls: Tensor
    positions_m: Tensor
    plan_speed_mps: Tensor
    red_light_distance_m: Tensor
    lead_gap_m: Tensor
    lead_speed_mps: Tensor
    hazard: Tensor
    agents: AgentLabels | None = None
    reason: ReasonLabels | None = None
    told: IntentInputs | None = None


@dataclass(frozen=True)
class ClipBatch:
    """K clips of `ticks` consecutive ticks, flattened: inputs and labels have B = K * ticks rows.

    pose [B, 3] in an odometry frame, stamp_s [B].
    """

    inputs: ModelInputs
    labels: ClipLabels
    pose: Tensor
    stamp_s: Tensor
    ticks: int
