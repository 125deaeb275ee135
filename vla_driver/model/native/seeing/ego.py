# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Ego state and navigation to tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.tokens import ModelInputs


class EgoEncoder(nn.Module):
    """Ego state and navigation to three tokens: [ego | command | target points]."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        self.config = config
        width = config.language_config.hidden_size
        self.ego = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.unknown_speed = nn.Parameter(torch.zeros(width))
        self.command = nn.Embedding(4, width)
        self.distance = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.targets = nn.Sequential(nn.Linear(4 * (1 + 2 * 3), width), nn.GELU(), nn.Linear(width, width))

    def forward(self, inputs: ModelInputs, speed_known: Tensor | None = None) -> Tensor:
        """Return [B, 3, D]; rows where speed_known [B] is false get the learned "unknown" ego token."""
        clip, scale = self.config.command_distance_clip_m, self.config.target_scale_m
        speed = inputs.speed_mps
        # tanh tells standing from creeping, the linear term how fast.
        ego = self.ego(torch.stack([speed / 10, torch.tanh(speed), inputs.yaw_rate_rps * 2], dim=-1))
        if speed_known is not None:
            ego = torch.where(speed_known.unsqueeze(-1), ego, self.unknown_speed.to(ego.dtype))
        distance = inputs.command_distance_m.clamp(0.0, clip) / clip
        near = torch.exp(-inputs.command_distance_m.clamp(min=0.0) / 8.0)
        command = self.distance(torch.stack([distance, near], dim=-1))
        command = command + self.command(inputs.command).to(command.dtype)
        targets = (inputs.targets_m / scale).clamp(-4.0, 4.0).flatten(1)
        angles = (targets.unsqueeze(-1) * torch.pi * 2.0 ** torch.arange(-1, 2, device=targets.device)).flatten(1)
        target_token = self.targets(torch.cat([targets, angles.sin(), angles.cos()], dim=-1))
        return torch.stack([ego, command, target_token], dim=1)
