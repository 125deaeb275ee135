# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.pruning.base import best_within, keep_best
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({}, 'exactly one'),
        ({'ratio': 0.5, 'count': 3}, 'exactly one'),
        ({'ratio': 1.0}, '0 <= ratio < 1'),
        ({'ratio': -0.1}, '0 <= ratio < 1'),
        ({'ratio': math.nan}, '0 <= ratio < 1'),
        ({'count': 0}, '1 or more'),
        ({'ratio': 0.5, 'scope': 'row'}, 'camera, global'),
        ({'ratio': 0.5, 'floor': 0}, '1 or more'),
        ({'ratio': 0.5, 'weights': {'front': 0.0}}, "'front'.*positive"),
    ],
)
def test_bad_budgets_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        TokenBudget(**changes)


def test_counts_of_the_paper() -> None:
    assert [TokenBudget(ratio=ratio).total(3249) for ratio in (0.25, 0.5, 0.75)] == [2436, 1624, 812]
    # Every ratio of hundredths is taken exactly, not one less by a rounding of 1 - ratio.
    assert all(TokenBudget(ratio=percent / 100).total(100) == 100 - percent for percent in range(100))
    with pytest.raises(InvalidInput, match='count 10 of 9'):
        TokenBudget(count=10).total(9)


def _one_by_one(total: int, sizes: list[int], weights: list[float], floor: int, left: list[int]) -> list[int]:
    """The definition: from the floors on, one token at a time to the camera furthest below its due."""
    pull = [size * weight for size, weight in zip(sizes, weights, strict=True)]
    shares = [min(floor, size) for size in sizes]
    while sum(shares) < total:
        behind = [
            total * part / sum(pull) - share if share < most else -math.inf
            for part, share, most in zip(pull, shares, left, strict=True)
        ]
        shares[behind.index(max(behind))] += 1
    return shares


def test_shares_of_every_small_case() -> None:
    names = ('a', 'b', 'c')
    checked = 0
    for sizes in itertools.product((1, 2, 5, 7), repeat=3):
        for weight, floor in itertools.product((1.0, 3.0), (1, 2)):
            for total in range(sum(min(floor, size) for size in sizes), sum(sizes) + 1):
                budget = TokenBudget(count=total, scope='camera', floor=floor, weights={'a': weight})
                shares = budget.shares(list(sizes), names)
                assert sum(shares) == total
                assert all(min(floor, size) <= share <= size for share, size in zip(shares, sizes, strict=True))
                assert shares == _one_by_one(total, list(sizes), [weight, 1.0, 1.0], floor, list(sizes))
                checked += 1
    assert checked > 2000


def test_shares_of_what_is_left() -> None:
    budget = TokenBudget(count=6, scope='camera', weights={'a': 4.0})
    assert budget.shares([6, 6, 6], 'abc') == [4, 1, 1]
    assert budget.shares([6, 6, 6], 'abc', left=[2, 6, 6]) == [2, 2, 2]
    assert budget.least([6, 6, 6], 'abc') == [4, 1, 1]
    assert TokenBudget(count=6).least([6, 6, 6], 'abc') == [1, 1, 1]


def test_impossible_floors_and_unknown_weights() -> None:
    with pytest.raises(InvalidInput, match=r'5 of 30.*floor of 2.*at least 6'):
        TokenBudget(count=5, floor=2).floors([10, 10, 10])
    with pytest.raises(InvalidInput, match=r"\['roof'\].*a, b"):
        TokenBudget(count=5, scope='camera', weights={'roof': 2.0}).shares([5, 5], 'ab')
    with pytest.raises(InvalidInput, match=r"weights of a with scope 'global'.*set the scope to 'camera'"):
        TokenBudget(count=5, weights={'a': 2.0})


@pytest.mark.parametrize('scope', ['global', 'camera'])
def test_best_tokens_within_the_budget(
    make_tokens: Callable[..., VisualTokens], best_by_hand: Callable[..., list[int]], scope: str
) -> None:
    tokens = make_tokens(0, batch=3)
    for floor, count in itertools.product((1, 3), (12, 20, 33, 54)):
        budget = TokenBudget(count=count, scope=scope, floor=floor, weights={'front': 2.0} if scope == 'camera' else {})
        # Few different values: ties must go to the first.
        scores = torch.randint(0, 6, tokens.camera.shape, generator=torch.Generator().manual_seed(count))
        scores = torch.stack([scores, scores.flip(0), -scores]).float()
        index = keep_best(scores, tokens, budget).index
        for row, kept in zip(scores, index.tolist(), strict=True):
            assert kept == best_by_hand(row, tokens, budget)


def test_missing_cameras_keep_their_floor_only(make_tokens: Callable[..., VisualTokens]) -> None:
    tokens = make_tokens(1)
    tokens.valid[:, tokens.camera == 1] = False
    kept = keep_best((tokens.camera == 1).float().unsqueeze(0), tokens, TokenBudget(count=30, floor=2)).index
    assert (tokens.camera[kept] == 1).sum() == 2


def test_tokens_that_have_left_do_not_return(make_tokens: Callable[..., VisualTokens]) -> None:
    tokens = make_tokens(2)
    scores = torch.rand(1, len(tokens.camera))
    scores[:, ::2] = -torch.inf
    left = [int(((tokens.camera == number) & (torch.arange(54) % 2 == 1)).sum()) for number in range(4)]
    kept = best_within(scores, tokens.camera, tokens.names, TokenBudget(count=27, scope='camera'), left)
    assert kept.tolist() == [list(range(1, 54, 2))]
