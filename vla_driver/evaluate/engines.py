# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Whether engines plan the same: how far their plans of one bag lie apart, and whether they keep the same tokens.

torch in float32 is the reference.  A drive is one way through the bag: with one pruner, with all cameras, with one of
them lost all the way, or with another one lost at every tick.  Precision belongs to a process; every engine and
precision has one of its own, in which all drives are driven one after another, as a node does when its pruner is
changed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.bag.read import BagReader
from vla_driver.evaluate.cost.tick_worker import make, report_of
from vla_driver.policies.pruning_settings import PruningSettings, apply_pruning
from vla_driver.settings.pruning import NO_PRUNER
from vla_driver.types import FloatArray, InvalidInput, Observation, PrunablePolicy, Selection
from vla_driver.workers import run_isolated

#: Farthest that plans may lie from those of torch in float32, in metres anywhere within their 5 s.
LIMITS_M: Final = {'float32': 1e-3, 'bfloat16': 0.06}
REFERENCE: Final = ('torch', 'float32')
#: A camera's name, and these two.
NONE_LOST, IN_TURN = '', 'in turn'
#: Of SparseVLM a shallow model must keep more than a quarter (its first layers keep all).
PRUNERS: Final = (
    *('none', 'recon', 'early:1-head', 'early:2-head', 'random', 'uniform', 'divprune', 'vispruner', 'visionzip'),
    *('cdpruner', 'prune2drive', 'fastv', 'sparsevlm@0.5'),
)

Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Drive:
    """One way through the bag.  ratio: 0 without a pruner; lost: NONE_LOST, a camera, or IN_TURN."""

    pruner: str
    ratio: float
    lost: str

    @property
    def draws(self) -> bool:
        """Whether the pruner draws by the bits of what it sees: other bits in the last place, another draw."""
        return self.pruner.partition(':')[0] == 'random' or self.pruner.endswith('-random')


@dataclass(frozen=True)
class Job:
    """What one process does.  ticks: of the bag's first ones, None for all; threads: 0 for the engine's own choice."""

    model: str
    bag: Path
    engine: str
    drives: tuple[Drive, ...]
    ticks: int | None = None
    threads: int = 0
    device: str = 'auto'


@dataclass(frozen=True)
class Driven:
    """What came of a drive.

    positions_m [ticks, T, 2]; kept: bool [tokens] for each tick where tokens are pruned; report: engine, provider,
    precision, threads, note; refused: why there are no plans.
    """

    report: dict[str, Any]
    positions_m: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 2)))
    kept: tuple[Kept, ...] = ()
    refused: str = ''


def drives_of(pruners: Sequence[str], ratio: float, cameras: Sequence[str], *, full: bool = False) -> list[Drive]:
    """Return the drives: without a pruner, each camera lost all the way; with one, another camera lost at every tick.

    pruners: names, or NAME@RATIO for another share than `ratio`.  full: each camera lost all the way with every pruner.
    Raises InvalidInput for a share that is none.
    """
    drives = []
    for spec in dict.fromkeys((NO_PRUNER, *pruners)):
        name, separator, text = spec.rpartition('@')
        try:
            share = float(text) if separator else ratio
        except ValueError:
            share = -1.0
        if not 0.0 < share < 1.0:
            raise InvalidInput(f'pruner {spec!r}: expected NAME or NAME@RATIO with a ratio between 0 and 1')
        plain = spec == NO_PRUNER
        each = cameras if plain or full else ()
        for lost in (NONE_LOST, *each, IN_TURN):
            drives.append(Drive(name if separator else spec, 0.0 if plain else share, lost))
    return drives


def drive_all(job: Job) -> list[Driven]:
    """Return what comes of each drive of a job; computed in this process, in its precision."""
    policy, note = make({**dataclasses.asdict(job), 'pruner': NO_PRUNER, 'prune_ratio': 0.0})
    driven = []
    for drive in job.drives:
        pruning = PruningSettings(drive.pruner, drive.ratio) if drive.ratio else PruningSettings()
        try:
            apply_pruning(policy, pruning, job.model)
        except InvalidInput as error:
            driven.append(Driven(report_of(policy, note), refused=str(error)))
            continue
        policy.reset()
        positions, kept = [], []
        with BagReader(job.bag) as bag:
            observations = itertools.islice(bag.observations(needs=policy.needs), job.ticks)
            for observation in losing(observations, drive.lost):
                positions.append(policy.plan(observation).trajectory.positions_m)
                selection = policy.last_selection if isinstance(policy, PrunablePolicy) else None
                if selection is not None:
                    kept.append(_kept(selection))
        driven.append(Driven(report_of(policy, note), np.stack(positions), tuple(kept)))
    return driven


def losing(observations: Iterator[Observation], lost: str) -> Iterator[Observation]:
    """Yield observations without a camera, or without another one each time."""
    for number, observation in enumerate(observations):
        camera = observation.rig.names[number % len(observation.rig.names)] if lost == IN_TURN else lost
        if camera == NONE_LOST:
            yield observation
            continue
        frames = {name: frame for name, frame in observation.frames.items() if name != camera}
        missing = tuple(dict.fromkeys((*observation.missing, camera)))
        yield dataclasses.replace(observation, frames=frames, missing=missing)


