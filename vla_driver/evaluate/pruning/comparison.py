# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of `evaluate pruning`: for each pruner and ratio, driving and what it keeps, against no pruning.

Everything is paired: all variants plan from the same recorded ticks and drive the same routes, and differences are
taken tick by tick and route by route before their intervals are drawn.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vla_driver.evaluate.closed_loop import engine_of
from vla_driver.evaluate.displacement import HORIZONS_S, PROTOCOLS, SEGMENT_S, at_horizons
from vla_driver.evaluate.pruning.open_loop import OpenLoopJob, OpenLoopResult, ShownTick, TickScores, run_open_loop
from vla_driver.evaluate.pruning.truth import KINDS
from vla_driver.policies.pruning_settings import NO_PRUNER, PruningSettings, apply_pruning
from vla_driver.statistics import Interval, mean_ci, ratio_ci
from vla_driver.types import FloatArray, InvalidInput
from vla_driver.workers import run_isolated

Row = dict[str, Any]

#: Figures of a route that are compared: key -> how a row of `evaluate closed-loop` is read.
_ROUTE_FIGURES: Final[Mapping[str, Callable[[Row], float]]] = {
    'driving_score': lambda row: float(row['driving_score']),
    'success_rate': lambda row: float(row['success']),
    'route_completion': lambda row: float(row['route_completion']),
}


@dataclass(frozen=True)
class Variant:
    """One row: a pruner at a ratio.  settings: one, or one for each seed of a random pruner."""

    pruner: str
    ratio: float
    settings: tuple[PruningSettings, ...]


def make_variants(
    pruners: Sequence[str],
    ratios: Sequence[float],
    *,
    random_seeds: int = 3,
    base: PruningSettings = PruningSettings(),  # noqa: B008 - frozen
) -> list[Variant]:
    """Return 'none' first, then every pruner at every ratio; 'random' stands for `random_seeds` draws.

    base: scope, floor and weights of the budgets.  Raises InvalidInput for a ratio out of range.
    """
    variants = [Variant(NO_PRUNER, 0.0, (dataclasses.replace(base, pruner=NO_PRUNER),))]
    for pruner in dict.fromkeys(pruners):
        if pruner == NO_PRUNER:
            continue
        names = [f'random:{seed}' for seed in range(random_seeds)] if pruner == 'random' else [pruner]
        for ratio in ratios:
            settings = tuple(dataclasses.replace(base, pruner=name, ratio=ratio) for name in names)
            settings[0].budget()
            variants.append(Variant(pruner, ratio, settings))
    return variants


def refusals(variants: Sequence[Variant], model: str) -> dict[int, str]:
    """Return index -> why this model cannot run that variant; loads the model once.

    Raises InvalidInput for a pruner that is unknown (that is a slip, not a finding), and for a model of another kind.
    """
    from vla_driver.policies.native import NativePolicy
    from vla_driver.policies.pruning_settings import load_pruner
    from vla_driver.policies.registry import make_policy

    policy = make_policy('model', model, engine='torch')
    if not isinstance(policy, NativePolicy):
        raise InvalidInput(
            f'{model} is no native checkpoint, whose pruning is measured here; for vision-language models there are '
            'evaluate open-loop with --pruner'
        )
    refused = {}
    for index, variant in enumerate(variants):
        load_pruner(variant.settings[0].pruner, model)
        try:
            apply_pruning(policy, variant.settings[0], model)
        except InvalidInput as error:
            refused[index] = str(error)
    return refused


# --- open loop -------------------------------------------------------------------------------------------


def measure_open_loop(
    jobs: Sequence[OpenLoopJob], *, workers: int, on_done: Callable[[int, OpenLoopResult], None] | None = None
) -> tuple[dict[tuple[str, float], TickScores], list[ShownTick]]:
    """Return the scores of every variant over all bags (each bag in a process of its own), and what was shown."""
    results: dict[int, OpenLoopResult] = {}
    for index, result in run_isolated(run_open_loop, jobs, jobs=workers, environment={'OMP_NUM_THREADS': '1'}):
        results[index] = result
        if on_done is not None:
            on_done(index, result)
    joined: list[TickScores] = [TickScores() for _ in jobs[0].variants]
    shown = []
    for index, _ in enumerate(jobs):
        for into, scores in zip(joined, results[index].scores, strict=True):
            into.extend(scores)
        picture = results[index].shown
        if picture is not None:
            shown.append(picture)
    return {_key(settings): scores for settings, scores in zip(jobs[0].variants, joined, strict=True)}, shown


def _key(settings: PruningSettings) -> tuple[str, float]:
    # A mapping of weights has no hash; the rest tells the variants of one evaluation apart.
    return settings.pruner, settings.ratio


def scores_of(variant: Variant, measured: Mapping[tuple[str, float], TickScores]) -> TickScores:
    """Return the scores of a variant, seeds joined."""
    joined = TickScores()
    for settings in variant.settings:
        joined.extend(measured[_key(settings)])
    return joined


