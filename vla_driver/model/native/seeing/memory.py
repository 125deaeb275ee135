# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A short memory of earlier ticks, so that the model sees how others move (as in MindVLA-U1, arXiv 2605.12624).

Only the current pictures are encoded.  Their tokens, pooled, are kept; a later tick reads those of about
0.5 s and 1.0 s before, with their age, and with their rays moved by the odometry between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_driver.model.config import MemoryConfig, VlaConfig
from vla_driver.model.layers.grid import windows
from vla_driver.model.layers.rays import RayEmbedding
from vla_driver.model.native.seeing import remembering
from vla_driver.model.tokens import Remembered, VisualTokens
from vla_driver.types import ANCHOR_CAMERA, EgoState


@dataclass(frozen=True)
class PooledTokens:
    """What is kept of one tick: features [B, M, D], rays and origins [B, M, 3] in base_link of that tick.

    Rays and origins are the rig's, so they are the same at every tick of a drive.
    """

    features: Tensor
    rays: Tensor
    origins: Tensor


class MemoryPool(nn.Module):
    """Joins windows of visual tokens, camera by camera, to few remembered tokens."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        width = config.language_config.hidden_size
        memory = config.memory_config
        self.layout: list[tuple[int, tuple[int, int], tuple[int, int]]] = []
        for size, names in config.camera_groups:
            # The anchor camera shares a group only with cameras of its own size, which then share its window.
            window = memory.front_window if ANCHOR_CAMERA in names else memory.other_window
            self.layout.append((len(names), config.token_grid(size), (window[0], window[1])))
        self.projections = nn.ModuleList(nn.Linear(width * h * w, width) for _, _, (h, w) in self.layout)
        #: Which camera each of the M pooled tokens is of.
        self.camera: list[int] = []
        first = 0
        for count, (rows, columns), (h, w) in self.layout:
            cells = -(-rows // h) * -(-columns // w)
            self.camera += [first + k for k in range(count) for _ in range(cells)]
            first += count

    def forward(self, tokens: VisualTokens) -> PooledTokens:
        """Return the pooled tokens of one batch of ticks."""
        batch = tokens.features.shape[0]
        sizes = [count * rows * columns for count, (rows, columns), _ in self.layout]
        pooled: list[list[Tensor]] = [[], [], []]
        for projection, (count, (rows, columns), window), features, rays, origins in zip(
            self.projections,
            self.layout,
            tokens.features.split(sizes, dim=1),
            tokens.rays.split(sizes, dim=1),
            tokens.origins.split(sizes, dim=1),
            strict=True,
        ):

            def gather(
                x: Tensor, shape: tuple[int, int, int] = (count, rows, columns), window: tuple[int, int] = window
            ) -> Tensor:
                return windows(x.reshape(batch * shape[0], shape[1], shape[2], -1), window)

            cells = window[0] * window[1]
            mean_ray = gather(rays).unflatten(-1, (cells, 3)).mean(dim=-2)
            pooled[0].append(projection(gather(features)).reshape(batch, -1, features.shape[-1]))
            pooled[1].append(nn.functional.normalize(mean_ray, dim=-1).reshape(batch, -1, 3))
            pooled[2].append(gather(origins)[..., :3].reshape(batch, -1, 3))
        return PooledTokens(*(torch.cat(parts, dim=1) for parts in pooled))


class MemoryReader(nn.Module):
    """Remembered tokens to tokens of the prefix, seen from where the vehicle is now."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        width = config.language_config.hidden_size
        self.motion = nn.Sequential(nn.Linear(5, width), nn.GELU(), nn.Linear(width, width))
        self.absent = nn.Parameter(torch.zeros(len(config.memory_config.ages_s), width))

    def forward(self, remembered: Remembered, position: RayEmbedding) -> Tensor:
        """Return [B, S * M, D]; a tick that is not remembered gives its learned "absent" embedding."""
        x, y, yaw = remembered.motion.unbind(dim=-1)
        cos, sin = torch.cos(yaw), torch.sin(yaw)
        rays = _rotate(remembered.rays.unsqueeze(1), cos, sin)
        origins = _rotate(remembered.origins.unsqueeze(1), cos, sin)
        shift = torch.stack([x, y, torch.zeros_like(x)], dim=-1).unsqueeze(2)
        motion = self.motion(torch.stack([x / 10, y / 10, cos, sin, remembered.age_s], dim=-1))
        features = remembered.features
        tokens = features + (position(rays, origins + shift) + motion.unsqueeze(2)).to(features.dtype)
        absent = self.absent.to(features.dtype).unsqueeze(1)
        return torch.where(remembered.valid[..., None, None], tokens, absent).flatten(1, 2)


