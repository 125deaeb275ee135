# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Each baseline against a short, plain and slow derivation of its own from the paper's formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.cdpruner import CdPruner
from vla_driver.model.pruning.published.clusters import cluster_count, merge_clusters
from vla_driver.model.pruning.published.diverse import DivPrune, Prune2Drive
from vla_driver.model.pruning.published.fastv import FastV
from vla_driver.model.pruning.published.greedy import likeliest_set
from vla_driver.model.pruning.published.sparsevlm import SparseVlm
from vla_driver.model.pruning.published.visionzip import VisionZip
from vla_driver.model.pruning.published.vispruner import VisPruner
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

Make = Callable[..., VisualTokens]
SEEDS = range(6)


def _cosine(features: torch.Tensor) -> np.ndarray:
    x = features.double().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def _max_min(distance: np.ndarray, total: int) -> list[int]:
    """Max-min diversity, O(K^2 N): every step looks at all distances to all chosen ones."""
    count = len(distance)
    isolation = [min(distance[i][j] for j in range(count) if j != i) for i in range(count)]
    chosen = [int(np.argmax(isolation))]
    while len(chosen) < total:
        rest = [i for i in range(count) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(distance[i][j] for j in chosen)))
    return sorted(chosen)


@pytest.mark.parametrize('seed', SEEDS)
def test_divprune(make_tokens: Make, seed: int) -> None:
    tokens = make_tokens(seed)
    for ratio in (0.25, 0.5, 0.75):
        budget = TokenBudget(ratio=ratio)
        want = _max_min(1 - _cosine(tokens.features[0]), budget.total(54))
        assert torch.bincount(tokens.camera[want], minlength=4).min() >= 1  # the floor plays no part
        assert DivPrune().select(tokens, budget).index.tolist() == [want]


@pytest.mark.parametrize('scope', ['global', 'camera'])
def test_prune2drive(make_tokens: Make, scope: str) -> None:
    tokens = make_tokens(20)
    weights = {'front': 2.0} if scope == 'camera' else {}
    budget = TokenBudget(ratio=0.6, scope=scope, weights=weights)
    shares = TokenBudget(ratio=0.6, scope='camera', weights=weights).shares([24, 12, 12, 6], tokens.names)
    want = []
    for camera, share in enumerate(shares):
        members = (tokens.camera == camera).nonzero()[:, 0]
        want += members[_max_min(1 - _cosine(tokens.features[0, members]), share)].tolist()
    assert Prune2Drive().select(tokens, budget).index.tolist() == [sorted(want)]


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('negative', [True, False])
def test_cdpruner(make_tokens: Make, seed: int, negative: bool) -> None:
    """Greedy maximisation of log det itself, each determinant computed anew."""
    tokens = make_tokens(seed, grids={'front': (6, 9)})
    text = torch.randn(1, 3, 80, generator=torch.Generator().manual_seed(seed))
    budget = TokenBudget(count=14)
    both = torch.cat([tokens.features[0], text[0]])
    relevance = (-1 if negative else 1) * _cosine(both)[:54, 54:].mean(axis=1)
    relevance = (relevance - relevance.min() + 1e-6) / (relevance.max() - relevance.min())
    kernel = relevance[:, None] * _cosine(tokens.features[0]) * relevance[None, :]
    chosen: list[int] = []
    for _ in range(14):
        rest = [i for i in range(54) if i not in chosen]
        gains = [np.linalg.slogdet(kernel[np.ix_([*chosen, i], [*chosen, i])])[1] for i in rest]
        chosen.append(rest[int(np.argmax(gains))])
    kept = CdPruner(negative).select(tokens, budget, text)
    assert kept.index.tolist() == [sorted(chosen)]
    np.testing.assert_allclose(kept.scores[0].numpy(), relevance, atol=1e-5)


def test_cdpruner_keeps_what_the_text_speaks_of(make_tokens: Make) -> None:
    tokens = make_tokens(3, grids={'front': (6, 9)})
    text = tokens.features[:, 10:14].mean(dim=1, keepdim=True)
    kept = CdPruner().select(tokens, TokenBudget(count=14), text)
    other = make_pruner('cdpruner:negative').select(tokens, TokenBudget(count=14), text)
    spoken_of = set(range(10, 14))
    assert spoken_of <= set(kept.index[0].tolist())
    assert not spoken_of <= set(other.index[0].tolist())


