# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Qwen2.5-VL of full size with random weights, and pictures of a given number of tokens: what costs are measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from vla_driver.model.qwen.grids import Grids
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class QwenShape:
    """The numbers in which Qwen2.5-VL's sizes differ; the vision encoder is the same but for its last layer."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    tied: bool
    vision_blocks: int = 32


SHAPES: Final[Mapping[str, QwenShape]] = {
    'qwen2.5-vl-3b': QwenShape(2048, 36, 16, 2, 11008, 151936, True),
    'qwen2.5-vl-7b': QwenShape(3584, 28, 28, 4, 18944, 152064, False),
}


def square_or_six(tokens: int) -> Grids:
    """Return pictures of `tokens` merge units: one square picture (3249 = 57 x 57, as in FastDriveVLA) or six alike.

    Raises `InvalidInput` for a number that is neither.
    """
    side = math.isqrt(tokens)
    if tokens >= 1 and side * side == tokens:
        return Grids((side,), (side,), 2)
    each, rest = divmod(tokens, 6)
    # The shape nearest to 16:9 that has so many units.
    shapes = [(r, each // r) for r in range(2, each // 2 + 1) if each % r == 0]
    if rest or not shapes:
        raise InvalidInput(
            f'{tokens} tokens are neither one square picture nor six equal ones; try {side * side} or '
            f'{6 * (tokens // 12) * 2 or 24}'
        )
    rows, columns = min(shapes, key=lambda shape: abs(math.log(shape[1] / shape[0] / (16 / 9))))
    return Grids((rows,) * 6, (columns,) * 6, 2)


def make_qwen(arch: str, device: torch.device, scale: int = 1) -> Any:
    """Return Qwen2.5-VL of full size with random weights, or with all widths divided by `scale` (heads, not depth)."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    shape = SHAPES[arch]
    heads, shared = shape.heads // scale, max(1, shape.key_value_heads // scale)
    if scale < 1 or shape.heads % scale or heads % shared or 16 % scale:
        allowed = [
            s
            for s in range(1, 17)
            if not (shape.heads % s or 16 % s or (shape.heads // s) % max(1, shape.key_value_heads // s))
        ]
        raise InvalidInput(f'scale {scale} of {arch}; allowed: {", ".join(map(str, allowed))}')
    width = shape.hidden // scale
    config = Qwen2_5_VLConfig(
        text_config={
            'hidden_size': width,
            'intermediate_size': shape.intermediate // scale,
            'num_hidden_layers': shape.layers,
            'num_attention_heads': heads,
            'num_key_value_heads': shared,
            'vocab_size': shape.vocabulary,
            'max_position_embeddings': 128000,
            'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e6, 'mrope_section': [16, 24, 24]},
        },
        vision_config={
            'depth': shape.vision_blocks,
            'fullatt_block_indexes': list(range(7, shape.vision_blocks, 8)),
            'hidden_size': 1280 // scale,
            'num_heads': 16 // scale,
            'intermediate_size': 3420 // scale,
            'out_hidden_size': width,
        },
        tie_word_embeddings=shape.tied,
    )
    config._attn_implementation = 'sdpa'
    dtype = torch.bfloat16 if device.type == 'cuda' else torch.float32
    # Random weights are drawn by torch, without the initialisation of transformers, which would take minutes.
    with torch.device('meta'):
        model = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(False)
    if device.type == 'meta':
        return model
    model = model.to(dtype).to_empty(device=device)
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.02) if parameter.ndim > 1 else parameter.fill_(1.0)
    _restore_frequencies(model, device)
    return model


def _restore_frequencies(model: Any, device: torch.device) -> None:
    """Fill the rotary buffers, which no checkpoint holds and `to_empty` has left without values."""
    for module, rule in (
        (model.model.visual.rotary_pos_emb, 'compute_axial_rope_parameters'),
        (model.model.language_model.rotary_emb, 'compute_default_rope_parameters'),
    ):
        values, module.attention_scaling = getattr(module, rule)(module.config)
        module.inv_freq = values.to(device)
        module.original_inv_freq = values.clone().to(device)
