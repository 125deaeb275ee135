# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is compared, and what a trained model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_driver.model.native.vla import VlaModel
from vla_driver.train.policy_trainer import PolicyConfig
from vla_driver.types import FloatArray

#: The three runs.
DENSE, EXPERTS, EQUAL_TIME = 'dense', 'moe', 'moe_equal_time'


@dataclass(frozen=True)
class MoeRun:
    """What is compared.

    data: folders of episodes; encoder: the checkpoint whose encoder is used; steps, minutes: how long the dense model
    is trained, by one of them; work: where the trained models go, and the patch features (or to `features`);
    changes: entries of VlaConfig for both; experts: entries of LanguageConfig for the one with experts; engine: what
    drives when ticks are timed ('torch' is timed in any case); pace_rounds, tick_rounds: of the two timings.
    """

    data: Sequence[Path]
    encoder: str
    work: Path
    experts: Mapping[str, Any]
    features: Path | None = None
    engine: str = 'onnx'
    changes: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    clips: int = PolicyConfig.clips
    ticks: int = PolicyConfig.ticks
    learning_rate: float = PolicyConfig.learning_rate
    validate_clips: int = 120
    pace_rounds: int = 12
    tick_rounds: int = 60


@dataclass(frozen=True)
class Trained:
    """One trained model: its averaged weights, what it took, how it does on held-out clips.

    losses [clips]: of each held-out batch, the weighted sum; loads: steps, and for each layer [steps, N].
    """

    model: VlaModel
    steps: int
    seconds: float
    figures: dict[str, float]
    losses: FloatArray
    loads: tuple[list[int], dict[str, FloatArray]]
