# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny models of the real classes, with weights so wide that a wrong position shows, and whole tiny checkpoints."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

IMAGE, START, END, VIDEO = 90, 91, 92, 93
UNITS = 144
_IDS = {
    'image_token_id': IMAGE,
    'video_token_id': VIDEO,
    'vision_start_token_id': START,
    'vision_end_token_id': END,
    'tie_word_embeddings': False,
}
_TEXT = {
    'hidden_size': 64,
    'intermediate_size': 128,
    'num_hidden_layers': 4,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'vocab_size': 100,
    'max_position_embeddings': 4096,
}


def qwen2_5(vocab: int = 100, ids: dict[str, int] | None = None, **vision: Any) -> Qwen2_5_VLForConditionalGeneration:
    rope = {'rope_type': 'default', 'rope_theta': 1e4, 'mrope_section': [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config={**_TEXT, 'vocab_size': vocab, 'rope_parameters': rope},
        vision_config={
            'depth': 2,
            'hidden_size': 32,
            'num_heads': 2,
            'intermediate_size': 64,
            'out_hidden_size': 64,
            'patch_size': 14,
            'window_size': 56,
            'fullatt_block_indexes': [1],
            **vision,
        },
        **{**_IDS, **(ids or {})},
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def qwen3(vocab: int = 100, ids: dict[str, int] | None = None, **vision: Any) -> Qwen3VLForConditionalGeneration:
    rope = {'rope_type': 'default', 'rope_theta': 1e4, 'mrope_section': [2, 3, 3], 'mrope_interleaved': True}
    config = Qwen3VLConfig(
        text_config={**_TEXT, 'vocab_size': vocab, 'head_dim': 16, 'rope_parameters': rope},
        vision_config={
            'depth': 3,
            'hidden_size': 32,
            'num_heads': 2,
            'intermediate_size': 64,
            'out_hidden_size': 64,
            'patch_size': 16,
            'num_position_embeddings': 64,
            'deepstack_visual_indexes': [0, 1, 2],
            **vision,
        },
        **{**_IDS, **(ids or {})},
    )
    return Qwen3VLForConditionalGeneration(config)


MAKERS: dict[str, Callable[..., Any]] = {'qwen2.5': qwen2_5, 'qwen3': qwen3}


@pytest.fixture(scope='session')
def tiny() -> Callable[..., Any]:
    """Return a maker of tiny models: (family, attention='sdpa', **vision changes)."""
    made: dict[tuple[Any, ...], Any] = {}

    def make(family: str, attention: str = 'sdpa', **vision: Any) -> Any:
        key = (family, attention, repr(vision))
        if key not in made:
            torch.manual_seed(0)
            model = MAKERS[family](**vision).eval().requires_grad_(False)
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, 0.25)
            model.set_attn_implementation(attention)
            made[key] = model
        return made[key]

    return make


@pytest.fixture
def prompt_ids() -> Tensor:
    """[1, 169]: words, six times (word, start, 24 image tokens, end), words."""
    views = [token for c in range(6) for token in (10 + c, START, *[IMAGE] * 24, END)]
    return torch.tensor([[1, 2, 3, *views, 40, 41, 42, 43]])


@pytest.fixture
def pixels() -> Callable[[Any], Tensor]:
    """Return a maker of random patches [576, patch] for a model."""

    def make(model: Any) -> Tensor:
        vision = model.config.vision_config
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        return torch.randn(UNITS * 4, width, generator=torch.Generator().manual_seed(2))

    return make


SPECIAL = (
    '<|endoftext|>',
    '<|im_start|>',
    '<|im_end|>',
    '<|vision_start|>',
    '<|vision_end|>',
    '<|image_pad|>',
    '<|video_pad|>',
)
#: An answer in words, of which each occurs once.
GOOD = (
    '<PLANNING>',
    'Waypoints: [x, y]: ',
    '[2.52, 0.00], ',
    '[5.04, 0.01], ',
    '[7.56, 0.03], ',
    '[10.08, 0.05], ',
    '[12.60, 0.08], ',
    '[15.12, 0.11]',
    '</PLANNING>',
)


def byte_tokenizer(words: Sequence[str] = ()) -> Any:
    """Return a tokenizer of single bytes, Qwen's special tokens and whole `words`."""
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex('.'), behavior='isolated'),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token='<|im_end|>', pad_token='<|endoftext|>', model_max_length=8192
    )
    tokenizer.add_special_tokens({'additional_special_tokens': list(SPECIAL)})
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    return tokenizer


def save_checkpoint(folder: Path, make: Callable[..., Any], words: Sequence[str] = GOOD, patch: int = 14) -> Any:
    """Write a checkpoint of the family that `make` builds and return its model.

    words: what it writes, one token each, whatever it is shown; () for a model of random weights.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = byte_tokenizer(words)
    size = 512
    numbers = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    torch.manual_seed(0)
    model = make(
        vocab=size,
        ids={
            'image_token_id': numbers['<|image_pad|>'],
            'video_token_id': numbers['<|video_pad|>'],
            'vision_start_token_id': numbers['<|vision_start|>'],
            'vision_end_token_id': numbers['<|vision_end|>'],
        },
    ).eval()
    model.generation_config.eos_token_id = numbers['<|im_end|>']
    if words:
        recite(model, [tokenizer.convert_tokens_to_ids(word) for word in ('Ċ', *words, '<|im_end|>')])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=patch, size={'shortest_edge': 56 * 56, 'longest_edge': 28 * 28 * 24}
    ).save_pretrained(folder)
    return model


def recite(model: Any, chain: list[int]) -> None:
    """Set the weights so that each token of `chain` is followed by the next one.

    Attention and MLPs add nothing to what the last token says, and the output row of each token is the direction in
    which the embedding of the one before it points.  All layers, the cache and the positions are still computed.
    """
    language = model.model.language_model
    with torch.no_grad():
        for layer in language.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for direction, (token, following) in enumerate(itertools.pairwise(chain)):
            language.embed_tokens.weight[token] = 0.0
            language.embed_tokens.weight[token, direction] = 1.0
            model.lm_head.weight[following, direction] = 1.0


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of checkpoint folders: (family='qwen2.5', words=what it writes, () for random weights)."""

    def make(family: str = 'qwen2.5', words: Sequence[str] = GOOD) -> Path:
        folder = tmp_path / f'{family}-{len(words)}'
        save_checkpoint(folder, MAKERS[family], words, patch=14 if family == 'qwen2.5' else 16)
        return folder

    return make


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Return a changer of entries of a JSON file: (file, name=value ...)."""

    def change(file: Path, **entries: Any) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))

    return change
