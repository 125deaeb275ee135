# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the fast half is told in training: often the truth of a moment ago, at times nothing, at times something wrong.

A vehicle's slow half is late, silent, or mistaken.  Who is told the truth only, drives by it alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_driver.model.tokens import AGE, CONFIDENCE, WEIGHT, IntentInputs
from vla_driver.types import HazardKind, MetaAction

#: So much of what is said with full confidence is wrong all the same.
_CONFIDENT_LIES = 0.05


def told_in_training(told: IntentInputs, silent: float, wrong: float) -> IntentInputs:
    """Return what a batch is told in training.

    silent: the chance of the null intent (0.15: classifier-free guidance, and MindVLA-U1, arXiv 2605.12624); wrong: the
    chance of an intent that is not of this tick.  A confidence is drawn for each row, and the less confident, the more
    often it is wrong, so that confidence comes to mean what it does with a calibrated slow half.
    """
    rows, device = len(told.kinds), told.kinds.device
    # 1 - u^k has mean 1 - 1 / (k + 1); what is not wrong for lack of confidence is a confident lie.
    doubtful = max(wrong - _CONFIDENT_LIES, 0.0) / max(1.0 - _CONFIDENT_LIES, 1e-6)
    power = 1.0 / max(doubtful, 1e-6) - 1.0
    confidence = 1.0 - torch.rand(rows, device=device) ** power
    truth = confidence * (1.0 - min(wrong, _CONFIDENT_LIES))
    lies = torch.rand(rows, device=device) >= truth
    other = _somebody_elses(told)
    kinds = torch.where(lies[:, None], other.kinds, told.kinds)
    numbers = torch.where(lies[:, None], other.numbers, told.numbers).clone()
    numbers[:, CONFIDENCE] = confidence
    # Nothing was said of a tick whose drive recorded no reasons.
    heard = (torch.rand(rows, device=device) >= silent) & (told.numbers[:, WEIGHT] > 0)
    numbers[:, WEIGHT] = torch.where(heard, told.numbers[:, WEIGHT], torch.zeros_like(confidence))
    return IntentInputs(kinds, numbers)


def _somebody_elses(told: IntentInputs) -> IntentInputs:
    """Return intents of other rows, and for half of the rows words drawn at random."""
    rows, device = len(told.kinds), told.kinds.device
    order = torch.randperm(rows, device=device)
    kinds, numbers = told.kinds[order], told.numbers[order].clone()
    numbers[:, AGE] = told.numbers[:, AGE]  # of the right age: what is wrong cannot be told by that
    random = torch.rand(rows, device=device) < 0.5
    drawn = torch.stack(
        [
            torch.randint(len(MetaAction), (rows,), device=device),
            torch.randint(len(HazardKind), (rows,), device=device),
            kinds[:, 2],
        ],
        dim=1,
    )
    return IntentInputs(torch.where(random[:, None], drawn, kinds), numbers)


def rows_told(told: IntentInputs) -> Tensor:
    """Return [B] bool: which rows are told anything."""
    return told.numbers[:, WEIGHT] > 0
