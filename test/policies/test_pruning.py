# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The pruner and budget of a running policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import PRUNER_NAMES, make_pruner
from vla_driver.policies.loading import load_policy
from vla_driver.policies.native import NativePolicy
from vla_driver.types import InvalidInput, Observation

Observe = Callable[..., Observation]
Make = Callable[..., VlaModel]
BUDGET = TokenBudget(count=9)  # of 18 tokens


def _drive(policy: NativePolicy, observe: Observe) -> np.ndarray:
    policy.reset()
    return np.stack([policy.plan(observe(tick)).trajectory.positions_m for tick in range(3)])


def test_change_on_a_running_policy(small_model: Make, observe: Observe) -> None:
    policy = NativePolicy(small_model())
    unpruned = _drive(policy, observe)
    assert policy.last_selection is None and policy.pruning == (None, None)
    assert 'pruner' not in policy.plan(observe(3)).timing_ms
    seen = [unpruned]
    for name in ('random', 'divprune', 'vispruner', 'visionzip', 'cdpruner', 'fastv:1', 'sparsevlm:pruned'):
        policy.set_pruning(make_pruner(name), BUDGET)
        pruned = _drive(policy, observe)
        assert np.array_equal(pruned, _drive(policy, observe)), 'the same pictures must give the same plans'
        assert np.isfinite(pruned).all()
        assert not any(np.array_equal(pruned, other) for other in seen)
        seen.append(pruned)
        plan = policy.plan(observe(3))
        assert plan.timing_ms['pruner'] > 0 and plan.timing_ms['prefix'] > 0
        selection = policy.last_selection
        assert selection is not None
        assert (selection.pruner, selection.stamp_s) == (name.split(':')[0], observe(3).stamp_s)
        if name != 'sparsevlm:pruned':  # its count falls in steps
            assert (selection.kept, selection.total) == (9, 18)
        assert set(selection.cameras) == set(policy.config.camera_names)
        assert all(camera.kept.any() for camera in selection.cameras.values())
        assert selection.cameras['front'].kept.shape == (2, 4)
    policy.set_pruning(make_pruner('none'))
    assert np.array_equal(_drive(policy, observe), unpruned)
    assert policy.last_selection is None


def test_kept_tokens_are_the_best_by_score(small_model: Make, observe: Observe) -> None:
    """Without diverse tokens VisPruner keeps those that receive the most attention; the selection shows both."""
    from vla_driver.model.pruning.published.vispruner import VisPruner

    policy = NativePolicy(small_model(), pruner=VisPruner(1.0), budget=BUDGET)
    policy.plan(observe(0))
    cameras = policy.last_selection.cameras
    scores = np.concatenate([camera.scores.ravel() for camera in cameras.values()])
    kept = np.concatenate([camera.kept.ravel() for camera in cameras.values()])
    first = [camera.scores.max() for camera in cameras.values()]
    assert len(scores) == 18
    # All but the floors of the cameras are above all that left.
    surplus = [score for score in scores[kept] if score not in first]
    assert len(surplus) == 3 or min(surplus) >= scores[~kept].max()


def test_impossible_settings_are_refused_and_change_nothing(
    small_model: Make, observe: Observe, tmp_path: Path
) -> None:
    pruner = make_pruner('divprune')
    policy = NativePolicy(small_model(), pruner=pruner, budget=BUDGET)
    before = _drive(policy, observe)
    for name, budget, words in (
        ('divprune', None, 'no token budget'),
        ('divprune', TokenBudget(count=3), 'cannot give each of 6 cameras its floor'),
        ('vispruner', TokenBudget(count=19), 'count 19 of 18'),
        ('fastv:2', BUDGET, 'layer 2 of a language model of 2 layers'),
        ('fastv:1', TokenBudget(ratio=0.9), 'its floor'),
        ('sparsevlm', TokenBudget(count=8), 'sparsevlm:pruned'),
        ('uniform', TokenBudget(ratio=0.5, scope='camera', weights={'roof': 2.0}), "'roof'"),
    ):
        with pytest.raises(InvalidInput, match=words):
            policy.set_pruning(make_pruner(name), budget)
        assert policy.pruning == (pruner, BUDGET)
    with pytest.raises(InvalidInput, match='is no pruner'):
        policy.set_pruning(object(), BUDGET)  # type: ignore[arg-type]
    assert np.array_equal(_drive(policy, observe), before)
    with pytest.raises(InvalidInput, match=r'is blind .* drive with BlindPolicy'):
        NativePolicy(small_model(blind=True), pruner=pruner, budget=BUDGET)
    small_model(blind=True).save_pretrained(tmp_path / 'blind')
    with pytest.raises(InvalidInput, match="pruner 'uniform': the blind control has no visual tokens"):
        load_policy(tmp_path / 'blind', pruner='uniform', budget=BUDGET)


def test_nothing_is_tried_where_everything_is_kept(small_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, asked = NativePolicy(small_model()), []
    shapes = policy._shapes
    monkeypatch.setattr(policy, '_shapes', lambda: asked.append(1) or shapes())
    policy.set_pruning(None)
    policy.set_pruning(make_pruner('none'))
    assert not asked
    policy.set_pruning(make_pruner('uniform'), BUDGET)
    assert asked


def test_missing_cameras(small_model: Make, observe: Observe) -> None:
    """A missing camera keeps its floor; the others have the rest."""
    for name in PRUNER_NAMES:
        if name in ('none', 'recon', 'plan', 'fastv', 'sparsevlm'):  # have weights, or work inside
            continue
        policy = NativePolicy(small_model(), pruner=make_pruner(name), budget=BUDGET)
        plan = policy.plan(observe(0, missing=('front_left', 'back')))
        assert np.isfinite(plan.trajectory.positions_m).all()
        assert all(camera.kept.any() for camera in policy.last_selection.cameras.values())
        if name in ('random', 'vispruner'):
            assert policy.last_selection.cameras['back'].kept.sum() == 1


def test_load_policy_with_a_pruner(small_model: Make, observe: Observe, tmp_path: Path) -> None:
    model = small_model()
    model.save_pretrained(tmp_path / 'model')
    policy = load_policy(tmp_path / 'model', pruner='uniform', budget=BUDGET)
    direct = NativePolicy(model, pruner=make_pruner('uniform'), budget=BUDGET)
    assert policy.pruning[0].name == 'uniform'
    np.testing.assert_allclose(_drive(policy, observe), _drive(direct, observe), atol=1e-4)
    with pytest.raises(InvalidInput, match='is no folder'):
        load_policy(tmp_path / 'model', pruner='recon', budget=BUDGET)
