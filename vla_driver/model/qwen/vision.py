# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The vision encoders of Qwen2.5-VL and Qwen3-VL, block by block.

The modules are those of transformers; the loop over them is ours, for three reasons: a pruner may ask for the
attention of the last full-attention block, early pruning drops patches between two blocks, and windows are attended
to in one batched call (the stock loop makes one call a window, hundreds a block).  Without pruning the result is
that of `get_image_features` (a test says so).

Patches come in merge units (2x2 patches that become one token).  A unit's number is its place in raster order over
all images; Qwen2.5-VL works in another order, window by window, so `Order` says which unit stands where.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_driver.types import InvalidInput

#: Queries whose attention is materialised at once when its column sums are wanted: 256 x 12,996 patches x 16
#: heads in float32 take 213 MB; all rows at once would take 10 GB.
ATTENTION_CHUNK = 256
#: Up to this many segments of unequal length are attended to one by one; more are padded into one batch.
_FEW_SEGMENTS = 8


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


@dataclass(frozen=True)
class Encoded:
    """What the language model is given.

    features [K, D]: visual tokens in raster order; deepstack: for each of its layers [K, D] (Qwen3-VL; else empty);
    kept [K] int64: which of the N units they are, ascending, on the CPU (all of them without early pruning);
    attention [N]: attention received in the last full-attention block, where asked for.
    """

    features: Tensor
    deepstack: tuple[Tensor, ...]
    kept: Tensor
    grids: Grids
    attention: Tensor | None = None


#: Chooses, from the hidden states [U, side^2, d] of the units in raster order and a function that computes the
#: attention [U] each of them receives in the next block, the raster numbers [K] of those that stay.
Chooser = Callable[[Tensor, Callable[[], Tensor]], Tensor]


@dataclass(frozen=True)
class EarlyExit:
    """Early pruning as the encoder sees it: before block `block` only the units that `choose` names stay."""

    block: int
    choose: Chooser


