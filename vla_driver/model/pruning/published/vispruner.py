# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""VisPruner (arXiv 2412.01818): half of the budget to tokens that draw attention, half to tokens unlike the others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vla_driver.model.pruning.base import KeptTokens, least_per_camera, ranked, required_attention
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.greedy import arrays, cosine
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

#: How many duplicates leave in one round of the authors' code.
ROUND = 8


class VisPruner:
    """Important tokens by the attention they receive in the encoder, then diverse ones among the rest.

    The paper reads the attention of CLIP's class token; an encoder without one gives each token's column sum (see
    `VisualTokens.attention`).  Scope 'camera' treats each image on its own, as the paper does; 'global' all together,
    and a camera below its floor then gets its most attended tokens in place of the least attended ones of others.
    """

    name = 'vispruner'
    needs_attention = True

    def __init__(self, important_ratio: float = 0.5):
        if not 0.0 <= important_ratio <= 1.0:
            raise InvalidInput(f'vispruner: important_ratio {important_ratio}; allowed: 0 to 1')
        self.important_ratio = important_ratio

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`; the tokens must carry their attention."""
        attention = required_attention(tokens, self.name)
        least, total = least_per_camera(tokens, budget), budget.total(len(tokens.camera))
        scores = ranked(attention, tokens.valid)
        likeness = cosine(tokens.features)
        camera = tokens.camera.cpu().numpy()
        rows = []
        for score, alike in zip(scores, likeness, strict=True):
            if budget.scope == 'camera':
                parts = [(np.flatnonzero(camera == number), share) for number, share in enumerate(least)]
                row = np.concatenate([self._choose(score, alike, part, share) for part, share in parts if share])
            else:
                row = self._choose(score, alike, np.arange(len(camera)), total)
                row = _with_floors(row, score.cpu().numpy(), camera, least)
            rows.append(np.sort(row))
        return KeptTokens(torch.from_numpy(np.stack(rows)).to(tokens.camera.device), attention)

    def _choose(self, score: Tensor, alike: Tensor, members: np.ndarray, total: int) -> np.ndarray:
        """Return `total` of the tokens `members`, by score [N] and likeness [N, N]; paper section 3.2, 3.3."""
        lib, likeness = arrays(alike)
        order = members[np.argsort(-score.cpu().numpy()[members], kind='stable')]
        important = int(total * self.important_ratio)
        rest = order[important:]
        diverse = total - important
        while diverse and len(rest) > diverse:
            even, odd = rest[::2], rest[1::2]
            leave = min(ROUND, len(rest) - diverse, len(even))
            columns = lib.asarray(odd)[None, :] if lib is np else torch.as_tensor(odd, device=alike.device)[None, :]
            lines = lib.asarray(even)[:, None] if lib is np else torch.as_tensor(even, device=alike.device)[:, None]
            closest = lib.amax(likeness[lines, columns], 1)
            closest = closest if lib is np else closest.cpu().numpy()
            rest = np.concatenate([even[np.argsort(-closest, kind='stable')[leave:]], odd])
        return np.concatenate([order[:important], rest[:diverse]])


def _with_floors(chosen: np.ndarray, score: np.ndarray, camera: np.ndarray, least: list[int]) -> np.ndarray:
    """Return the choice with cameras below their least count helped at the cost of the others' lowest scores."""
    kept = np.zeros(len(camera), dtype=bool)
    kept[chosen] = True
    counts = np.bincount(camera[chosen], minlength=len(least))
    for number, floor in enumerate(least):
        for _ in range(floor - counts[number]):
            candidates = np.flatnonzero((camera == number) & ~kept)
            kept[candidates[np.argmax(score[candidates])]] = True
            rich = np.flatnonzero(kept & (counts[camera] > np.asarray(least)[camera]))
            leaves = rich[np.argmin(score[rich])]
            kept[leaves] = False
            counts[camera[leaves]] -= 1
            counts[number] += 1
    return np.flatnonzero(kept)
