# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What ReconPruner is trained by: foreground and background, rebuilt from kept and from dropped tokens.

FastDriveVLA (arXiv 2507.23318, eq. 5 to 8): a shared decoder of bidirectional layers and a linear head rebuilds
the masked picture from tokens of which some are zero,

    L_x = 0.2 (1 - SSIM) + 0.8 MSE, x in {fore, back};   L = 0.5 L_fore + 0.5 L_back

Choices where the paper says nothing: pictures are in 0 to 1, what the mask removes is black; the decoder is told
where each token lies, zero or not (rays or M-RoPE); a missing camera does not count; a picture counts by its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.data.foreground.masks import Frame, shares
from vla_driver.model.pruning.trained.recon import straight_through
from vla_driver.model.pruning.trained.recon_layers import LayerSpec, build_stack
from vla_driver.model.tokens import VisualTokens
from vla_driver.observation.resize import resize
from vla_driver.train.pruning.ssim import ssim
from vla_driver.train.pruning.token_encoder import TokenGroups
from vla_driver.types import InvalidInput

#: 'both': the paper's loss.  'pixels-only': foreground pixels alone, no background branch.  'adversarial-only':
#: both branches, but they predict the mask instead of pixels (binary cross-entropy).  Its table 2.
OBJECTIVES = ('both', 'pixels-only', 'adversarial-only')
SSIM_WEIGHT = 0.2
#: A token shows a thing where more of its area than this belongs to one.
OBJECT_SHARE = 0.02


@dataclass(frozen=True)
class Targets:
    """What is to be rebuilt, per group of cameras with equal grids.

    pictures: uint8 [B, G, 3, h, w]; areas: [B, G, 2, h, w], the shares of foreground and of foreground other than
    road in each pixel; present: bool [B, G].
    """

    pictures: tuple[Tensor, ...]
    areas: tuple[Tensor, ...]
    present: tuple[Tensor, ...]


def make_targets(frames: Sequence[Frame], groups: TokenGroups, cell: int) -> Targets:
    """Return the targets of a batch with `cell` x `cell` pixels for each token."""
    pictures, areas, present = [], [], []
    for (rows, columns), names in groups:
        height, width = rows * cell, columns * cell
        picture = np.zeros((len(frames), len(names), height, width, 3), dtype=np.uint8)
        area = np.zeros((len(frames), len(names), 2, height, width), dtype=np.float32)
        there = np.zeros((len(frames), len(names)), dtype=bool)
        for row, frame in enumerate(frames):
            for slot, name in enumerate(names):
                view = frame.views.get(name)
                if view is not None:
                    picture[row, slot] = resize(view.image, width, height)
                    area[row, slot] = shares(view.mask, width, height)
                    there[row, slot] = True
        pictures.append(torch.from_numpy(picture).permute(0, 1, 4, 2, 3).contiguous())
        areas.append(torch.from_numpy(area))
        present.append(torch.from_numpy(there))
    return Targets(tuple(pictures), tuple(areas), tuple(present))


def token_shares(targets: Targets, cell: int) -> Tensor:
    """Return [B, N, 2]: the share of each token's area that is foreground, and foreground other than road."""
    parts = []
    for area in targets.areas:
        pooled = F.avg_pool2d(area.flatten(0, 1), cell)
        parts.append(pooled.unflatten(0, area.shape[:2]).permute(0, 1, 3, 4, 2).flatten(1, 3))
    return torch.cat(parts, dim=1)


class ReconDecoder(nn.Module):
    """Tokens, some of them zero, to `channels` x cell x cell values each: bidirectional layers and a linear head."""

    def __init__(self, spec: LayerSpec, groups: TokenGroups, *, layers: int, cell: int, channels: int):
        super().__init__()
        self.groups, self.cell, self.channels = groups, cell, channels
        self.stack = build_stack(spec, layers)
        self.norm = nn.LayerNorm(spec.width)
        self.head = nn.Linear(spec.width, channels * cell * cell)
        nn.init.trunc_normal_(self.head.weight, std=0.5 * spec.width**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: VisualTokens, mask: Tensor) -> tuple[Tensor, ...]:
        """Rebuild from tokens times mask [B, N]: per group [B, G, channels, rows * cell, columns * cell], float32."""
        sizes = [rows * columns * len(names) for (rows, columns), names in self.groups]
        if sum(sizes) != tokens.features.shape[1]:
            raise InvalidInput(f'{tokens.features.shape[1]} tokens, but the decoder rebuilds {sum(sizes)}')
        x = self.stack(tokens.features * mask.unsqueeze(-1).to(tokens.features.dtype), tokens)
        out = self.head(self.norm(x)).float()
        pictures = []
        for part, ((rows, columns), names) in zip(out.split(sizes, dim=1), self.groups, strict=True):
            grid = part.reshape(len(part), len(names), rows, columns, self.channels, self.cell, self.cell)
            picture = grid.permute(0, 1, 4, 2, 5, 3, 6)
            pictures.append(
                picture.reshape(len(part), len(names), self.channels, rows * self.cell, columns * self.cell)
            )
        return tuple(pictures)