def _rotate(points: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn points [B, 1, M, 3] about z by the angles [B, S]: [B, S, M, 3]."""
    c, s = cos.unsqueeze(-1), sin.unsqueeze(-1)
    x, y, z = points.unbind(dim=-1)
    return torch.stack([c * x - s * y, s * x + c * y, z.expand_as(c * x)], dim=-1)


class MemoryState:
    """The pooled tokens of the last moments of one drive, at any tick rate: `remembering.MemoryState` in tensors."""

    def __init__(self, config: MemoryConfig):
        self._ticks: remembering.MemoryState[PooledTokens] = remembering.MemoryState(
            config.ages_s, config.tolerance_s, config.reset_gap_s
        )

    def __len__(self) -> int:
        return len(self._ticks)

    def reset(self) -> None:
        """Forget everything."""
        self._ticks.reset()

    def observe_clock(self, stamp_s: float) -> bool:
        """Forget everything and return True when time has jumped: back, or far ahead, of the newest tick."""
        return self._ticks.observe_clock(stamp_s)

    def write(self, tokens: PooledTokens, ego: EgoState, stamp_s: float) -> None:
        """Keep one tick (B = 1); drop those too old to be read again."""
        self._ticks.write(tokens, ego, stamp_s)

    def read(self, ego: EgoState, stamp_s: float, current: PooledTokens) -> Remembered:
        """Return, for each age of the config, the kept tick nearest to it, as seen from `ego` now.

        An age without a tick within the tolerance is marked not valid; `current`, this tick's own tokens
        (B = 1), then stands in, so that shapes never change.
        """
        recalled = self._ticks.read(ego, stamp_s)
        device = current.features.device
        return Remembered(
            features=torch.stack([(current if item is None else item).features for item in recalled.items], dim=1),
            rays=current.rays,
            origins=current.origins,
            motion=torch.from_numpy(recalled.motion).to(device).unsqueeze(0),
            age_s=torch.from_numpy(recalled.age_s).to(device).unsqueeze(0),
            valid=torch.from_numpy(recalled.valid).to(device).unsqueeze(0),
        )


def clip_memory(
    tokens: PooledTokens, pose: Tensor, stamp_s: Tensor, ticks: int, config: MemoryConfig, drop: float = 0.0
) -> Remembered:
    """Return what every tick of K clips of `ticks` remembers of the earlier ticks of its own clip.

    tokens: of B = K * ticks rows; pose [B, 3], stamp_s [B]; drop: chance to lose a remembered tick, so that
    the model also learns to drive with a young or broken memory.
    """
    rows = tokens.features.shape[0]
    stamps = stamp_s.reshape(-1, ticks)
    ages = (stamps.unsqueeze(2) - stamps.unsqueeze(1)).to(torch.float32)  # [K, now, then]
    earlier = torch.ones(ticks, ticks, dtype=torch.bool, device=ages.device).tril(-1)
    wanted = torch.tensor(list(config.ages_s), device=ages.device)
    miss = (ages.unsqueeze(-1) - wanted).abs().masked_fill(~earlier[None, :, :, None], torch.inf)
    nearest = miss.min(dim=2)  # over `then`: [K, now, S]
    valid = nearest.values <= config.tolerance_s
    if drop > 0:
        valid = valid & (torch.rand(valid.shape, device=valid.device) >= drop)
    first = torch.arange(0, rows, ticks, device=ages.device)[:, None, None]
    then = (first + nearest.indices).reshape(rows, -1)  # [B, S]
    delta = pose[then] - pose.unsqueeze(1)
    cos, sin = torch.cos(pose[:, 2:3]), torch.sin(pose[:, 2:3])
    yaw = torch.remainder(delta[..., 2] + torch.pi, 2 * torch.pi) - torch.pi
    dx, dy = delta[..., 0], delta[..., 1]
    motion = torch.stack([cos * dx + sin * dy, cos * dy - sin * dx, yaw], dim=-1)
    return Remembered(
        features=tokens.features[then],
        rays=tokens.rays,
        origins=tokens.origins,
        motion=motion.to(torch.float32),
        age_s=(stamp_s.unsqueeze(1) - stamp_s[then]).to(torch.float32),
        valid=valid.reshape(rows, -1),
    )