def run_jobs(job: Job, engines: Sequence[str], precisions: Sequence[str]) -> Iterator[tuple[str, str, list[Driven]]]:
    """Yield (engine, precision, what came of the job's drives), each from a process of its own.

    torch runs in every precision: what the engine changes is not what the precision changes.  Raises InvalidInput
    where an asked engine does not run at all.
    """
    wanted = [*itertools.product(engines, precisions), REFERENCE, *itertools.product(('torch',), precisions)]
    for engine, precision in dict.fromkeys(wanted):
        environment = {'VLA_DRIVER_PRECISION': precision}
        if job.threads:
            environment['OMP_NUM_THREADS'] = str(job.threads)
        one = dataclasses.replace(job, engine=engine)
        ((_, driven),) = run_isolated(drive_all, [one], jobs=1, environment=environment)
        ran = driven[0].report
        if ran['engine'] != engine:
            raise InvalidInput(
                f'engine {engine} did not run, {ran["engine"]} did: {ran["note"] or "no reason given"}; there is '
                'nothing to compare'
            )
        yield engine, precision, driven


def rows_of(
    drives: Sequence[Drive], results: dict[tuple[str, str], list[Driven]], engines: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each engine other than torch, precision and drive.

    to_reference, to_torch: what `compare` says of this drive and that of torch in float32, and in the same precision;
    torch_to_reference: of torch's own drive in this precision.  ok: within the limit of the precision that ran, to the
    reference.  judged: whether that says something of the engine: not where torch ran in its place, and not for a
    pruner that draws by bits.  torch_breaks_it: torch in this precision lies beyond the limit, too.
    """
    rows = []
    for (engine, precision), driven in results.items():
        if engine == 'torch' or engine not in engines:
            continue
        for index, (drive, own) in enumerate(zip(drives, driven, strict=True)):
            reference, same = results[REFERENCE][index], results['torch', precision][index]
            limit_m = LIMITS_M[own.report['precision']]
            row = {
                **{name: own.report[name] for name in ('engine', 'provider', 'precision', 'threads', 'note')},
                'asked': {'engine': engine, 'precision': precision},
                'pruner': drive.pruner,
                'prune_ratio': drive.ratio,
                'lost': drive.lost or 'none',
                'ticks': len(own.positions_m),
                'refused': own.refused,
                'limit_m': limit_m,
            }
            if own.refused or same.refused or reference.refused:
                # A pruner that no engine takes is no difference between engines.
                alike = bool(own.refused and same.refused and reference.refused)
                row |= {'to_reference': None, 'to_torch': None, 'torch_to_reference': None}
                row |= {'judged': not alike, 'ok': alike, 'torch_breaks_it': False}
            else:
                found = compare(own, reference)
                drawn = drive.draws and found['kept_shared_min'] < 1.0
                torch = compare(same, reference)
                row |= {'to_reference': found, 'to_torch': compare(own, same), 'torch_to_reference': torch}
                row |= {'judged': own.report['engine'] == engine and not drawn}
                row |= {'ok': found['largest_m'] <= limit_m, 'torch_breaks_it': torch['largest_m'] > limit_m}
            rows.append(row)
    return rows


def compare(one: Driven, other: Driven) -> dict[str, Any]:
    """Return how far two drives lie apart.

    largest_m: the largest distance of two positions, over all ticks and all 5 s; largest_tick: where.
    kept_shared_min, kept_shared_mean: which share of the tokens that one kept the other kept, too.
    same_choice_ticks: ticks in which both kept the same tokens; largest_m_same_choice: as largest_m, over these alone
    (None without any).  Later ticks of a drive remember the earlier ones, whatever was kept then.
    Raises InvalidInput for drives of different length.
    """
    if one.positions_m.shape != other.positions_m.shape or len(one.kept) != len(other.kept):
        raise InvalidInput(
            f'drives of {one.positions_m.shape} and {other.positions_m.shape} positions, {len(one.kept)} and '
            f'{len(other.kept)} choices: expected the same'
        )
    apart = np.linalg.norm(one.positions_m - other.positions_m, axis=2).max(axis=1)
    shared = np.array([_shared(a, b) for a, b in zip(one.kept, other.kept, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(one.kept, other.kept, strict=True)], dtype=bool)
    if not len(one.kept):
        shared, same = np.ones(len(apart)), np.ones(len(apart), dtype=bool)
    return {
        'largest_m': float(apart.max()),
        'largest_tick': int(apart.argmax()),
        'median_m': float(np.median(apart)),
        'kept_shared_min': float(shared.min()),
        'kept_shared_mean': float(shared.mean()),
        'same_choice_ticks': int(same.sum()),
        'largest_m_same_choice': float(apart[same].max()) if same.any() else None,
    }


def _shared(one: Kept, other: Kept) -> float:
    """Return which share of the tokens that `one` kept `other` kept, too."""
    return float(np.sum(one & other)) / max(1, int(np.sum(one)))


def _kept(selection: Selection) -> Kept:
    """Return which tokens stayed, over all cameras [tokens]."""
    return np.concatenate([selection.cameras[name].kept.ravel() for name in sorted(selection.cameras)])
