# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruners that keep tokens unlike one another: DivPrune and Prune2Drive's farthest points of each view."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from vla_driver.model.pruning.base import KeptTokens, camera_sizes, least_per_camera
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.greedy import cosine, farthest_points
from vla_driver.model.tokens import VisualTokens


class DivPrune:
    """DivPrune (arXiv 2503.02175): the subset with the largest least cosine distance, greedily, over all cameras."""

    name = 'divprune'

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`.  Neither attention nor text."""
        least, total = least_per_camera(tokens, budget), budget.total(len(tokens.camera))
        camera = tokens.camera.tolist()
        chosen = [farthest_points(row, camera, least, total) for row in 1.0 - cosine(tokens.features)]
        return KeptTokens(torch.tensor(chosen, device=tokens.camera.device).sort(dim=1).values)


class Prune2Drive:
    """Prune2Drive's T-FPS (arXiv 2508.13305): farthest points by cosine distance within each view.

    Always by view, so in either scope every camera keeps its share (by its weight; the paper searches the weights).
    The paper takes the hidden states of an early language layer; here it is the tokens before the language model,
    so that later cost falls for all layers.
    """

    name = 'prune2drive'

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """See `Pruner`."""
        sizes = camera_sizes(tokens.camera, len(tokens.names))
        shares = dataclasses.replace(budget, scope='camera').shares(sizes, tokens.names)
        distance = 1.0 - cosine(tokens.features)
        chosen: list[list[int]] = [[] for _ in distance]
        for number, share in enumerate(shares):
            if not share:
                continue
            members = (tokens.camera == number).nonzero()[:, 0]
            inside, position = distance[:, members][:, :, members], members.tolist()
            for row, apart in zip(chosen, inside, strict=True):
                picked = farthest_points(apart, [0] * len(position), [0], share)
                row += [position[index] for index in picked]
        return KeptTokens(torch.tensor(chosen, device=tokens.camera.device).sort(dim=1).values)
