# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One variable decides for every process in which precision models compute; what is nonsense is refused by name."""

from __future__ import annotations

import pytest
import torch

from vla_driver.commands.common import provenance
from vla_driver.model.precision import (
    VARIABLE,
    autocast,
    bfloat16_pays,
    cpu_flags,
    precision,
    store_for_inference,
    weight_type,
)
from vla_driver.types import InvalidInput


@pytest.mark.parametrize('value', ['', 'auto'])
def test_the_device_decides(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    assert precision('cpu') == ('bfloat16' if bfloat16_pays('cpu') else 'float32')
    assert precision('meta') == 'float32'


def test_the_variable_overrules_the_device(each_precision: str) -> None:
    wanted = getattr(torch, each_precision)
    assert precision('cpu') == each_precision and weight_type('cpu') is wanted
    layer = torch.nn.Linear(4, 4)
    store_for_inference(layer, 'cpu')
    assert layer.weight.dtype is wanted
    with autocast('cpu'):
        assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype is wanted
    assert provenance()['precision'] == precision('cuda' if torch.cuda.is_available() else 'cpu')


def test_another_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, 'float16')
    with pytest.raises(InvalidInput, match="is 'float16', allowed: auto, float32, bfloat16"):
        precision('cpu')


def test_the_flags_of_the_processor_say_what_torch_says() -> None:
    torch_says = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert bfloat16_pays('cpu') == bfloat16_pays(torch.device('cpu')) == torch_says


def test_flags_are_those_of_the_first_processor() -> None:
    intel = 'processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_tile\nbugs\t: amx\nprocessor\t: 1\nflags\t\t: fpu\n'
    assert cpu_flags(intel) == {'fpu', 'avx512_bf16', 'amx_tile'}
    assert cpu_flags('processor\t: 0\nFeatures\t: fp asimd bf16\n') == frozenset()
    assert cpu_flags('') == frozenset()
