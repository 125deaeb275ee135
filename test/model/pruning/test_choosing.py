# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The choice of tokens is one in numpy and in tensors; test_budget.py has what it should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vla_driver.model.pruning import base, choosing
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.choosing import nearest_set
from vla_driver.model.pruning.selection import make_selection
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

NAMES = ('front', 'left', 'right')
GRIDS = ((3, 5), (2, 3), (2, 3))


def _cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cells = [(c, r, k) for c, (rows, columns) in enumerate(GRIDS) for r in range(rows) for k in range(columns)]
    camera, row, column = np.array(cells).T
    return camera, row, column


def _tokens(valid: np.ndarray) -> VisualTokens:
    camera, row, column = (torch.from_numpy(part.copy()) for part in _cells())
    count = len(camera)
    return VisualTokens(
        features=torch.zeros(1, count, 4),
        camera=camera,
        row=row,
        column=column,
        rays=torch.zeros(1, count, 3),
        origins=torch.zeros(1, count, 3),
        valid=torch.from_numpy(valid)[None],
        names=NAMES,
    )


def _cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and validity: ties, cameras that are lost, infinities and the least number there is."""
    random, camera = np.random.default_rng(0), _cells()[0]
    cases = []
    for lost in (None, 0, 1, 2):
        for decimals in (0, 1, 6):
            scores = random.normal(size=len(camera)).round(decimals).astype(np.float32)
            scores[random.integers(len(camera), size=2)] = -np.inf
            scores[random.integers(len(camera), size=2)] = np.finfo(np.float32).min
            cases.append((scores, np.ones(len(camera), bool) if lost is None else camera != lost))
    return cases


@pytest.mark.parametrize(
    'budget',
    [
        TokenBudget(ratio=0.5),
        TokenBudget(ratio=0.75, scope='camera'),
        TokenBudget(count=7, floor=2),
        TokenBudget(count=11, scope='camera', weights={'front': 3.0}),
    ],
)
def test_arrays_and_tensors_keep_the_same_tokens(budget: TokenBudget) -> None:
    camera = _cells()[0]
    for scores, valid in _cases():
        tokens = _tokens(valid)
        kept = base.keep_best(torch.from_numpy(scores)[None], tokens, budget)
        chosen = choosing.keep_best(scores, camera, NAMES, valid, budget)
        assert chosen.dtype == np.int64 and (np.diff(chosen) > 0).all()
        assert kept.index[0].tolist() == chosen.tolist()
        ranked = base.ranked(torch.from_numpy(scores)[None], tokens.valid)[0].numpy()
        assert np.array_equal(ranked, choosing.ranked(scores, valid))
    assert base.camera_sizes(tokens.camera, 4) == choosing.camera_sizes(camera, 4) == [15, 6, 6, 0]


def test_tokens_of_a_lost_camera_stay_last() -> None:
    camera = _cells()[0]
    scores = np.where(camera == 0, 9.0, 1.0).astype(np.float32)
    kept = choosing.keep_best(scores, camera, NAMES, camera != 0, TokenBudget(count=10, floor=1))
    assert np.bincount(camera[kept]).tolist() == [1, 6, 3]


def test_a_selection_shows_what_stayed_where() -> None:
    cells, scores = _cells(), np.linspace(0.0, 1.0, 27, dtype=np.float32)
    index = np.array([0, 6, 14, 20])
    selection = choosing.selection_of('recon', 2.5, NAMES, cells, index, scores)
    assert (selection.pruner, selection.stamp_s, selection.kept, selection.total) == ('recon', 2.5, 4, 27)
    assert {name: part.kept.shape for name, part in selection.cameras.items()} == dict(zip(NAMES, GRIDS))
    assert np.argwhere(selection.cameras['front'].kept).tolist() == [[0, 0], [1, 1], [2, 4]]
    assert np.argwhere(selection.cameras['left'].kept).tolist() == [[1, 2]]
    np.testing.assert_array_equal(selection.cameras['right'].scores, scores[21:].reshape(2, 3))

    tokens = _tokens(np.ones(27, bool))
    for values in (None, scores):
        row = None if values is None else torch.from_numpy(values)[None]
        tensors = make_selection('recon', 2.5, tokens, KeptTokens(torch.from_numpy(index)[None], row))
        arrays = choosing.selection_of('recon', 2.5, NAMES, cells, index, values)
        for name in NAMES:
            assert np.array_equal(tensors.cameras[name].kept, arrays.cameras[name].kept)
            a, b = tensors.cameras[name].scores, arrays.cameras[name].scores
            assert (a is None) == (b is None) and (a is None or np.array_equal(a, b))


def test_a_budget_beyond_the_tokens_is_refused() -> None:
    camera = _cells()[0]
    with pytest.raises(InvalidInput, match='count 28 of 27'):
        choosing.keep_best(np.zeros(27, np.float32), camera, NAMES, np.ones(27, bool), TokenBudget(count=28))


def _apart(gram: np.ndarray, kept: np.ndarray) -> float:
    dropped = np.setdiff1d(np.arange(len(gram)), kept)
    return float(gram[np.ix_(dropped, dropped)].sum())


@pytest.mark.parametrize('total', [4, 12, 20])
def test_the_nearest_set_is_nearer_than_those_of_chance_and_keeps_every_camera(total: int) -> None:
    rng = np.random.default_rng(total)
    parts = rng.normal(size=(24, 5)) * rng.gamma(1.0, size=(24, 1))
    gram, camera = parts @ parts.T, np.repeat(np.arange(3), 8)
    kept = nearest_set(gram, camera, [1, 1, 1], total)
    assert kept.tolist() == sorted(set(kept.tolist())) and len(kept) == total
    assert (np.bincount(camera[kept], minlength=3) >= 1).all()
    chance = [_apart(gram, rng.choice(24, total, replace=False)) for _ in range(300)]
    assert _apart(gram, kept) < min(chance)


@pytest.mark.parametrize('total', [2, 5])
def test_of_tokens_that_say_the_same_one_stays(total: int) -> None:
    parts = np.array([[3.0, 0.0]] * 3 + [[0.0, 1.0]] + [[0.0, 0.0]] * 3)
    # Three that say the same cannot cancel each other: dropping two is cheaper than dropping the only other one twice.
    kept = nearest_set(parts @ parts.T, np.zeros(7, int), [0], total).tolist()
    assert sum(k < 3 for k in kept) >= min(2, total) and (total < 4 or 3 in kept)


def test_a_camera_keeps_its_least_although_its_tokens_do_nothing() -> None:
    parts = np.concatenate([np.eye(6), np.zeros((6, 6))])
    camera = np.repeat(np.arange(2), 6)
    for total in (3, 8):
        kept = nearest_set(parts @ parts.T, camera, [1, 2], total)
        assert len(kept) == total and (camera[kept] == 1).sum() >= 2