def test_exhausted_rank_is_no_nan() -> None:
    """Four different tokens, three times each: first one of each kind, then the rest."""
    unit = torch.eye(4).repeat(3, 1) * torch.tensor([4.0, 3.0, 2.0, 1.0]).repeat(3).unsqueeze(1)
    kernel = unit @ unit.T
    assert likeliest_set(kernel, [0] * 12, [1], 4) == [0, 1, 2, 3]
    assert sorted(likeliest_set(kernel, [0] * 12, [1], 12)) == list(range(12))


def _vispruner(score: np.ndarray, likeness: np.ndarray, total: int, ratio: float) -> list[int]:
    order = sorted(range(len(score)), key=lambda i: -score[i])
    important, rest = order[: int(total * ratio)], order[int(total * ratio) :]
    wanted = total - len(important)
    while len(rest) > wanted:
        even, odd = rest[0::2], rest[1::2]
        duplicates = sorted(even, key=lambda i: -max(likeness[i][j] for j in odd))
        rest = duplicates[min(8, len(rest) - wanted) :] + odd
    return sorted(important + rest)


@pytest.mark.parametrize('seed', SEEDS)
def test_vispruner(make_tokens: Make, seed: int) -> None:
    tokens = make_tokens(seed)
    for count, ratio in ((40, 0.5), (27, 0.5), (20, 0.25)):
        want = _vispruner(tokens.attention[0].numpy(), _cosine(tokens.features[0]), count, ratio)
        assert torch.bincount(tokens.camera[want], minlength=4).min() >= 1
        assert VisPruner(ratio).select(tokens, TokenBudget(count=count)).index.tolist() == [want]
    assert VisPruner(1.0).select(tokens, TokenBudget(count=30)).index.tolist() == [
        sorted(tokens.attention[0].topk(30).indices.tolist())
    ]


def test_vispruner_by_image(make_tokens: Make) -> None:
    tokens = make_tokens(21)
    budget, want = TokenBudget(ratio=0.5, scope='camera'), []
    for camera, share in enumerate(budget.shares([24, 12, 12, 6], tokens.names)):
        members = (tokens.camera == camera).nonzero()[:, 0]
        score, likeness = tokens.attention[0, members].numpy(), _cosine(tokens.features[0, members])
        want += members[_vispruner(score, likeness, share, 0.5)].tolist()
    assert VisPruner().select(tokens, budget).index.tolist() == [sorted(want)]


