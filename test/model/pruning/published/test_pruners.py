# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What holds for every pruner before the language model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.pruning.base import KeptTokens, Pruner
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published import greedy, vispruner
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

Make = Callable[..., VisualTokens]
NAMES = ('random', 'uniform', 'divprune', 'vispruner', 'visionzip', 'cdpruner', 'prune2drive')
BUDGETS = (
    TokenBudget(ratio=0.25),
    TokenBudget(ratio=0.75, floor=3),
    TokenBudget(count=4),
    TokenBudget(ratio=0.0),
    TokenBudget(ratio=0.5, scope='camera'),
    TokenBudget(count=13, scope='camera', floor=3, weights={'front': 5.0}),
    TokenBudget(count=53, scope='camera'),
)


def _select(name: str, tokens: VisualTokens, budget: TokenBudget) -> KeptTokens:
    pruner = make_pruner(name)
    assert isinstance(pruner, Pruner)
    assert pruner.name == name
    text = torch.randn(1, 3, tokens.features.shape[-1], generator=torch.Generator().manual_seed(9))
    return pruner.select(tokens, budget, text.expand(len(tokens.features), -1, -1))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('budget', BUDGETS, ids=str)
def test_keeps_what_the_budget_says(make_tokens: Make, name: str, budget: TokenBudget) -> None:
    tokens = make_tokens(3, batch=3)
    index = _select(name, tokens, budget).index
    assert index.shape == (3, budget.total(54))
    assert (index.diff(dim=1) > 0).all()
    sizes = [24, 12, 12, 6]
    least = budget.least(sizes, tokens.names)
    for row in index:
        counts = torch.bincount(tokens.camera[row], minlength=4).tolist()
        if budget.scope == 'camera':
            assert counts == least
        else:
            assert all(count >= floor for count, floor in zip(counts, least, strict=True))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('budget', [TokenBudget(ratio=0.6), TokenBudget(ratio=0.6, scope='camera')], ids=str)
def test_rows_of_a_batch_are_independent(make_tokens: Make, name: str, budget: TokenBudget) -> None:
    tokens = make_tokens(4, batch=3)
    together = _select(name, tokens, budget)
    alone = []
    for row in range(3):
        cut = {
            key: getattr(tokens, key)[row : row + 1] for key in ('features', 'rays', 'origins', 'valid', 'attention')
        }
        alone.append(_select(name, dataclasses.replace(tokens, **cut), budget))
    assert torch.equal(together.index, torch.cat([one.index for one in alone]))
    if together.features is not None:
        torch.testing.assert_close(together.features, torch.cat([one.features for one in alone]))
    if name != 'uniform':
        assert not torch.equal(together.index[0], together.index[1])


@pytest.mark.parametrize('name', [name for name in NAMES if name not in ('uniform', 'prune2drive')])
def test_no_camera_is_blanked(make_tokens: Make, name: str) -> None:
    """One camera that every method would drop keeps its floor."""
    tokens = make_tokens(5)
    dull = tokens.camera == 3
    tokens.features[:, dull] = tokens.features[:, :1].clone()  # no diversity
    tokens.attention[:, dull] = 0.0
    budget = TokenBudget(count=17, floor=4)
    index = _select(name, tokens, budget).index[0]
    assert (tokens.camera[index] == 3).sum() >= 4
    if name in ('divprune', 'vispruner', 'visionzip'):
        free = _select(name, tokens, TokenBudget(count=17)).index[0]
        assert (tokens.camera[free] == 3).sum() < 4, 'the floor has nothing to do here'


@pytest.mark.parametrize('name', NAMES)
def test_impossible_budgets_are_refused(make_tokens: Make, name: str) -> None:
    with pytest.raises(InvalidInput, match='floor of 5'):
        _select(name, make_tokens(6), TokenBudget(count=12, floor=5))
    with pytest.raises(InvalidInput, match='count 55 of 54'):
        _select(name, make_tokens(6), TokenBudget(count=55))


def test_missing_inputs_are_named(make_tokens: Make) -> None:
    tokens = make_tokens(7)
    with pytest.raises(InvalidInput, match='no text'):
        make_pruner('cdpruner').select(tokens, TokenBudget(ratio=0.5))
    for name in ('vispruner', 'visionzip'):
        with pytest.raises(InvalidInput, match=f'{name}.*no attention'):
            make_pruner(name).select(dataclasses.replace(tokens, attention=None), TokenBudget(ratio=0.5))


def test_controls(make_tokens: Make) -> None:
    tokens, budget = make_tokens(8, batch=2), TokenBudget(ratio=0.5)
    assert _select('none', tokens, budget).index.tolist() == [list(range(54))] * 2
    first = _select('random', tokens, budget).index
    assert torch.equal(first, _select('random', tokens, budget).index)
    assert not torch.equal(first, make_pruner('random:1').select(tokens, budget).index)
    assert not torch.equal(first, _select('random', make_tokens(9, batch=2), budget).index)
    # Over many pictures every token is kept about equally often.
    many = make_tokens(10, batch=600)
    often = torch.bincount(_select('random', many, budget).index.flatten(), minlength=54) / 600
    assert float(often.min()) > 0.4 and float(often.max()) < 0.6


def test_uniform_is_a_grid(make_tokens: Make) -> None:
    tokens = make_tokens(11, grids={'front': (4, 6), 'back': (4, 4)})
    half = _select('uniform', tokens, TokenBudget(ratio=0.5)).index[0]
    assert ((tokens.row[half] + tokens.column[half]) % 2 == 0).all()
    assert torch.bincount(tokens.camera[half]).tolist() == [12, 8]
    quarter = _select('uniform', tokens, TokenBudget(ratio=0.75)).index[0]
    assert len(quarter) == 10
    assert (tokens.row[quarter] % 2 == 0).all() and (tokens.column[quarter] % 2 == 0).all()


def test_registry_names_what_is_allowed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match=r"'fastdrive'.*allowed: none, random\[.*sparsevlm.*folder"):
        make_pruner('fastdrive')
    for spec, words in {
        'random:x': 'no whole number',
        'divprune:2': 'takes no argument',
        'sparsevlm:half': 'average, pruned',
        'cdpruner:up': 'negative or positive',
        'fastv:0': 'allowed: 1',
        'recon': 'give the folder',
    }.items():
        with pytest.raises(InvalidInput, match=words):
            make_pruner(spec)
    with pytest.raises(InvalidInput):
        make_pruner(tmp_path)
    with pytest.raises(InvalidInput, match='is no folder'):
        make_pruner('recon', recon=tmp_path / 'absent')


@pytest.mark.parametrize('name', ['divprune', 'vispruner', 'cdpruner', 'prune2drive'])
@pytest.mark.parametrize('budget', BUDGETS, ids=str)
def test_other_devices_choose_alike(
    make_tokens: Make, name: str, budget: TokenBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operations used off the CPU (torch's) give what those on it (numpy's) do."""
    tokens = make_tokens(12, batch=2)
    want = _select(name, tokens, budget).index
    for module in (greedy, vispruner):
        monkeypatch.setattr(module, 'arrays', lambda x: (torch, x))
    assert torch.equal(_select(name, tokens, budget).index, want)
