# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How others move: unicycle controls from where they are, and back from where they went.

Vehicles and people alike are given accelerations and curvatures, as the ego is, so that every sample can be driven or
walked.  People need no form of their own: they walk the way they face, and at walking pace a curvature of 2 per metre
turns them around within a second; only the limit differs.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from vla_driver.model.native.acting.unicycle import Rollout, integrate

#: Weight of changes of acceleration against squared metres.  Places every 0.25 s determine speeds only up to a
#: zigzag, which the trapezoid rule cannot see; smoothing takes it out (as Alpamayo-R1 does, arXiv 2511.00088).
_SMOOTHNESS = 0.01
#: And of the accelerations themselves, for steps without places.
_SMALLNESS = 1e-4
#: Headings of bodies that move less than this in a step say nothing about curvature, in metres.
_STILL_M = 0.05


def drive(pose: Tensor, speed_mps: Tensor, controls: Tensor, dt_s: float) -> Rollout:
    """Drive controls [..., T, 2] (m/s^2, 1/m) from pose [..., 3] (x, y, yaw) and speed_mps [...]; in the pose's frame.

    Returns positions_m [..., T, 2], yaw_rad [..., T] (not wrapped) and speed_mps [..., T].
    """
    own = integrate(speed_mps, controls, dt_s)
    yaw = pose[..., 2:3]
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    x, y = own.positions_m.unbind(dim=-1)
    positions = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1) + pose[..., None, :2]
    return Rollout(positions, own.yaw_rad + yaw, own.speed_mps)


@lru_cache(maxsize=8)
def _matrices(steps: int, dt_s: float) -> tuple[Tensor, Tensor]:
    """Return the path lengths [T, T] that each acceleration adds at each step, and the smoothing term [T, T]."""
    step = torch.arange(steps, dtype=torch.float32)
    # Speed is v0 + dt * (sum of accelerations); the trapezoid rule adds (speed before + speed after) dt / 2 a step.
    lengths = (dt_s**2 * (step[:, None] - step[None] + 0.5)).tril()
    change = torch.diff(torch.eye(steps), dim=0)
    return lengths, _SMOOTHNESS * change.T @ change + _SMALLNESS * torch.eye(steps)


def controls_of(pose: Tensor, speed_mps: Tensor, future: Tensor, valid: Tensor, dt_s: float) -> Tensor:
    """Return controls [N, T, 2] (m/s^2, 1/m) that lead from pose [N, 3] at speed_mps [N] through future [N, T, 3].

    future: x, y, yaw every dt_s in the pose's frame; where valid [N, T] is false it says nothing, and the motion goes
    on as before.  Accelerations are the least-squares fit to the path's length, curvatures the turn of each step by
    its length.
    """
    with torch.no_grad(), torch.autocast(pose.device.type, enabled=False):
        known = valid.float()
        future = torch.where(valid.unsqueeze(-1), future.float(), torch.zeros_like(future, dtype=torch.float32))
        places = torch.cat([pose.float().unsqueeze(1), future], dim=1)
        # A step counts when both of its ends are known.
        both = known * torch.cat([torch.ones_like(known[:, :1]), known[:, :-1]], dim=1)
        known = both.cumprod(dim=1)  # lengths add up, so nothing behind a gap can be told
        step = places[:, 1:] - places[:, :-1]
        turn = torch.atan2(step[..., 2].sin(), step[..., 2].cos()) * both
        middle = places[:, :-1, 2] + 0.5 * turn
        along = (step[..., 0] * middle.cos() + step[..., 1] * middle.sin()).clamp(min=0.0) * both
        seconds = dt_s * torch.arange(1, known.shape[1] + 1, device=pose.device)
        excess = along.cumsum(dim=1) - speed_mps.float().clamp(min=0.0).unsqueeze(1) * seconds
        lengths, smooth = (m.to(pose.device) for m in _matrices(known.shape[1], dt_s))
        weighted = lengths.T * known.unsqueeze(1)  # [N, T, T]
        acceleration = torch.linalg.solve(weighted @ lengths + smooth, (weighted @ excess.unsqueeze(-1)))[..., 0]
        curvature = turn * along / (along.square() + _STILL_M**2)
        return torch.stack([acceleration, curvature], dim=-1)
