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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.panorama import Spread


class ViewReader(nn.Module):
    """Visual tokens to view tokens [B, V, D] that have read the panorama place by place."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        width, view = config.language_config.hidden_size, config.view_config
        self.count, self.coverage = view.num_tokens, view.coverage
        self.spread = Spread(view)
        self.squeeze = nn.Linear(width, view.channels)
        self.read = nn.Linear(self.spread.rows * self.spread.columns * view.channels, view.hidden_size)
        self.out = nn.Linear(view.hidden_size, width * view.num_tokens)
        if view.coverage:
            self.seen = nn.Linear(self.spread.rows * self.spread.columns, view.hidden_size, bias=False)
        #: Share of tokens withheld in training, at most: against learning scenes by heart, and for a pruner to come.
        self.dropout = 1 / 3
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
        read = F.gelu(self.before_activation(features, spread, valid, whole))
        return read, self.out(read).unflatten(-1, (self.count, -1))

    def before_activation(self, features: Tensor, spread: Tensor, valid: Tensor, whole: Tensor | None = None) -> Tensor:
        """Return what the panorama gives [B, H], linear in the tokens; takes what `forward` does."""
        if self.training and self.dropout > 0:
            share = torch.rand(len(valid), 1, device=valid.device) * self.dropout
            valid = valid & (torch.rand(valid.shape, device=valid.device) >= share)
        squeezed = self.squeeze(features)
        falls = spread * valid.unsqueeze(-1)
        panorama = falls.mT.to(squeezed.dtype) @ squeezed
        if whole is not None:
            panorama = panorama + (whole - falls.sum(dim=1)).unsqueeze(-1).to(squeezed.dtype) * self.usual
        given: Tensor = self.read(panorama.flatten(1))
        return given + self.seen(falls.sum(dim=1).to(given.dtype)) if self.coverage else given