def picture_loss(predicted: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return 0.2 (1 - SSIM) + 0.8 MSE (eq. 7) of each picture: [I] of [I, channels, height, width].

    weight [I, 1, height, width]: of each pixel's squared error; None: 1.
    """
    squared = F.mse_loss(predicted, target, reduction='none')
    error = (squared if weight is None else squared * weight).flatten(1).mean(dim=1)
    return SSIM_WEIGHT * (1.0 - ssim(predicted, target)) + (1.0 - SSIM_WEIGHT) * error


def branch_loss(
    predicted: tuple[Tensor, ...], targets: Targets, *, foreground: bool, pixels: bool, object_weight: float = 1.0
) -> Tensor:
    """Return L_fore or L_back: the mean over all pixels of the pictures there are.

    pixels: against the masked picture; else against the mask itself, by binary cross-entropy.  object_weight: of the
    squared errors of foreground other than road; 1 in the paper.
    """
    total, weight = predicted[0].new_zeros(()), predicted[0].new_zeros(())
    for values, picture, areas, present in zip(
        predicted, targets.pictures, targets.areas, targets.present, strict=True
    ):
        area = areas[:, :, :1] if foreground else 1.0 - areas[:, :, :1]
        guess, area = values.flatten(0, 1), area.flatten(0, 1)
        if pixels:
            errors = 1.0 + (object_weight - 1.0) * areas[:, :, 1:2].flatten(0, 1) if foreground else None
            loss = picture_loss(guess, picture.flatten(0, 1).float() / 255.0 * area, errors)
        else:
            loss = F.binary_cross_entropy_with_logits(guess, area, reduction='none').flatten(1).mean(dim=1)
        share = present.flatten().float() * area.shape[-2] * area.shape[-1]
        total, weight = total + (loss * share).sum(), weight + share.sum()
    return total / weight.clamp(min=1.0)


def reconstruction_losses(
    scores: Tensor,
    tokens: VisualTokens,
    decoder: ReconDecoder,
    targets: Targets,
    *,
    objective: str = 'both',
    alpha: float = 0.5,
    score_limit: float = math.inf,
    object_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Return 'loss' and its terms 'fore' and, but for 'pixels-only', 'back', of scores [B, N] (eq. 3 to 8).

    score_limit: as in `straight_through`; object_weight: as in `branch_loss`.
    """
    mask, pixels = straight_through(scores, score_limit), objective != 'adversarial-only'
    fore = branch_loss(decoder(tokens, mask), targets, foreground=True, pixels=pixels, object_weight=object_weight)
    if objective == 'pixels-only':
        return {'loss': fore, 'fore': fore}
    back = branch_loss(decoder(tokens, 1.0 - mask), targets, foreground=False, pixels=pixels)
    return {'loss': alpha * fore + (1.0 - alpha) * back, 'fore': fore, 'back': back}


def guidance(scores: Tensor, share: Tensor, valid: Tensor, road: float = 1.0) -> Tensor:
    """Return the binary cross-entropy of scores [B, N], taken as logits, to how much of a token is foreground.

    share [B, N, 2], as of `token_shares`; valid [B, N].  A token that shows anything but road counts as foreground as
    a whole, however small the thing is; road by its share times `road`, so that below 1 things come first.
    """
    wanted = torch.where(share[..., 1] > OBJECT_SHARE, 1.0, road * share[..., 0])
    return F.binary_cross_entropy_with_logits(scores[valid], wanted[valid])


def recall(kept: Tensor, share: Tensor) -> Tensor:
    """Return, per row, the share [B] of the foreground share [B, N] that lies in tokens kept [B, K]; nan where none."""
    return share.gather(1, kept).sum(dim=1) / share.sum(dim=1)


def recalls(kept: Tensor, share: Tensor) -> dict[str, Tensor]:
    """Return `recall` [B] of all foreground and of objects, which leave out road; kept [B, K], share [B, N, 2]."""
    return {f'{kind}_recall': recall(kept, share[..., column]) for column, kind in enumerate(('foreground', 'object'))}
