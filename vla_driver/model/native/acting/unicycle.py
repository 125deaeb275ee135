# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The kinematics of geometry/unicycle.py for batches of tensors, differentiable; and the scale of curvatures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """positions_m [..., T, 2], yaw_rad [..., T], speed_mps [..., T] at the end of each step."""

    positions_m: Tensor
    yaw_rad: Tensor
    speed_mps: Tensor


def integrate(speed_mps: Tensor, controls: Tensor, dt_s: float) -> Rollout:
    """Integrate controls [..., T, 2] (acceleration, curvature) from the pose (0, 0, 0) at speed_mps [...].

    The recursion v' = max(0, v + a dt) is the reflection of the free sum S at zero, so it has the closed
    form v_k = S_k - min(0, min_{j<=k} S_j): no loop over steps.
    """
    initial = speed_mps.clamp(min=0.0).unsqueeze(-1)
    free = initial + torch.cumsum(controls[..., 0] * dt_s, dim=-1)
    lowest = torch.cummin(free, dim=-1).values
    speed = torch.cat([initial, free - lowest.clamp(max=0.0)], dim=-1)
    step = 0.5 * (speed[..., 1:] + speed[..., :-1]) * dt_s
    yaw = torch.cumsum(controls[..., 1] * step, dim=-1)
    heading = torch.cat([torch.zeros_like(initial), yaw], dim=-1)
    velocity = torch.stack([speed * torch.cos(heading), speed * torch.sin(heading)], dim=-1)
    positions = torch.cumsum(0.5 * (velocity[..., 1:, :] + velocity[..., :-1, :]) * dt_s, dim=-2)
    return Rollout(positions, yaw, speed[..., 1:])


def compress(controls: Tensor, knee_per_m: float) -> Tensor:
    """Replace the curvature k of controls [..., 2] by asinh(k / knee): linear below the knee, logarithmic above.

    Keeping to a lane takes a hundredth of the curvature of a turn.  On a linear scale, turns set the unit, and the
    corrections vanish in the loss; so compressed, both count.
    """
    acceleration, curvature = controls.unbind(dim=-1)
    return torch.stack([acceleration, torch.asinh(curvature / knee_per_m)], dim=-1)
