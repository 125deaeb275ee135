# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which merge units the pictures of a Qwen-VL model have, and in which order its encoder works on them.

Patches come in merge units (2x2 patches that become one token).  A unit's number is its place in raster order over
all images; Qwen2.5-VL works in another order, window by window, so `Order` says which unit stands where.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Grids:
    """How many merge units each image has: rows[i], columns[i]; side: patches along a unit's edge (2)."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    side: int

    @property
    def units(self) -> int:
        """The number N of merge units, that is of visual tokens, of all images."""
        return sum(r * c for r, c in zip(self.rows, self.columns, strict=True))

    @property
    def thw(self) -> Tensor:
        """[I, 3] int64 frames, rows and columns of patches, as transformers has it; on the CPU."""
        return torch.tensor([[1, r * self.side, c * self.side] for r, c in zip(self.rows, self.columns, strict=True)])

    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, row and column [N] int64 of each unit in raster order; on the CPU."""
        parts = [
            torch.stack([torch.full((r * c,), image), torch.arange(r).repeat_interleave(c), torch.arange(c).repeat(r)])
            for image, (r, c) in enumerate(zip(self.rows, self.columns, strict=True))
        ]
        image, row, column = torch.cat(parts, dim=1)
        return image, row, column

    @classmethod
    def from_thw(cls, thw: Tensor, side: int) -> Grids:
        """Return the grids of image_grid_thw [I, 3]; raises `InvalidInput` for films."""
        if any(t != 1 for t, _, _ in thw.tolist()):
            raise InvalidInput(f'image grids {thw.tolist()}: more than one frame; only single pictures are supported')
        return cls(tuple(h // side for _, h, _ in thw.tolist()), tuple(w // side for _, _, w in thw.tolist()), side)


@dataclass(frozen=True)
class Order:
    """Which units stand where, and who attends to whom.

    unit [U] int64: the raster number of the unit at each place; window, image: how many units each consecutive
    window or image still has (none of them 0).  All on the CPU: segment lengths are needed there.
    """

    unit: Tensor
    window: tuple[int, ...]
    image: tuple[int, ...]

    def keep(self, chosen: Tensor) -> tuple[Order, Tensor]:
        """Return the order of the units whose raster numbers chosen [K] names, and their places [K] in this one."""
        stays = torch.isin(self.unit, chosen.cpu())
        return Order(self.unit[stays], _counts(self.window, stays), _counts(self.image, stays)), stays.nonzero()[:, 0]


def _counts(lengths: tuple[int, ...], stays: Tensor) -> tuple[int, ...]:
    counts = [int(part.sum()) for part in stays.split(list(lengths))]
    return tuple(count for count in counts if count)


def unit_tokens(
    states: Tensor, grids: Grids, names: tuple[str, ...] = (), missing: tuple[str, ...] = ()
) -> VisualTokens:
    """Return hidden states [U, patches, d] as the tokens of a `TokenBudget`: features [1, U, d] are patch means.

    names: of the cameras (default: the pictures' numbers); missing: those among them without a picture.
    """
    names = names or tuple(str(number) for number in range(len(grids.rows)))
    camera, row, column = (x.to(states.device) for x in grids.places())
    absent = torch.tensor([name in missing for name in names], device=states.device)
    nowhere = torch.zeros(1, grids.units, 3, device=states.device)
    return VisualTokens(
        states.mean(dim=1).unsqueeze(0), camera, row, column, nowhere, nowhere, ~absent[camera].unsqueeze(0), names
    )
