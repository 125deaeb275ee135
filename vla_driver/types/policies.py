# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Who answers: the protocols of policies, what they need, what computes them, which tokens they kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vla_driver.types.checks import FloatArray
from vla_driver.types.intent import Intent
from vla_driver.types.observation import Observation
from vla_driver.types.plan import Plan


@dataclass(frozen=True)
class InputNeeds:
    """What a policy looks at, so that nobody decodes, draws or collects what it would not see.

    cameras: the names of those whose pictures it looks at; None: all of the rig.  image_sizes: camera -> (width,
    height) that it works at: larger pictures are of no use to it; a camera that is not named is taken as it comes.
    trail_s: how far back it wants to know where the ego was (`Observation.trail`); 0: not at all.  intents: whether it
    can be told an intent.
    """

    cameras: tuple[str, ...] | None = None
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    trail_s: float = 0.0
    intents: bool = False

    @property
    def pictures(self) -> bool:
        """Whether it looks at any picture."""
        return self.cameras is None or bool(self.cameras)


#: The needs of a policy that looks at no picture.
NO_PICTURES = InputNeeds(cameras=())


@dataclass(frozen=True)
class EngineReport:
    """What computes a policy: for logs, diagnostics and reports.

    engine: 'torch', 'onnx' (exported graphs), or '' for a policy without a network; provider: what runs the engine's
    operations, such as 'OpenVINOExecutionProvider' or 'torch-cpu'; precision: 'float32' or 'bfloat16'; threads: of its
    arithmetic; note: why not what was asked for, in words.
    """

    engine: str = ''
    provider: str = ''
    precision: str = ''
    threads: int = 0
    note: str = ''

    def noting(self, note: str) -> EngineReport:
        """Return the report with something to say."""
        return EngineReport(self.engine, self.provider, self.precision, self.threads, note)

    def describe(self) -> str:
        """Return it in one line: 'onnx on OpenVINO, bfloat16, 2 threads'."""
        if not self.engine:
            return 'no network'
        threads = f'{self.threads} thread' + ('' if self.threads == 1 else 's')
        return f'{self.engine} on {self.provider}, {self.precision}, {threads}' + (
            f' ({self.note})' if self.note else ''
        )


#: The engine of a policy that computes no network.
NO_ENGINE = EngineReport()


@runtime_checkable
class Policy(Protocol):
    """The fast path.  Native model, expert and controls are all policies."""

    name: str

    @property
    def needs(self) -> InputNeeds:
        """What `plan` looks at."""

    @property
    def engine(self) -> EngineReport:
        """What computes it."""

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation."""

    def reset(self) -> None:
        """Forget earlier ticks (after a clock jump, or before another route)."""


@dataclass(frozen=True)
class CameraSelection:
    """One camera: kept bool [rows, columns] of its token grid; scores float32 of the same shape, or None."""

    kept: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Selection:
    """What one tick kept: of which pruner, of the pictures of stamp_s, per camera name.

    A score of -inf: the token had left (or was absent) before the last scoring.
    """

    pruner: str
    stamp_s: float
    cameras: Mapping[str, CameraSelection]

    @property
    def kept(self) -> int:
        """How many tokens stayed, over all cameras."""
        return sum(int(camera.kept.sum()) for camera in self.cameras.values())

    @property
    def total(self) -> int:
        """How many tokens there were."""
        return sum(camera.kept.size for camera in self.cameras.values())


@runtime_checkable
class PrunablePolicy(Policy, Protocol):
    """A policy with visual tokens, some of which may be left out."""

    def own_pruner(self, spec: str) -> Any:
        """Return a pruner for `set_pruning` that this policy has itself for a name such as 'recon', else None."""

    def set_pruning(self, pruner: Any, budget: Any = None) -> None:
        """Prune with a pruner within a `TokenBudget` (model/pruning) from the next tick on; None: keep all.

        Raises `InvalidInput`, changing nothing, for what does not fit.
        """

    @property
    def last_selection(self) -> Selection | None:
        """What the latest tick kept; None before the first tick and where nothing is pruned."""


@runtime_checkable
class ForecastingPolicy(Policy, Protocol):
    """A policy that says where others will be (`Plan.forecasts`), where somebody wants to know."""

    #: Whether somebody does, from the next tick on.  What is planned for the ego is the same without.
    forecasting: bool


@runtime_checkable
class RoutedPolicy(Policy, Protocol):
    """A policy whose tokens may be read by experts, some of many."""

    @property
    def last_load(self) -> dict[int, FloatArray]:
        """Of the last tick: language layer -> load of each of its experts [N], 1 for an even one; {} without any."""


@runtime_checkable
class Reasoner(Protocol):
    """The slow path: words to a typed intent."""

    name: str

    @property
    def needs(self) -> InputNeeds:
        """What `reason` looks at."""

    def reason(self, observation: Observation) -> Intent:
        """Return the intent for one observation; raises `MalformedAnswer` where what was said is none."""

    def reset(self) -> None:
        """Forget earlier observations (after a clock jump, or before another route)."""
