# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""CDPruner (arXiv 2506.10967): a determinantal point process, conditioned on what the language model is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_driver.model.pruning.base import KeptTokens, least_per_camera
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.greedy import cosine, likeliest_set
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


class CdPruner:
    """Keeps the set of largest det(diag(r) S diag(r)): S cosine similarity, r relevance to the text in (0, 1].

    Relevance is the cosine to the text, as in the paper (section 3.3).  negative: whether it grows with the *negative*
    cosine, as in the authors' code for LLaVA, whose CLIP embeddings are less alike the better they match; no model
    here takes its text from CLIP.
    """

    name = 'cdpruner'

    def __init__(self, negative: bool = False):
        self.negative = negative

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`; text [B, T, D] is required."""
        if text is None or not text.shape[1]:
            raise InvalidInput('cdpruner: no text; it weighs tokens by their likeness to the text, pass text [B, T, D]')
        least, total = least_per_camera(tokens, budget), budget.total(len(tokens.camera))
        relevance = self.relevance(tokens.features, text)
        kernel = relevance.unsqueeze(2) * cosine(tokens.features) * relevance.unsqueeze(1)
        camera = tokens.camera.tolist()
        chosen = [likeliest_set(row, camera, least, total) for row in kernel]
        return KeptTokens(torch.tensor(chosen, device=tokens.camera.device).sort(dim=1).values, relevance)

    def relevance(self, features: Tensor, text: Tensor) -> Tensor:
        """Return r [B, N]: the mean cosine to the text tokens (negated), scaled to (0, 1] in each row."""
        relevance = cosine(features, text).mean(dim=-1) * (-1.0 if self.negative else 1.0)
        low, high = relevance.aminmax(dim=1, keepdim=True)
        return (relevance - low + 1e-6) / (high - low).clamp(min=1e-6)
