# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The vision encoders of Qwen2.5-VL and Qwen3-VL, block by block.

The modules are those of transformers; the loop over them is ours, for three reasons: a pruner may ask for the
attention of the last full-attention block, early pruning drops patches between two blocks, and windows are attended
to in one batched call (the stock loop makes one call a window, hundreds a block).  Without pruning the result is
that of `get_image_features` (a test says so).

Merge units and their order are explained in grids.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_driver.model.pruning.stage import KEEP_ALL, TokenStage, Units
from vla_driver.model.qwen.grids import Grids, Order, unit_tokens
from vla_driver.model.tokens import VisualTokens

#: Queries whose attention is materialised at once when its column sums are wanted: 256 x 12,996 patches x 16
#: heads in float32 take 213 MB; all rows at once would take 10 GB.
ATTENTION_CHUNK = 256
#: Up to this many segments of unequal length are attended to one by one; more are padded into one batch.
_FEW_SEGMENTS = 8


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
        #: Blocks whose output is added to the language model's first layers, in order (Qwen3-VL; else none).
        self._deepstack = tuple(getattr(visual, 'deepstack_visual_indexes', ()))

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
        return self._patches(hidden, order.unit), (self._patches(cos, order.unit), self._patches(sin, order.unit))

    def _patches(self, x: Tensor, places: Tensor) -> Tensor:
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
        self,
        pixels: Tensor,
        grids: Grids,
        stage: TokenStage = KEEP_ALL,
        names: tuple[str, ...] = (),
        missing: tuple[str, ...] = (),
    ) -> Encoded:
        """Return the visual tokens of images given as patches [P, patch], as the image processor makes them.

        stage: may let units leave in front of a block, and may want `Encoded.attention` (which costs one more pass over
        the scores of one block).  names, missing: of the cameras, as in `unit_tokens`.  Raises `InvalidInput` where the
        stage waits for a block that is not there.
        """
        stage.check_depth(self.depth)
        order = whole = self.order(grids)
        hidden, rotary = self.embed(pixels, grids, order)
        tokens = partial(unit_tokens, grids=grids, names=names, missing=missing)
        received, stacked = None, []
        for number in range(self.depth):
            kept = stage.before_block(number, partial(self._units_before, number, hidden, rotary, order, tokens))
            if kept is not None:
                hidden, rotary, order = self._leave(kept.index[0], hidden, rotary, order)
            if stage.needs_attention and number == self.last_full_block:
                received = self.received(number, hidden, rotary, order)[whole.unit.argsort().to(hidden.device)]
            hidden = self.block(number, hidden, rotary, order)
            if number in self._deepstack:
                stacked.append((order, self.visual.deepstack_merger_list[self._deepstack.index(number)](hidden)))
        kept_units = order.unit.sort().values
        features = _raster(self.visual.merger(hidden), order, kept_units)
        # A level that was read before units left still has all of them.
        deepstack = tuple(_raster(x, then, kept_units) for then, x in stacked)
        return Encoded(features, deepstack, kept_units, grids, received)

    def _units_before(
        self,
        number: int,
        hidden: Tensor,
        rotary: tuple[Tensor, Tensor],
        order: Order,
        tokens: Callable[[Tensor], VisualTokens],
    ) -> Units:
        """Return the units in front of block `number`, in raster order."""
        raster = order.unit.argsort().to(hidden.device)
        states = hidden.unflatten(0, (-1, self.side**2))[raster]

        def received() -> Tensor:
            return self.received(number, hidden, rotary, order)[raster].unsqueeze(0)

        return Units(states.unsqueeze(0), tokens(states), received)

    def _leave(
        self, chosen: Tensor, hidden: Tensor, rotary: tuple[Tensor, Tensor], order: Order
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Order]:
        """Return what goes on when only the units whose raster numbers chosen [K] names stay."""
        left, places = order.keep(chosen)
        cos, sin = rotary
        return self._patches(hidden, places), (self._patches(cos, places), self._patches(sin, places)), left


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
