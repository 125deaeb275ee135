# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Quantised checkpoints are refused by name, whatever shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_driver.policies.loading import load_policy
from vla_driver.types import InvalidInput


def packed(name: str, dtype: torch.dtype, suffix: str = '') -> Callable[[Path], None]:
    """Return what replaces the first weight of that name by one of another type, or with another ending."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / 'model.safetensors')
        key = next(key for key in tensors if key.endswith(name))
        weight = tensors.pop(key)
        tensors[key.removesuffix('weight') + suffix if suffix else key] = torch.zeros(weight.shape).to(dtype)
        save_file(tensors, folder / 'model.safetensors', metadata={'format': 'pt'})

    return change


@pytest.mark.parametrize(
    ('settings', 'stored', 'message'),
    [
        ({'quant_method': 'awq', 'bits': 4}, ('qweight', torch.int32), r'has quantization_config.*AWQ, 4 bit'),
        ({'quant_method': 'gptq', 'bits': 8}, ('qweight', torch.int32), r'GPTQ, 8 bit'),
        ({'quant_method': 'fp8'}, ('weight', torch.float8_e4m3fn), 'FP8'),
        ({'load_in_4bit': True}, ('weight', torch.uint8), 'bitsandbytes, 4 bit'),
        ({'quant_method': 'compressed-tensors', 'format': 'x'}, ('weight_packed', torch.int32), 'compressed-tensors'),
        ({'quant_method': 'novel-9'}, ('weight', torch.int8), 'novel-9'),
        ({}, ('qweight', torch.int32), r'quantised weights \(GPTQ or AWQ: .*q_proj\.qweight is I32'),
        ({}, ('weight', torch.float8_e5m2), r'quantised weights \(FP8: .* is F8_E5M2'),
        ({}, ('weight', torch.int8), r'quantised weights \(I8: .* is I8'),
        ({}, ('weight', torch.uint8), 'quantised weights'),
        ({'quant_method': 'bitsandbytes'}, None, r'its weights are not quantised \(F32\): delete that entry'),
    ],
)
def test_quantised_weights_are_named(
    checkpoint: Callable[..., Path],
    edit_json: Callable[..., None],
    settings: dict[str, Any],
    stored: tuple[str, torch.dtype] | None,
    message: str,
) -> None:
    folder = checkpoint()
    if settings:
        edit_json(folder / 'config.json', quantization_config=settings)
    if stored is not None:
        packed('q_proj.weight', stored[1], stored[0])(folder)
    with pytest.raises(InvalidInput, match=message) as caught:
        load_policy(folder)
    assert stored is None or 'give the unquantised weights' in str(caught.value)


def test_an_entry_within_the_language_model(checkpoint: Callable[..., Path], edit_json: Callable[..., None]) -> None:
    folder = checkpoint()
    packed('q_proj.weight', torch.int8)(folder)
    text = json.loads((folder / 'config.json').read_text())['text_config']
    edit_json(folder / 'config.json', text_config={**text, 'quantization_config': {'quant_method': 'torchao'}})
    with pytest.raises(InvalidInput, match=r'text_config\.quantization_config.*torchao'):
        load_policy(folder)


def test_a_native_checkpoint_too(tmp_path: Path, small_model: Callable[..., Any]) -> None:
    small_model().save_pretrained(tmp_path)
    packed('norm.weight', torch.int8)(tmp_path)
    with pytest.raises(InvalidInput, match=r'quantised weights \(I8'):
        load_policy(tmp_path)
