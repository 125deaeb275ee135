# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The open-loop part of `evaluate pruning`: every pruner plans from the same recorded ticks.

Each variant drives the whole policy, memory included, from the first tick of a bag to the last, as it would on the
road; what differs between two variants is the pruner alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vla_driver.evaluate.displacement import STEPS, planned_poses, score
from vla_driver.evaluate.pruning.truth import KINDS, RoadArea, TickTruth, most_telling, read_ticks
from vla_driver.geometry import se2
from vla_driver.observation.ready import Observed
from vla_driver.planning.tick import Planner
from vla_driver.policies.pruning_settings import PruningSettings, apply_pruning
from vla_driver.types import CameraRig, FloatArray, Image, InvalidInput, Plan

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class OpenLoopJob:
    """One bag for one worker: model, every variant, at most `limit` ticks.  show: keep a picture for the report."""

    bag: Path
    model: str
    variants: tuple[PruningSettings, ...]
    network: Path | None = None
    topics: Mapping[str, str] = field(default_factory=dict)
    rig: CameraRig | None = None
    rectified: bool = False
    limit: int | None = None
    show: bool = False


@dataclass
class TickScores:
    """What one variant did on the N ticks of one bag (or of several, joined).

    bag [N]; stamp_s [N]; error_m [N, STEPS]; collides, driven_collides, off_road, driven_off_road [N, STEPS], NaN
    where it is not known; kept, total [N, KINDS]: foreground tokens, 0 of 0 without semantics; tokens: camera -> [N]
    kept; pruner_ms, plan_ms [N].
    """

    bag: list[str] = field(default_factory=list)
    stamp_s: list[float] = field(default_factory=list)
    error_m: list[FloatArray] = field(default_factory=list)
    collides: list[FloatArray] = field(default_factory=list)
    driven_collides: list[FloatArray] = field(default_factory=list)
    off_road: list[FloatArray] = field(default_factory=list)
    driven_off_road: list[FloatArray] = field(default_factory=list)
    kept: list[FloatArray] = field(default_factory=list)
    total: list[FloatArray] = field(default_factory=list)
    tokens: list[dict[str, int]] = field(default_factory=list)
    pruner_ms: list[float] = field(default_factory=list)
    plan_ms: list[float] = field(default_factory=list)

    def extend(self, other: TickScores) -> None:
        """Append the ticks of another bag, or of another seed."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)


@dataclass(frozen=True)
class ShownTick:
    """One tick for the report: its pictures, foreground masks, and what each variant kept (in their order).

    kept[v]: camera -> bool [rows, columns]; None for a variant that keeps all.
    """

    bag: str
    stamp_s: float
    images: Mapping[str, Image]
    masks: Mapping[str, npt.NDArray[np.uint8]]
    kept: Sequence[Mapping[str, Bools] | None]


@dataclass(frozen=True)
class OpenLoopResult:
    """One bag: scores[v] of each variant."""

    scores: Sequence[TickScores]
    shown: ShownTick | None


def run_open_loop(job: OpenLoopJob) -> OpenLoopResult:
    """Evaluate every variant on one bag in this process.  Raises InvalidInput for a bag without a usable tick."""
    import torch

    from vla_driver.policies.registry import make_policy

    # Reductions depend on the number of threads; one thread makes figures independent of the number of workers.
    torch.set_num_threads(1)
    policy: Any = make_policy('model', job.model, engine='torch')
    ticks: list[TickTruth] = []
    read = read_ticks(
        job.bag, network=job.network, topics=job.topics, rig=job.rig, rectified=job.rectified, needs=policy.needs
    )
    for tick in read:
        ticks.append(tick)
        if job.limit is not None and len(ticks) >= job.limit:
            break
    if not ticks:
        raise InvalidInput(f'bag {job.bag} holds no tick with 3 s of driving after it')
    planner = Planner(policy)
    area = RoadArea(job.network) if job.network is not None else None
    shown = most_telling(ticks) if job.show else -1
    scores, kept_there = [], []
    for variant in job.variants:
        apply_pruning(policy, variant, job.model)
        planner.reset()
        figures = TickScores()
        for number, tick in enumerate(ticks):
            answer = planner.answer(Observed(tick.observation), select=True, forecast=False)
            if answer.proposed is None:
                raise answer.error or InvalidInput(f'bag {job.bag}: {answer.problem}')
            selection = answer.selection
            _score(figures, str(job.bag), tick, answer.proposed, selection, area, policy.config)
            if number == shown:
                kept_there.append(None if selection is None else {n: c.kept for n, c in selection.cameras.items()})
        scores.append(figures)
    if not job.show:
        return OpenLoopResult(scores, None)
    tick = ticks[shown]
    images = {name: frame.image for name, frame in tick.observation.frames.items()}
    return OpenLoopResult(
        scores, ShownTick(str(job.bag), tick.observation.stamp_s, images, dict(tick.masks), kept_there)
    )


def _score(
    figures: TickScores, bag: str, tick: TickTruth, plan: Plan, selection: Any, area: RoadArea | None, config: Any
) -> None:
    """Append one tick."""
    unknown = np.full(STEPS, np.nan)
    pose = tick.observation.ego.pose
    sample = score(plan, pose, tick.driven, tick.agents, bag=bag)
    figures.bag.append(bag)
    figures.stamp_s.append(plan.stamp_s)
    figures.error_m.append(sample.error_m)
    figures.collides.append(unknown if sample.collides is None else sample.collides.astype(float))
    figures.driven_collides.append(unknown if sample.truth_collides is None else sample.truth_collides.astype(float))
    if area is None or tick.driven_off_road is None:
        figures.off_road.append(unknown)
        figures.driven_off_road.append(unknown)
    else:
        # As for collisions: where the driven car itself is over the edge, the labels are at fault.
        off = area.leaves(se2.compose(pose, planned_poses(plan))) & ~tick.driven_off_road
        figures.off_road.append(off.astype(float))
        figures.driven_off_road.append(tick.driven_off_road.astype(float))
    kept, total, tokens = _recall(tick, selection, config)
    figures.kept.append(kept)
    figures.total.append(total)
    figures.tokens.append(tokens)
    figures.pruner_ms.append(float(plan.timing_ms.get('pruner', 0.0)))
    figures.plan_ms.append(float(sum(plan.timing_ms.values())))


def _recall(tick: TickTruth, selection: Any, config: Any) -> tuple[FloatArray, FloatArray, dict[str, int]]:
    """Return foreground tokens kept and in all [KINDS], and tokens kept by camera; selection None: all are kept."""
    kept, total, tokens = np.zeros(len(KINDS)), np.zeros(len(KINDS)), {}
    for name in config.camera_names:
        if selection is None:
            grid = np.ones(config.token_grid(tuple(config.image_sizes[name])), dtype=bool)
        else:
            grid = selection.cameras[name].kept
        tokens[name] = int(grid.sum())
        truth = tick.tokens(name, *grid.shape)
        if truth is not None:
            kept += (truth & grid).sum(axis=(1, 2))
            total += truth.sum(axis=(1, 2))
    return kept, total, tokens