@pytest.mark.parametrize('scope', ['global', 'camera'])
def test_visionzip(make_tokens: Make, scope: str, best_by_hand: Callable[..., list[int]]) -> None:
    tokens = make_tokens(22)
    budget = TokenBudget(ratio=0.4, scope=scope)
    camera, likeness, features = tokens.camera.tolist(), _cosine(tokens.features[0]), tokens.features[0]
    dominant, targets = [], []
    if scope == 'camera':
        for number, share in enumerate(budget.shares([24, 12, 12, 6], tokens.names)):
            members = [i for i in range(54) if camera[i] == number]
            contextual = round(share * 10 / 64)
            best = sorted(members, key=lambda i: -float(tokens.attention[0, i]))[: share - contextual]
            rest = [i for i in members if i not in best]
            dominant += best
            targets += rest[:: max(1, len(rest) // contextual)][:contextual] if contextual else []
    else:
        contextual = round(budget.total(54) * 10 / 64)
        dominant = best_by_hand(tokens.attention[0], tokens, TokenBudget(count=budget.total(54) - contextual))
        rest = [i for i in range(54) if i not in dominant]
        targets = rest[:: len(rest) // contextual][:contextual]
    assert targets
    want = {i: features[i].clone() for i in [*dominant, *targets]}
    assigned: dict[int, list[int]] = {i: [] for i in targets}
    for i in range(54):
        own = [j for j in targets if camera[j] == camera[i]]
        if i not in want and own:
            assigned[max(own, key=lambda j: likeness[i][j])].append(i)
    for i, members in assigned.items():
        if members:
            want[i] += features[members].mean(dim=0)
    kept = VisionZip().select(tokens, budget)
    assert kept.index.tolist() == [sorted(want)]
    torch.testing.assert_close(kept.features[0], torch.stack([want[i] for i in sorted(want)]))
    assert any(len(members) > 1 for members in assigned.values())


def test_fastv_stages_and_judges() -> None:
    assert [(s.layer, s.kept) for s in FastV(2).stages(3249, TokenBudget(ratio=0.75), 28)] == [(2, 812)]
    with pytest.raises(InvalidInput, match='layer 4 of a language model of 4 layers; allowed: 1 to 3'):
        FastV(4).stages(100, TokenBudget(ratio=0.5), 4)
    judges = FastV().judges(torch.zeros(2, 5, 8), torch.zeros(2, 7, 8), last=2)
    assert judges.tolist() == [[False, False, False, True, True]] * 2


@pytest.mark.parametrize(('depth', 'layers'), [(32, [2, 6, 16]), (36, [2, 7, 18]), (28, [2, 5, 14])])
@pytest.mark.parametrize('ratio', [0.25, 0.5, 0.75])
def test_sparsevlm_reaches_its_average(depth: int, layers: list[int], ratio: float) -> None:
    stages = SparseVlm().stages(3249, TokenBudget(ratio=ratio), depth)
    assert [stage.layer for stage in stages] == layers
    counts = [3249 if layer < layers[0] else 0 for layer in range(depth)]
    for stage in stages:
        counts[stage.layer :] = [stage.kept] * (depth - stage.layer)
    assert sum(counts) / depth == pytest.approx(TokenBudget(ratio=ratio).total(3249), abs=1.0)
    factors = [after.kept / before for after, before in zip(stages, [3249, *(s.kept for s in stages)], strict=False)]
    assert max(factors) - min(factors) < 0.01
    assert max(factors) < 1.0


def test_sparsevlm_on_few_layers() -> None:
    with pytest.raises(InvalidInput, match=r'33 of 135.*first 1 always.*at least 26%.*sparsevlm:pruned'):
        SparseVlm().stages(135, TokenBudget(ratio=0.75), 4)
    stages = SparseVlm('pruned').stages(135, TokenBudget(ratio=0.75), 4)
    assert [stage.layer for stage in stages] == [1, 2]
    assert (stages[0].kept + 2 * stages[1].kept) / 3 == pytest.approx(33, abs=1.0)
    assert SparseVlm().stages(135, TokenBudget(ratio=0.0), 4) == ()
    with pytest.raises(InvalidInput, match='at least 2'):
        SparseVlm().stages(135, TokenBudget(ratio=0.5), 1)


def test_sparsevlm_raters() -> None:
    generator = torch.Generator().manual_seed(0)
    text, visual = torch.randn(2, 5, 8, generator=generator), torch.randn(2, 7, 8, generator=generator)
    judges = SparseVlm().judges(text, visual, last=1)
    for row in range(2):
        products = np.exp((visual[row] @ text[row].T).numpy())
        share = (products / products.sum(axis=1, keepdims=True)).mean(axis=0)
        assert judges[row].tolist() == (share > share.mean()).tolist()
    alike = torch.ones(1, 4, 8)
    assert SparseVlm().judges(alike, visual[:1], last=1).all()  # no one above the mean: all judge


@pytest.mark.parametrize('seed', SEEDS)
def test_clusters(seed: int) -> None:
    """Density peaks by hand; the merged token of a cluster is its members' mean, at the place of its peak."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(2, 60, 16, generator=generator)
    scores = torch.rand(2, 60, generator=generator)
    scores[:, ::2] = -torch.inf  # 30 tokens are dropped
    clusters = 3
    centres, means = merge_clusters(states, scores, 30, clusters)
    assert cluster_count(30) == 2 and cluster_count(0) == 0
    for row in range(2):
        pool = sorted(sorted(range(60), key=lambda i: -float(scores[row, i]))[:10])  # 0.3 * 30 + 1
        x = states[row, pool].double().numpy()
        apart = np.linalg.norm(x[:, None] - x[None], axis=-1) / np.sqrt(16)
        density = np.exp(-(np.sort(apart, axis=1)[:, :clusters] ** 2).mean(axis=1))
        gap = [min([apart[i, j] for j in range(10) if density[j] > density[i]] or [apart.max()]) for i in range(10)]
        peaks = sorted(np.argsort(-np.array(gap) * density)[:clusters].tolist())
        assert centres[row].tolist() == [pool[i] for i in peaks]
        nearest = np.argmin(apart[peaks], axis=0)
        for number in range(clusters):
            np.testing.assert_allclose(means[row, number].numpy(), x[nearest == number].mean(axis=0), atol=1e-5)
