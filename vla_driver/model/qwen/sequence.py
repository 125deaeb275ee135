# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the language model reads: words and visual tokens with their 3-D positions (M-RoPE), whole or pruned.

An image token's position is (start, start + row, start + column); text goes on after the largest of them
(Qwen2-VL, arXiv 2409.12191, section 2.1).  A pruned sequence keeps the positions of the whole one, and what is
generated goes on after the whole one's largest position: `next_position` never depends on what was pruned.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vla_driver.model.pruning.in_model import Layout, PrefillRun
from vla_driver.model.pruning.stage import TokenStage
from vla_driver.model.qwen.grids import Grids
from vla_driver.model.qwen.vision import Encoded
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Sequence:
    """L tokens, N of them visual.  Batch 1.

    embeddings [1, L, D]; positions [3, 1, L] int64 (time, row, column); next_position: of the first generated token;
    visual [N] int64: where the visual tokens stand, ascending; deepstack: for each of its layers [N, D], added to the
    visual tokens after it (Qwen3-VL; else empty); tokens: the same N as a pruner sees them.
    """

    embeddings: Tensor
    positions: Tensor
    next_position: int
    visual: Tensor
    deepstack: tuple[Tensor, ...]
    tokens: VisualTokens

    @property
    def text(self) -> Tensor:
        """[T] int64: where the other tokens stand, ascending."""
        is_text = torch.ones(self.embeddings.shape[1], dtype=torch.bool)
        is_text[self.visual.cpu()] = False
        return is_text.nonzero()[:, 0].to(self.visual.device)

    def select(self, kept: Tensor, features: Tensor | None = None) -> Sequence:
        """Return the sequence without the visual tokens that kept [K] int64, ascending, does not name.

        features [K, D]: what the kept ones hold now, where a pruner has merged others into them.
        """
        if len(kept) > 1 and not bool((kept.diff() > 0).all()):
            raise InvalidInput('kept visual tokens: the indices do not ascend; pruning must not change their order')
        device = self.visual.device
        where = torch.cat([self.text, self.visual[kept.to(device)]]).sort().values
        visual = torch.searchsorted(where, self.visual[kept.to(device)])
        if self.embeddings.is_meta:
            embeddings = self.embeddings[:, : len(where)]
        else:
            embeddings = self.embeddings[:, where.to(self.embeddings.device)]
            if features is not None:
                embeddings[0, visual.to(embeddings.device)] = features.to(embeddings)
        return dataclasses.replace(
            self,
            embeddings=embeddings,
            positions=self.positions[:, :, where],
            visual=visual,
            deepstack=tuple(level[kept.to(level.device)] for level in self.deepstack),
            tokens=self.tokens.select(kept.to(self.tokens.camera.device)),
        )


def whole_positions(model: Any, ids: Tensor, grids: Grids) -> Tensor:
    """Return the M-RoPE positions [3, 1, L] of ids [1, L] with all their image tokens; on the CPU.

    Raises `InvalidInput` where ids hold another number of image tokens than the grids.
    """
    ids = ids.cpu()
    is_image = ids == model.config.image_token_id
    if int(is_image.sum()) != grids.units:
        raise InvalidInput(f'prompt: {int(is_image.sum())} image tokens for pictures of {grids.units}')
    positions, _ = model.model.get_rope_index(ids, mm_token_type_ids=is_image.to(torch.int32), image_grid_thw=grids.thw)
    whole: Tensor = positions
    return whole


def build(model: Any, ids: Tensor, encoded: Encoded, names: tuple[str, ...], missing: tuple[str, ...] = ()) -> Sequence:
    """Return the sequence of ids [1, L] (image tokens repeated, one for each merge unit) and encoded images.

    names: the cameras in the prompt's order; missing: those among them without a picture.  Image tokens that early
    pruning has dropped are left out.
    """
    positions = whole_positions(model, ids, encoded.grids)
    image_ids = (ids[0].cpu() == model.config.image_token_id).nonzero()[:, 0]
    is_text = torch.ones(ids.shape[1], dtype=torch.bool)
    is_text[image_ids] = False
    visual = image_ids[encoded.kept]
    where = torch.cat([is_text.nonzero()[:, 0], visual]).sort().values
    device = encoded.features.device
    embed = model.get_input_embeddings()
    embeddings = embed(ids[:, where.to(ids.device)].to(device))
    slots = torch.searchsorted(where, visual)
    features = encoded.features.to(embeddings.dtype)
    if not embeddings.is_meta:
        embeddings = embeddings.clone()
        embeddings[0, slots.to(device)] = features
    camera, row, column = (x[encoded.kept] for x in encoded.grids.places())
    # The computing device, except on "meta", where positions must stay real numbers.
    home = torch.device('cpu') if embeddings.is_meta else device
    absent = torch.tensor([name in missing for name in names])
    tokens = VisualTokens(
        features=features.unsqueeze(0),
        camera=camera.to(home),
        row=row.to(home),
        column=column.to(home),
        # Qwen knows no rays: its positions are in `positions`.
        rays=torch.zeros(1, len(visual), 3, device=home),
        origins=torch.zeros(1, len(visual), 3, device=home),
        valid=~absent[camera].to(home).unsqueeze(0),
        names=names,
        attention=None if encoded.attention is None else encoded.attention.unsqueeze(0),
    )
    return Sequence(
        embeddings=embeddings,
        positions=positions[:, :, where].to(home),
        next_position=int(positions.max()) + 1,
        visual=slots.to(home),
        deepstack=encoded.deepstack,
        tokens=tokens,
    )


def prune(sequence: Sequence, stage: TokenStage, depth: int) -> tuple[Sequence, PrefillRun]:
    """Return what the language model of `depth` layers reads of a sequence, and the run that may drop more of it."""
    kept = stage.behind_encoder(sequence.tokens, sequence.embeddings[:, sequence.text])
    if kept is not None:
        sequence = sequence.select(kept.index[0], None if kept.features is None else kept.features[0])
    return sequence, stage.within_prefill(sequence.tokens, partial(_layout, sequence), sequence.embeddings, depth)


def _layout(sequence: Sequence) -> Layout:
    """Return where a sequence holds what.

    Judges are the words after the last picture, as in SparseVLM's published code: under a causal mask those before it
    have not seen all pictures, and would favour the first cameras.
    """
    return Layout(
        visual=sequence.visual.unsqueeze(0),
        text=sequence.text[sequence.text > sequence.visual[-1]].unsqueeze(0),
        camera=sequence.tokens.camera,
        names=sequence.tokens.names,
        valid=sequence.tokens.valid,
        last=1,
    )
