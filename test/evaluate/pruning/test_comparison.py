# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of `evaluate pruning`: every pruner on the same ticks and routes, against no pruning."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_driver.evaluate.pruning import route_cache
from vla_driver.evaluate.pruning.comparison import (
    Variant,
    closed_loop_figures,
    make_variants,
    open_loop_figures,
    refusals,
    scores_of,
)
from vla_driver.evaluate.pruning.open_loop import OpenLoopJob, OpenLoopResult, TickScores, run_open_loop
from vla_driver.evaluate.pruning.report import write_pruning_report
from vla_driver.policies.pruning_settings import PruningSettings, camera_weights
from vla_driver.types import InvalidInput


def test_variants_begin_with_no_pruning_and_random_has_seeds() -> None:
    variants = make_variants(['uniform', 'random', 'none'], [0.5, 0.75], random_seeds=2)
    assert [(v.pruner, v.ratio, len(v.settings)) for v in variants] == [
        ('none', 0.0, 1),
        ('uniform', 0.5, 1),
        ('uniform', 0.75, 1),
        ('random', 0.5, 2),
        ('random', 0.75, 2),
    ]
    assert [s.pruner for s in variants[-1].settings] == ['random:0', 'random:1']
    with pytest.raises(InvalidInput, match=r'ratio 1\.5'):
        make_variants(['uniform'], [1.5])


def test_what_the_model_cannot_run_is_named_and_slips_are_errors(small_checkpoint: Path) -> None:
    variants = make_variants(['uniform', 'fastv:7'], [0.5])
    refused = refusals(variants, str(small_checkpoint))
    assert list(refused) == [2]
    assert 'fastv' in refused[2]
    with pytest.raises(InvalidInput, match='unifrom'):
        refusals(make_variants(['unifrom'], [0.5]), str(small_checkpoint))


@pytest.fixture(scope='module')
def open_loop(small_checkpoint: Path, labelled_bag: Path) -> tuple[list[Variant], OpenLoopResult]:
    variants = make_variants(['uniform', 'random'], [0.5], random_seeds=2)
    settings = tuple(each for variant in variants for each in variant.settings)
    job = OpenLoopJob(labelled_bag, str(small_checkpoint), settings, limit=3, show=True)
    return variants, run_open_loop(job)


def rows_of(variants: list[Variant], result: OpenLoopResult) -> list[dict[str, Any]]:
    settings = [each for variant in variants for each in variant.settings]
    measured = {(s.pruner, s.ratio): scores for s, scores in zip(settings, result.scores, strict=True)}
    unpruned = scores_of(variants[0], measured)
    return [
        {
            'pruner': variant.pruner,
            'ratio': variant.ratio,
            'seeds': len(variant.settings),
            'refused': None,
            **open_loop_figures(scores_of(variant, measured), unpruned),
        }
        for variant in variants
    ]


def test_every_pruner_plans_from_the_same_ticks(open_loop: tuple[list[Variant], OpenLoopResult]) -> None:
    variants, result = open_loop
    none, uniform, random = rows_of(variants, result)
    assert (none['ticks'], none['samples'], random['ticks'], random['samples']) == (3, 3, 3, 6)
    # 18 tokens, of which a floor of (1 - ratio) is kept; no camera is blanked.
    means = none['tokens'], uniform['tokens'], random['tokens']
    assert means == pytest.approx((18.0, 9.0, 9.0))  # sums of shares of three ticks
    assert uniform['tokens_per_camera']['front'] == 4.0
    assert min(row['fewest_tokens_of_a_camera'] for row in (uniform, random)) >= 1
    assert none['foreground_recall'] == none['small_foreground_recall'] == 1.0
    assert none['l2_difference_m'] == 0.0
    # The checkerboard keeps one half of everything, give or take a cell.
    assert 0.3 <= uniform['foreground_recall'] <= 0.7
    assert uniform['l2_difference_m'] != 0.0
    assert uniform['l2_m']['UniAD']['3s'] > uniform['l2_m']['ST-P3/VAD']['3s'] > 0.0
    # The only other car is 500 m away; the bag has no road.
    assert none['collision_pct']['UniAD']['mean'] == 0.0
    assert none['off_road_pct'] is None
    assert none['off_road_samples'] == 0
    assert none['scoring_ms'] == 0.0
    assert uniform['scoring_ms'] > 0.0
    json.dumps(rows_of(variants, result), allow_nan=False)


def test_the_report_shows_what_each_pruner_kept(
    open_loop: tuple[list[Variant], OpenLoopResult], tmp_path: Path
) -> None:
    variants, result = open_loop
    assert result.shown is not None
    assert [None if kept is None else sum(int(c.sum()) for c in kept.values()) for kept in result.shown.kept] == [
        None,
        9,
        9,
        9,
    ]
    rows = rows_of(variants, result)
    rows.append({'pruner': 'fastv:7', 'ratio': 0.5, 'seeds': 1, 'refused': 'layer 7 <is> too deep'})
    path = tmp_path / 'deep' / 'report.html'
    write_pruning_report(path, variants, rows, [result.shown], title='A & B', subtitle='s', notes=['see `x`'])
    text = path.read_text(encoding='utf-8')
    # As seen, the foreground, and one picture for each pruner at its ratio.
    assert text.count('<img src="data:image/webp') == 4
    assert 'A &amp; B' in text
    assert 'layer 7 &lt;is&gt; too deep' in text
    assert '9 of 18 tokens' in text
    assert 'random (2 seeds)' in text
    assert 'http' not in text