class VisionTower:
    """The loop over the blocks of a Qwen2.5-VL or Qwen3-VL vision encoder."""

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        self.side = int(visual.spatial_merge_size)
        self.depth = len(visual.blocks)
        full = getattr(visual, 'fullatt_block_indexes', None)
        #: Blocks in which a patch attends to its whole image; in the others, to its window.
        self.full_blocks = frozenset(range(self.depth) if full is None else full)
        self.last_full_block = max(self.full_blocks)

    def order(self, grids: Grids) -> Order:
        """Return the order in which the encoder works on whole images."""
        image = tuple(r * c for r, c in zip(grids.rows, grids.columns, strict=True))
        if len(self.full_blocks) == self.depth:
            return Order(torch.arange(grids.units), image, image)
        from transformers.vision_utils import get_vision_window_index

        index, bounds = get_vision_window_index(
            grids.thw, self.side, window_size=self.visual.window_size, patch_size=self.visual.patch_size
        )
        return Order(index, tuple((bounds.diff() // self.side**2).tolist()), image)

    def embed(self, pixels: Tensor, grids: Grids, order: Order) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return hidden states [U * side^2, d] and their rotary (cos, sin), in `order`, for pixels [P, patch]."""
        from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

        visual = self.visual
        hidden = visual.patch_embed(pixels.to(visual.dtype))
        if hasattr(visual, 'pos_embed'):  # Qwen3-VL: a learned grid, resampled to each image's
            index, weight = get_vision_interpolation_indices_and_weights(
                grids.thw,
                visual.num_grid_per_side,
                mode=visual.interpolation_mode,
                align_corners=visual.interpolation_align_corners,
                spatial_merge_size=self.side,
            )
            table = visual.pos_embed(index.to(hidden.device))
            hidden = hidden + (table * weight.to(hidden.device)[:, :, None]).sum(1).to(hidden.dtype)
        positions = get_vision_position_ids(grids.thw, self.side).to(hidden.device)
        cos, sin = visual.rotary_pos_emb(hidden, positions)
        return self._units(hidden, order.unit), (self._units(cos, order.unit), self._units(sin, order.unit))

    def _units(self, x: Tensor, places: Tensor) -> Tensor:
        """Return the patches of the units at places [K] of x [U * side^2, ...], in that order."""
        return x.unflatten(0, (-1, self.side**2))[places.to(x.device)].flatten(0, 1)

    def block(self, number: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], order: Order) -> Tensor:
        """Return the hidden states after block `number`."""
        block = self.visual.blocks[number]
        attention = block.attn
        query, key, value = self._project(attention, block.norm1(hidden), rotary)
        seen = attend(query, key, value, self._lengths(number, order), attention.scaling)
        hidden = hidden + attention.proj(seen.flatten(1))
        return hidden + block.mlp(block.norm2(hidden))

    def _lengths(self, number: int, order: Order) -> list[int]:
        segments = order.image if number in self.full_blocks else order.window
        return [count * self.side**2 for count in segments]

    @staticmethod
    def _project(attention: Any, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries and keys, and values, each [P, H, d]."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

        query, key, value = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, *rotary)
        return query, key, value

    def received(self, number: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], order: Order) -> Tensor:
        """Return the attention [U] that each unit receives in block `number`, whose input is `hidden`, in `order`.

        Softmax weights summed over the queries, mean over heads and over the unit's patches.  The rows are
        materialised in chunks only (see ATTENTION_CHUNK).
        """
        block = self.visual.blocks[number]
        query, key, _ = self._project(block.attn, block.norm1(hidden), rotary)
        sums = [
            _column_sums(q, k, block.attn.scaling)
            for q, k in zip(*(x.split(self._lengths(number, order)) for x in (query, key)), strict=True)
        ]
        return torch.cat(sums).unflatten(0, (-1, self.side**2)).mean(dim=1)

    def encode(
        self, pixels: Tensor, grids: Grids, *, attention: bool = False, early: EarlyExit | None = None
    ) -> Encoded:
        """Return the visual tokens of images given as patches [P, patch], as the image processor makes them.

        attention: whether `Encoded.attention` is wanted (it costs one more pass over the scores of one block).
        early: drop units before a block.  Raises `InvalidInput` for a block there is not, and for both together.
        """
        if early is not None and not 1 <= early.block < self.depth:
            raise InvalidInput(
                f'early pruning before vision block {early.block}; allowed: 1 to {self.depth - 1} of this encoder'
            )
        if early is not None and attention:
            raise InvalidInput('early pruning and a pruner that needs the attention of all tokens: choose one of them')
        order = whole = self.order(grids)
        hidden, rotary = self.embed(pixels, grids, order)
        received, stacked = None, []
        for number in range(self.depth):
            if early is not None and number == early.block:
                hidden, rotary, order = self._exit(number, hidden, rotary, order, early.choose)
            if attention and number == self.last_full_block:
                received = self.received(number, hidden, rotary, order)[whole.unit.argsort().to(hidden.device)]
            hidden = self.block(number, hidden, rotary, order)
            if number in getattr(self.visual, 'deepstack_visual_indexes', ()):
                level = self.visual.deepstack_visual_indexes.index(number)
                stacked.append((order, self.visual.deepstack_merger_list[level](hidden)))
        kept = order.unit.sort().values
        features = _raster(self.visual.merger(hidden), order, kept)
        # A level that was read before the exit still has all units.
        deepstack = tuple(_raster(x, then, kept) for then, x in stacked)
        return Encoded(features, deepstack, kept, grids, received)

    def _exit(
        self, number: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], order: Order, choose: Chooser
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Order]:
        """Return what goes on after the units that `choose` leaves out are gone."""
        raster = order.unit.argsort().to(hidden.device)
        chosen = choose(
            hidden.unflatten(0, (-1, self.side**2))[raster],
            lambda: self.received(number, hidden, rotary, order)[raster],
        )
        left, places = order.keep(chosen)
        cos, sin = rotary
        return self._units(hidden, places), (self._units(cos, places), self._units(sin, places)), left


def _raster(x: Tensor, order: Order, kept: Tensor) -> Tensor:
    """Return the rows of x, one a unit in `order`, of the units kept [K] (ascending raster numbers)."""
    place = torch.full((int(order.unit.max()) + 1,), -1)
    place[order.unit] = torch.arange(len(order.unit))
    return x[place[kept].to(x.device)]


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float) -> Tensor:
    """Return the attention output [P, H, d] of queries, keys, values [P, H, d] within consecutive segments."""

    def batch(x: Tensor) -> Tensor:
        return x.transpose(-3, -2)

    if len(set(lengths)) == 1:
        parts = [x.unflatten(0, (len(lengths), -1)) for x in (query, key, value)]
        out = _attention([batch(x) for x in parts], scale)
        return batch(out).flatten(0, 1)
    if len(lengths) <= _FEW_SEGMENTS:
        outs = [
            _attention([batch(x).unsqueeze(0) for x in part], scale)
            for part in zip(*(x.split(lengths) for x in (query, key, value)), strict=True)
        ]
        return torch.cat([batch(out[0]) for out in outs])
    count = torch.tensor(lengths)
    begin = count.cumsum(0) - count
    step = torch.arange(max(lengths))
    inside = step < count[:, None]
    # A place beyond a segment's end points at its first patch; nobody looks at it and nobody reads its answer.
    index = (begin[:, None] + step * inside).to(query.device)
    mask = inside[:, None, None, :].to(query.device)
    out = _attention([batch(x[index]) for x in (query, key, value)], scale, mask)
    flat = inside.flatten().nonzero()[:, 0].to(query.device)
    return batch(out).flatten(0, 1)[flat]


def _attention(parts: list[Tensor], scale: float, mask: Tensor | None = None) -> Tensor:
    query, key, value = parts
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


def _column_sums(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Return the attention [P] that each key receives from queries [P, H, d]: sum over queries, mean over heads."""
    keys = key.float().permute(1, 2, 0)
    total = torch.zeros(len(key), dtype=torch.float32, device=key.device)
    for part in query.float().split(ATTENTION_CHUNK):
        weights = (part.transpose(0, 1) @ keys * scale).softmax(dim=-1)
        total = total + weights.sum(dim=1).mean(dim=0)
    return total