def _segments(scores: TickScores) -> list[list[int]]:
    """Return which ticks belong to one stretch of a bag; all seeds of a tick belong to the same."""
    segments: dict[tuple[str, int], list[int]] = {}
    for k, (bag, stamp_s) in enumerate(zip(scores.bag, scores.stamp_s, strict=True)):
        segments.setdefault((bag, int(stamp_s // SEGMENT_S)), []).append(k)
    return list(segments.values())


def _share_ci(top: FloatArray, bottom: FloatArray, segments: Sequence[Sequence[int]]) -> Interval:
    return ratio_ci([top[s].sum() for s in segments], [bottom[s].sum() for s in segments])


def open_loop_figures(scores: TickScores, unpruned: TickScores) -> Row:
    """Return what one row says of the open loop; percentages are null where the bags do not know.

    l2_m, collision_pct, off_road_pct: protocol -> 1s, 2s, 3s, mean (see displacement.py for the protocols; a step is
    counted only where the driven car itself is in order).  l2_difference_m: of the ST-P3/VAD mean to no pruning.
    """
    segments = _segments(scores)
    ones = np.ones(len(scores.stamp_s))
    error = np.stack(scores.error_m)
    row: Row = {
        'ticks': len(unpruned.stamp_s),
        'samples': len(scores.stamp_s),
        'segments': len(segments),
        'l2_m': {protocol: _by_horizon(error, protocol) for protocol in PROTOCOLS},
    }
    mean = at_horizons(error, 'ST-P3/VAD').mean(axis=1)
    row['l2_m_ci'] = _share_ci(mean, ones, segments)
    draws = len(mean) // len(unpruned.stamp_s)
    difference = mean - np.tile(at_horizons(np.stack(unpruned.error_m), 'ST-P3/VAD').mean(axis=1), draws)
    row['l2_difference_m'] = float(difference.mean())
    row['l2_difference_m_ci'] = _share_ci(difference, ones, segments)
    for key, values in (
        ('collision_pct', scores.collides),
        ('driven_collision_pct', scores.driven_collides),
        ('off_road_pct', scores.off_road),
        ('driven_off_road_pct', scores.driven_off_road),
    ):
        steps = 100.0 * np.stack(values)
        known = np.isfinite(steps).all(axis=1)
        row[key] = {p: _by_horizon(steps[known], p) for p in PROTOCOLS} if known.any() else None
        row[key.replace('_pct', '_samples')] = int(known.sum())
    kept, total = np.stack(scores.kept), np.stack(scores.total)
    for column, kind in enumerate(KINDS):
        there = total[:, column].sum()
        row[f'{kind}_recall'] = float(kept[:, column].sum() / there) if there else None
        row[f'{kind}_recall_ci'] = _share_ci(kept[:, column], total[:, column], segments) if there else None
        row[f'{kind}_tokens_per_tick'] = float(there / len(total))
    cameras = list(scores.tokens[0])
    per_camera = {name: np.array([tokens[name] for tokens in scores.tokens]) for name in cameras}
    row['tokens'] = float(np.sum([values.mean() for values in per_camera.values()]))
    row['tokens_per_camera'] = {name: float(values.mean()) for name, values in per_camera.items()}
    row['fewest_tokens_of_a_camera'] = int(min(values.min() for values in per_camera.values()))
    row['scoring_ms'] = float(np.median(scores.pruner_ms))
    row['plan_ms'] = float(np.median(scores.plan_ms))
    return row


def _by_horizon(steps: FloatArray, protocol: str) -> dict[str, float]:
    values = at_horizons(steps, protocol)
    named = {f'{horizon}s': float(values[:, k].mean()) for k, horizon in enumerate(HORIZONS_S)}
    return {**named, 'mean': float(values.mean())}


# --- closed loop -----------------------------------------------------------------------------------------


def closed_loop_figures(drives: Sequence[Sequence[Row]], unpruned: Sequence[Row]) -> Row:
    """Return what one row says of the closed loop.

    drives: the routes' rows, once for each seed, in the routes' order; unpruned: those without pruning.  A route counts
    with its mean over seeds; intervals draw routes.
    """
    row: Row = {'routes': len(unpruned), 'drives': sum(map(len, drives))}
    for key, value in _ROUTE_FIGURES.items():
        figures = np.mean([[value(route) for route in rows] for rows in drives], axis=0)
        difference = figures - np.array([value(route) for route in unpruned])
        row[key], row[f'{key}_ci'] = float(figures.mean()), mean_ci(figures)
        row[f'{key}_difference'] = float(difference.mean())
        row[f'{key}_difference_ci'] = mean_ci(difference)
    flat = [route for rows in drives for route in rows]
    row['collisions'] = sum(sum(route['collisions'].values()) for route in flat)
    row['off_road_events'] = sum(route['off_road_events'] for route in flat)
    row['red_lights'] = sum(route['red_lights'] for route in flat)
    row['engine'] = engine_of(flat).describe()
    return row


def default_jobs() -> int:
    """Return the number of worker processes that fit this machine: one per core, two at most."""
    return min(2, len(os.sched_getaffinity(0)))