def scores(error_m: float, kept: list[list[float]], bag: str = 'a') -> TickScores:
    count = len(kept)
    unknown = [np.full(6, np.nan)] * count
    return TickScores(
        bag=[bag] * count,
        stamp_s=[100.0 + 5.0 * k for k in range(count)],
        error_m=[np.full(6, error_m)] * count,
        collides=[np.array([0, 0, 0, 0, 0, 1.0])] * count,
        driven_collides=[np.zeros(6)] * count,
        off_road=unknown,
        driven_off_road=unknown,
        kept=[np.array(pair) for pair in kept],
        total=[np.array([10.0, 4.0])] * count,
        tokens=[{'front': 5, 'back': 1}] * count,
        pruner_ms=[1.0] * count,
        plan_ms=[10.0] * count,
    )


def test_recall_pools_tokens_and_differences_are_paired() -> None:
    unpruned = scores(0.5, [[10.0, 4.0]] * 3)
    both = scores(0.7, [[5.0, 2.0], [6.0, 4.0], [4.0, 0.0]])
    both.extend(scores(0.9, [[5.0, 2.0]] * 3))  # a second seed of the same ticks
    row = open_loop_figures(both, unpruned)
    assert (row['ticks'], row['samples'], row['segments']) == (3, 6, 2)
    assert row['foreground_recall'] == pytest.approx(30 / 60)
    assert row['small_foreground_recall'] == pytest.approx(12 / 24)
    assert row['l2_difference_m'] == pytest.approx(0.3)
    assert row['collision_pct']['UniAD'] == {'1s': 0.0, '2s': 0.0, '3s': 100.0, 'mean': pytest.approx(100 / 3)}
    assert row['collision_pct']['ST-P3/VAD']['3s'] == pytest.approx(100 / 6)
    assert row['tokens_per_camera'] == {'front': 5.0, 'back': 1.0}
    assert (row['tokens'], row['fewest_tokens_of_a_camera']) == (6.0, 1)


def route(seed: int, score: float) -> dict[str, Any]:
    return {
        'index': seed, 'town': 't', 'seed': seed, 'driving_score': score, 'success': score > 99.0,
        'route_completion': 1.0, 'collisions': {'vehicle': int(score < 99.0)}, 'off_road_events': 0, 'red_lights': 0,
        'engine': {'engine': 'torch', 'provider': 'torch-cpu', 'precision': 'float32', 'threads': 1, 'note': ''},
    }  # fmt: skip


def test_routes_are_paired_and_seeds_averaged() -> None:
    unpruned = [route(k, score) for k, score in enumerate((100.0, 60.0, 80.0))]
    drives = [[route(k, s) for k, s in enumerate((90.0, 60.0, 70.0))], [route(k, 100.0) for k in range(3)]]
    row = closed_loop_figures(drives, unpruned)
    assert row['driving_score'] == pytest.approx((95 + 80 + 85) / 3)
    assert row['driving_score_difference'] == pytest.approx((-5 + 20 + 5) / 3)
    low, high = row['driving_score_difference_ci']
    assert low == pytest.approx(-5.0)
    assert high == pytest.approx(20.0)
    assert (row['routes'], row['drives'], row['collisions']) == (3, 6, 3)
    assert row['engine'] == 'torch on torch-cpu, float32, 1 thread'


@dataclass(frozen=True)
class Scenario:
    seed: int


def test_driven_routes_are_not_driven_again(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven: list[int] = []

    def run_scenarios(scenarios: list[Scenario], policy: str, *, on_row: Any, **how: Any) -> None:
        for index, scenario in enumerate(scenarios):
            if scenario.seed == 13:
                raise InvalidInput('interrupted')
            driven.append(scenario.seed)
            on_row({'index': index, 'seed': scenario.seed})

    monkeypatch.setattr(route_cache, 'run_scenarios', run_scenarios)
    cache = route_cache.RouteCache(tmp_path)
    settings = PruningSettings('uniform', 0.5)
    how: dict[str, Any] = {'model': str(small_checkpoint), 'plan_hz': 5.0, 'jobs': 1}
    with pytest.raises(InvalidInput, match='interrupted'):
        cache.drive([Scenario(1), Scenario(2), Scenario(13)], settings, **how)
    (path,) = tmp_path.glob('*.jsonl')
    path.write_bytes(path.read_bytes() + b'{"key": "cut o')
    rows = cache.drive([Scenario(2), Scenario(3), Scenario(1)], settings, **how)
    assert [row['seed'] for row in rows] == [2, 3, 1]
    assert driven == [1, 2, 3]
    cache.drive([Scenario(1)], PruningSettings('uniform', 0.75), **how)
    cache.drive([Scenario(1)], settings, **{**how, 'plan_hz': 10.0})
    assert driven == [1, 2, 3, 1, 1]
    cache.drive([Scenario(1)], settings, engine='torch', **how)
    assert driven == [1, 2, 3, 1, 1, 1]


def test_another_plan_pruner_drives_anew(small_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / 'checkpoint'
    shutil.copytree(small_checkpoint, checkpoint)
    settings, prints = PruningSettings('plan', 0.5), set()
    for content in (b'one', b'two'):
        (checkpoint / 'plan').mkdir(exist_ok=True)
        (checkpoint / 'plan' / 'model.safetensors').write_bytes(content)
        prints.add(route_cache.fingerprint(str(checkpoint), settings))
    assert len(prints) == 2
    assert route_cache.fingerprint(str(checkpoint), settings, 'torch') not in prints


def test_camera_weights_are_parsed() -> None:
    assert camera_weights(['front=2', '', 'back=0.5']) == {'front': 2.0, 'back': 0.5}
    for entry in ('front', 'front=two', '=2'):
        with pytest.raises(InvalidInput, match='CAMERA=NUMBER'):
            camera_weights([entry])
