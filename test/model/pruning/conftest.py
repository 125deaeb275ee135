# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Random visual tokens of several cameras, and a plain reading of what a budget asks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.tokens import VisualTokens

GRIDS = {'front': (4, 6), 'left': (3, 4), 'right': (3, 4), 'back': (2, 3)}


@pytest.fixture
def make_tokens() -> Callable[..., VisualTokens]:
    """Return a maker of random tokens: (seed, batch=1, width=80, grids=GRIDS), with attention."""

    def make(
        seed: int, batch: int = 1, width: int = 80, grids: dict[str, tuple[int, int]] | None = None
    ) -> VisualTokens:
        generator = torch.Generator().manual_seed(seed)
        cells = [
            torch.cartesian_prod(torch.tensor([number]), torch.arange(rows), torch.arange(columns))
            for number, (rows, columns) in enumerate((grids or GRIDS).values())
        ]
        camera, row, column = torch.cat(cells).unbind(dim=1)
        count = len(camera)
        return VisualTokens(
            features=torch.randn(batch, count, width, generator=generator),
            camera=camera,
            row=row,
            column=column,
            rays=torch.nn.functional.normalize(torch.randn(batch, count, 3, generator=generator), dim=-1),
            origins=torch.randn(batch, count, 3, generator=generator),
            valid=torch.ones(batch, count, dtype=torch.bool),
            names=tuple(grids or GRIDS),
            attention=torch.rand(batch, count, generator=generator),
        )

    return make


@pytest.fixture
def best_by_hand() -> Callable[..., list[int]]:
    """Return a plain `keep_best` of one row: (scores, tokens, budget) -> ascending indices."""

    def choose(scores: torch.Tensor, tokens: VisualTokens, budget: TokenBudget) -> list[int]:
        camera = tokens.camera.tolist()
        sizes = [camera.count(number) for number in range(len(tokens.names))]
        order = sorted(range(len(camera)), key=lambda token: (-float(scores[token]), token))
        quotas = budget.shares(sizes, tokens.names) if budget.scope == 'camera' else budget.floors(sizes)
        chosen = []
        for number, quota in enumerate(quotas):
            chosen += [token for token in order if camera[token] == number][:quota]
        rest = [token for token in order if token not in chosen]
        return sorted(chosen + rest[: budget.total(len(camera)) - len(chosen)])

    return choose
