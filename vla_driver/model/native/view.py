# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A panorama around the vehicle, read place by place.

Attention learns slowly *where* things are: the place is an embedding that has to be untangled first.  A linear
map with own weights for every place learns it at once (on the same frozen features, ridge regression explains 76 %
of the variance of the expert's sideways corrections; the attention path alone had reached 30 %).  So every
visual token is spread by its ray onto a fixed panorama of azimuth and elevation, seen from a standard eye above
base_link, and the panorama is read with such a map.  The spreading depends on the calibration alone, so another
rig needs no other weights.  Whether the panorama sees tokens that a pruner drops is `view_config.reads`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import ViewConfig, VlaConfig
from vla_driver.model.layers.rays import RayFunction


def panorama_place(rays: Tensor, origins_m: Tensor, eye_m: Sequence[float], reach_m: float) -> tuple[Tensor, Tensor]:
    """Return azimuth and elevation [...] in radians at which the standard eye sees what rays [..., 3] meet.

    Rays that go down are taken to meet flat ground (z = 0) within reach_m; the others, something far away in their
    own direction.  origins_m [..., 3]: the cameras' positions; eye_m: (ahead of, above) base_link.
    """
    down = rays[..., 2] < -1e-3
    slope = torch.where(down, -rays[..., 2], torch.ones_like(rays[..., 2]))
    distance = (origins_m[..., 2].clamp(min=0.1) / slope).clamp(max=reach_m)
    ground = origins_m[..., :2] + distance.unsqueeze(-1) * rays[..., :2]
    ahead, above = eye_m
    flat = torch.where(down.unsqueeze(-1), ground - ground.new_tensor([ahead, 0.0]), rays[..., :2] * reach_m)
    azimuth = torch.atan2(flat[..., 1], flat[..., 0])
    seen_from_eye = -torch.atan2(torch.full_like(azimuth, above), flat.norm(dim=-1).clamp(min=0.1))
    # Both agree at the horizon, as far as reach_m is far.
    elevation = torch.where(down, seen_from_eye, torch.asin(rays[..., 2].clamp(-1.0, 1.0)))
    return azimuth, elevation


class Spread(RayFunction):
    """Weights [B, N, G]: how much of each token falls on each of the panorama's G cells (bilinear).

    Tokens beyond the panorama fall nowhere.
    """

    def __init__(self, view: ViewConfig):
        super().__init__()
        self.config = view
        self.columns = round(2 * view.azimuth_deg / view.cell_deg) + 1
        low, high = view.elevation_deg
        self.rows = round((high - low) / view.cell_deg) + 1

    def compute(self, rays: Tensor, origins_m: Tensor) -> Tensor:
        """Return the weights of tokens with rays and cameras' positions [B, N, 3]."""
        view = self.config
        azimuth, elevation = panorama_place(rays, origins_m, view.eye_m, view.reach_m)
        cell = math.radians(view.cell_deg)
        column = azimuth / cell + (self.columns - 1) / 2
        row = (elevation - math.radians(view.elevation_deg[0])) / cell
        rows = torch.arange(self.rows, device=row.device, dtype=row.dtype)
        columns = torch.arange(self.columns, device=row.device, dtype=row.dtype)
        over_rows = (1.0 - (row.unsqueeze(1) - rows[:, None]).abs()).clamp(min=0.0)
        over_columns = (1.0 - (column.unsqueeze(1) - columns[:, None]).abs()).clamp(min=0.0)
        return (over_rows.unsqueeze(2) * over_columns.unsqueeze(1)).flatten(1, 2).mT


class ViewReader(nn.Module):
    """Visual tokens to view tokens [B, V, D] that have read the panorama place by place."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        width, view = config.language_config.hidden_size, config.view_config
        self.count = view.num_tokens
        self.spread = Spread(view)
        self.squeeze = nn.Linear(width, view.channels)
        self.read = nn.Linear(self.spread.rows * self.spread.columns * view.channels, view.hidden_size)
        self.out = nn.Linear(view.hidden_size, width * view.num_tokens)
        if view.reads == 'usual':
            self.usual: Tensor
            #: [G, C]: the mean squeezed token of each place (train/pruning/usual_view.py).
            self.register_buffer('usual', torch.zeros(self.spread.rows * self.spread.columns, view.channels))

    def forward(
        self, features: Tensor, spread: Tensor, valid: Tensor, whole: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what was read [B, H], and as tokens [B, V, D].

        Takes tokens [B, N, D], where they fall [B, N, G] (`spread`), and valid [B, N]; the others fall nowhere.
        whole [B, G]: how much of all tokens falls on each place; of what is not among these, the usual stands there.
        """
        if self.training:
            # A third of the tokens at most: against learning scenes by heart, and for a pruner that will come.
            share = torch.rand(len(valid), 1, device=valid.device) / 3
            valid = valid & (torch.rand(valid.shape, device=valid.device) >= share)
        squeezed = self.squeeze(features)
        falls = spread * valid.unsqueeze(-1)
        panorama = falls.mT.to(squeezed.dtype) @ squeezed
        if whole is not None:
            panorama = panorama + (whole - falls.sum(dim=1)).unsqueeze(-1).to(squeezed.dtype) * self.usual
        read = F.gelu(self.read(panorama.flatten(1)))
        return read, self.out(read).unflatten(-1, (self.count, -1))
