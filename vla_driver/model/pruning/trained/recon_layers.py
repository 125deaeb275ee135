# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Bidirectional decoder layers of a backbone's own kind, over its visual tokens.

FastDriveVLA (arXiv 2507.23318, 3.2) takes a decoder layer of the language model and replaces its causal
attention by full attention.  Which positions that layer sees is not published; here it is what the language
model itself would see of the tokens:

- native: no rotary positions, but an embedding of each token's viewing ray, added to the token;
- Qwen2.5-VL, Qwen3-VL: M-RoPE.  The query is at 0, then the pictures follow each other in the order of
  `camera_names` without text between; within a picture t is its start, h and w the start plus row and column
  (transformers' get_rope_index for images), so a token's place does not depend on the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from vla_driver.model.config import LanguageConfig, VlaConfig
from vla_driver.model.layers.decoder import LanguageLayer
from vla_driver.model.layers.feed_forward import SwiGlu
from vla_driver.model.layers.norms import RMSNorm
from vla_driver.model.layers.rays import RayEmbedding
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import CAMERA_NAMES, InvalidInput

NATIVE, QWEN2_5_VL, QWEN3_VL = VlaConfig.model_type, 'qwen2_5_vl', 'qwen3_vl'

#: Entries of a backbone's language configuration that give a layer its sizes.
_NATIVE_ENTRIES = ('hidden_size', 'num_attention_heads', 'num_key_value_heads', 'intermediate_size', 'rms_norm_eps')
_QWEN_ENTRIES = (*_NATIVE_ENTRIES, 'hidden_act', 'max_position_embeddings', 'rope_parameters')
_ENTRIES = {
    NATIVE: _NATIVE_ENTRIES,
    QWEN2_5_VL: _QWEN_ENTRIES,
    QWEN3_VL: (*_QWEN_ENTRIES, 'head_dim', 'attention_bias'),
}
BACKBONES = tuple(_ENTRIES)


@dataclass(frozen=True)
class LayerSpec:
    """What a layer of a backbone is made from; `layer` holds the entries named above, as JSON can.

    camera_names: the order of the cameras, which gives Qwen's pictures their places; ray_octaves: of the native
    ray embedding.
    """

    backbone: str
    layer: Mapping[str, Any]
    camera_names: tuple[str, ...] = CAMERA_NAMES
    ray_octaves: int = 4

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise InvalidInput(f'backbone {self.backbone!r}; layers are known for {", ".join(BACKBONES)}')
        missing = sorted(set(_ENTRIES[self.backbone]) - set(self.layer))
        if missing:
            raise InvalidInput(f'layer of {self.backbone}: entries {missing} are missing')

    @property
    def width(self) -> int:
        """The width D of the visual tokens."""
        return int(self.layer['hidden_size'])


def layer_spec(config: PretrainedConfig, camera_names: Sequence[str] = CAMERA_NAMES) -> LayerSpec:
    """Return the spec of a checkpoint's configuration: a VlaConfig, Qwen2_5_VLConfig or Qwen3VLConfig.

    Raises `InvalidInput` for another kind of model.
    """
    kind = config.model_type
    if kind not in BACKBONES:
        raise InvalidInput(f'a {kind!r} checkpoint; ReconPruner knows {", ".join(BACKBONES)}')
    language = config.language_config if kind == NATIVE else config.text_config
    layer = {entry: getattr(language, entry) for entry in _ENTRIES[kind]}
    if kind != NATIVE:
        return LayerSpec(kind, layer, tuple(camera_names))
    return LayerSpec(kind, layer, config.camera_names, config.vision_config.ray_octaves)


class NativeStack(nn.Module):
    """LanguageLayers over tokens with their ray embeddings."""

    def __init__(self, spec: LayerSpec, layers: int):
        super().__init__()
        config = LanguageConfig(**spec.layer)
        self.position = RayEmbedding(spec.width, spec.ray_octaves)
        self.layers = nn.ModuleList(LanguageLayer(config) for _ in range(layers))
        initialise(self)

    def forward(self, features: Tensor, tokens: VisualTokens, query: Tensor | None = None) -> Tensor:
        """Transform features [B, N, D] of `tokens`: [B, N, D], or with a query [D] before them [B, 1 + N, D]."""
        x = self._embed(features, tokens, query)
        for layer in self.layers:
            x = layer(x)[0]
        return x

    def match(self, features: Tensor, tokens: VisualTokens, query: Tensor, weight: Tensor) -> Tensor:
        """Return [B, N], float32: the sum over D of V* (.) Q* times weight [D], where [Q*, V*] is what `forward` gives.

        That is linear in V*, so the last product of the last layer, a fifth of its work, is needed for Q* alone:
        V* = x + W h and c = Q* (.) weight give c.x + (W^T c).h.
        """
        x = self._embed(features, tokens, query)
        *first, last = self.layers
        for layer in first:
            x = layer(x)[0]
        assert isinstance(last, LanguageLayer)
        x = last.attend(x)[0]
        mlp = last.mlp
        assert isinstance(mlp, SwiGlu)  # a pruner has no experts
        hidden = mlp.hidden(last.norm2(x))
        answer = x[:, :1] + mlp.down(hidden[:, :1])
        # The ranking of many close scores and the sign around 0 need more digits than bfloat16 has.
        with torch.autocast(x.device.type, enabled=False):
            asked = answer.float() * weight.float()
            folded = asked @ mlp.down.weight.float()
            return (x[:, 1:].float() @ asked.mT + hidden[:, 1:].float() @ folded.mT).squeeze(-1)

    def _embed(self, features: Tensor, tokens: VisualTokens, query: Tensor | None) -> Tensor:
        # As in the language model: a missing camera has no position.
        position = self.position(tokens.rays, tokens.origins).to(features.dtype)
        x = features + position * tokens.valid.unsqueeze(-1).to(features.dtype)
        return x if query is None else torch.cat([query.to(x.dtype).expand(len(x), 1, -1), x], dim=1)


class QwenStack(nn.Module):
    """Decoder layers of Qwen2.5-VL or Qwen3-VL with full attention."""

    def __init__(self, spec: LayerSpec, layers: int):
        super().__init__()
        config, layer_type, rotary_type = _qwen_classes(spec, layers)
        self.camera_names = spec.camera_names
        made = [layer_type(config, index) for index in range(layers)]
        for layer in made:
            layer.self_attn.is_causal = False  # without a mask, SDPA would otherwise be causal
        self.layers = nn.ModuleList(made)
        self.rotary = rotary_type(config)
        initialise(self)

    def forward(self, features: Tensor, tokens: VisualTokens, query: Tensor | None = None) -> Tensor:
        """Transform features [B, N, D] of `tokens`: [B, N, D], or with a query [D] before them [B, 1 + N, D]."""
        x, ids = features, rotary_ids(tokens, self.camera_names).to(features.device)
        if query is not None:
            x = torch.cat([query.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
            ids = torch.cat([ids.new_zeros(3, 1), ids], dim=1)
        positions = self.rotary(x, ids.unsqueeze(1).expand(-1, len(x), -1))
        for layer in self.layers:
            x = layer(x, attention_mask=None, position_embeddings=positions)
        return x

    def match(self, features: Tensor, tokens: VisualTokens, query: Tensor, weight: Tensor) -> Tensor:
        """Return [B, N], float32: the sum over D of V* (.) Q* times weight [D]; [Q*, V*] is what `forward` gives."""
        mixed = self(features, tokens, query)
        # The ranking of many close scores and the sign around 0 need more digits than bfloat16 has.
        with torch.autocast(mixed.device.type, enabled=False):
            scores: Tensor = (mixed[:, 1:].float() * mixed[:, :1].float()) @ weight.float()
        return scores


Stack = NativeStack | QwenStack


def build_stack(spec: LayerSpec, layers: int) -> Stack:
    """Return `layers` randomly initialised bidirectional layers of the backbone's kind."""
    return NativeStack(spec, layers) if spec.backbone == NATIVE else QwenStack(spec, layers)


def rotary_ids(tokens: VisualTokens, camera_names: Sequence[str]) -> Tensor:
    """Return M-RoPE ids [3, N] int64 (t, h, w) of the tokens, starting at 1; see the module's docstring.

    Raises `InvalidInput` for tokens of a camera that is not among `camera_names`.
    """
    unknown = sorted(set(tokens.names) - set(camera_names))
    if unknown:
        raise InvalidInput(f'tokens of cameras {unknown}; the pruner knows {", ".join(camera_names)}')
    start, starts = 1, [0] * len(tokens.names)
    for name in camera_names:
        if name not in tokens.names:
            continue
        camera = tokens.names.index(name)
        mine = tokens.camera == camera
        starts[camera] = start
        if bool(mine.any()):
            start += 1 + int(torch.maximum(tokens.row[mine].max(), tokens.column[mine].max()))
    base = torch.tensor(starts, device=tokens.camera.device)[tokens.camera]
    return torch.stack([base, base + tokens.row, base + tokens.column])


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Draw weights as the native model does: normal with half the variance-preserving deviation, biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=max(0.02, 0.5 * part.in_features**-0.5))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, RMSNorm):
            nn.init.ones_(part.weight)


def _qwen_classes(spec: LayerSpec, layers: int) -> tuple[Any, Any, Any]:
    entries = {**spec.layer, 'num_hidden_layers': layers}
    if spec.backbone == QWEN3_VL:
        from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
        from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer, Qwen3VLTextRotaryEmbedding

        config, kinds = Qwen3VLTextConfig(**entries), (Qwen3VLTextDecoderLayer, Qwen3VLTextRotaryEmbedding)
    else:
        from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
            Qwen2_5_VLDecoderLayer,
            Qwen2_5_VLRotaryEmbedding,
        )

        entries['layer_types'] = ['full_attention'] * layers
        config, kinds = Qwen2_5_VLTextConfig(**entries), (Qwen2_5_VLDecoderLayer, Qwen2_5_VLRotaryEmbedding)
    config._attn_implementation = 'sdpa'
    return config, *kinds
