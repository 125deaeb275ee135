# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the expert reacted to, as numbers, to the sentences that say so, and to the tensors that training compares with.

A hazard is said only where a camera shows it that the model really reads: one that was lost, or that this step of
training leaves out, is not named, and then nothing in view matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.tokens import ClipLabels, VisualTokens
from vla_driver.model.words.grammar import Grammar, Statement, why_of
from vla_driver.types import HazardKind, InvalidInput, MetaAction

ACTIONS, HAZARDS = tuple(MetaAction), tuple(HazardKind)


@dataclass(frozen=True)
class Spoken:
    """Sentences as tensors.  B rows, W places, of which the first holds what is asked of START.

    read [B, W]: words that are read (START, then the sentence without its last word); said [B, W]: the word that comes
    next; allowed [B, W, V] bool: which may; choice [B, W] bool: where there is more than one, in rows that are known;
    order [B, W]: the how-manieth choice of its sentence a place is, counted from 0.
    meaning [B, 3] int64: action, hazard and camera (-1: none) as said; known [B] bool.
    """

    read: Tensor
    said: Tensor
    allowed: Tensor
    choice: Tensor
    order: Tensor
    meaning: Tensor
    known: Tensor


def shown_cameras(
    tokens: VisualTokens | None, batch: int, cameras: int, device: torch.device, kept: KeptTokens | None = None
) -> Tensor:
    """Return [B, C] bool: which cameras have a valid token that a pruner kept (None: all are kept).

    All have for the blind control (tokens None), which guesses.
    """
    if tokens is None:
        return torch.ones(batch, cameras, dtype=torch.bool, device=device)
    number, valid = tokens.camera.to(device).expand(tokens.valid.shape), tokens.valid
    if kept is not None:
        number, valid = number.gather(1, kept.index), valid.gather(1, kept.index)
    return torch.zeros(batch, cameras, device=device).scatter_add_(1, number, valid.float()) > 0


def statements(labels: ClipLabels, speed_mps: Tensor, shown: Tensor, cameras: Sequence[str]) -> list[Statement | None]:
    """Return what is to be said in each row, None where it is not known.  shown [B, C]: as of `shown_cameras`."""
    reason = labels.reason
    if reason is None:
        return [None] * len(speed_mps)
    rows = zip(
        *(
            column.tolist()
            for column in (
                reason.known,
                reason.meta_action,
                reason.hazard,
                reason.camera,
                reason.distance_m,
                reason.target_speed_mps,
                speed_mps,
                labels.lead_speed_mps,
                shown,
            )
        ),
        strict=True,
    )
    said: list[Statement | None] = []
    for known, action, hazard, camera, distance_m, target_mps, speed, lead_mps, seen in rows:
        if not known:
            said.append(None)
            continue
        if not (0 <= action < len(ACTIONS) and 0 <= hazard < len(HAZARDS) and -1 <= camera < len(cameras)):
            raise InvalidInput(
                f'reason labels: meta-action {action}, hazard {hazard}, camera {camera}; expected numbers below '
                f'{len(ACTIONS)}, {len(HAZARDS)} and {len(cameras)} (camera -1: none)'
            )
        kind = HAZARDS[hazard]
        if kind is HazardKind.NONE or camera < 0 or not seen[camera]:
            said.append(Statement(ACTIONS[action], target_mps))
        else:
            why = why_of(kind, speed, lead_mps)
            said.append(Statement(ACTIONS[action], target_mps, kind, cameras[camera], distance_m, why))
    return said


def spoken(grammar: Grammar, wanted: Sequence[Statement | None], shown: Tensor) -> Spoken:
    """Return sentences as tensors, on the device of `shown` [B, C]."""
    places, words = grammar.longest, len(grammar.vocabulary)
    rows = len(wanted)
    read = torch.full((rows, places), grammar.end)
    read[:, 0] = grammar.start
    said = torch.full((rows, places), grammar.end)
    allowed = torch.zeros(rows, places, words, dtype=torch.bool)
    allowed[..., grammar.end] = True  # of the places behind the end, so that no row is empty
    choice = torch.zeros(rows, places, dtype=torch.bool)
    meaning = torch.full((rows, 3), -1)
    for row, (statement, seen) in enumerate(zip(wanted, shown.tolist(), strict=True)):
        if statement is None:
            continue
        ids = grammar.say(statement)
        cameras = [name for name, there in zip(grammar.cameras, seen, strict=True) if there]
        read[row, 1 : len(ids)] = torch.tensor(ids[:-1])
        said[row, : len(ids)] = torch.tensor(ids)
        for place in range(len(ids)):
            may = grammar.allowed(ids[:place], cameras)
            allowed[row, place] = False
            allowed[row, place, may] = True
            choice[row, place] = len(may) > 1
        action, hazard, camera = statement.meaning
        meaning[row] = torch.tensor(
            [ACTIONS.index(action), HAZARDS.index(hazard), grammar.cameras.index(camera) if camera else -1]
        )
    order = (choice.cumsum(dim=1) - 1).clamp(min=0)
    known = torch.tensor([statement is not None for statement in wanted])
    parts = (read, said, allowed, choice, order, meaning, known)
    return Spoken(*(part.to(shown.device) for part in parts))
