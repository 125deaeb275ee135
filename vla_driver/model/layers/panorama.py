# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where visual tokens fall on a panorama around the vehicle: by their rays, on the ground or far away."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vla_driver.model.config import ViewConfig
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
