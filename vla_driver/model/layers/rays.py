# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Functions of viewing rays, which are the same at every tick of a rig."""

from __future__ import annotations

import abc

import torch
from torch import Tensor, nn


class RayFunction(nn.Module, abc.ABC):
    """Called with viewing rays [..., 3] and camera positions [..., 3] in metres; subclasses have `compute`."""

    def __init__(self) -> None:
        super().__init__()
        #: The answer for rays of its own shape, where somebody has computed it before (model/export/graph.py).
        self.given: Tensor | None = None
        self._known: dict[torch.Size, tuple[Tensor, Tensor, Tensor]] | None = None

    def remember(self) -> None:
        """From now on, answer the same question as last time from memory: for weights that do not change any more."""
        self._known = {}

    def forward(self, rays: Tensor, origins_m: Tensor) -> Tensor:
        """Return what `compute` gives."""
        if self.given is not None and self.given.shape[:-1] == rays.shape[:-1]:
            return self.given
        if self._known is None:
            return self.compute(rays, origins_m)
        known = self._known.get(rays.shape)
        if known is None or not (torch.equal(known[0], rays) and torch.equal(known[1], origins_m)):
            known = self._known[rays.shape] = (rays, origins_m, self.compute(rays, origins_m))
        return known[2]

    @abc.abstractmethod
    def compute(self, rays: Tensor, origins_m: Tensor) -> Tensor:
        """Return the function's value."""


class RayEmbedding(RayFunction):
    """Rays and camera positions to embeddings [..., dim]: Fourier features and an MLP."""

    def __init__(self, dim: int, octaves: int):
        super().__init__()
        self.octaves = octaves
        self.mlp = nn.Sequential(nn.Linear(6 * (1 + 2 * octaves), dim), nn.GELU(), nn.Linear(dim, dim))

    def compute(self, rays: Tensor, origins_m: Tensor) -> Tensor:
        """Return [..., dim]; 4 m bring a camera's position to the size of a unit ray."""
        x = torch.cat([rays, origins_m / 4.0], dim=-1)
        frequencies = torch.pi * 2.0 ** torch.arange(self.octaves, device=x.device, dtype=x.dtype)
        angles = (x.unsqueeze(-1) * frequencies).flatten(-2)
        out: Tensor = self.mlp(torch.cat([x, angles.sin(), angles.cos()], dim=-1))
        return out
