# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""An adapter beside a model's weights is merged into them, and said; one that does not fit is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_driver.model.qwen.loading import load_weights
from vla_driver.policies.loading import load_policy
from vla_driver.policies.registry import merged_adapter
from vla_driver.types import InvalidInput

FILES = ('adapter_config.json', 'adapter_model.safetensors')


@pytest.fixture
def trained(checkpoint: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Path, Path, dict[str, Tensor]]]:
    """Return a trainer: (family, **LoraConfig) -> base folder, adapter folder, weights of the two merged."""

    def make(family: str = 'qwen2.5', **settings: Any) -> tuple[Path, Path, dict[str, Tensor]]:
        base = checkpoint(family, ())
        torch.manual_seed(1)
        wrapped = get_peft_model(
            load_weights(base, torch.float32), LoraConfig(r=4, **{'target_modules': ['q_proj', 'v_proj'], **settings})
        )
        for name, weight in wrapped.named_parameters():
            if 'lora_' in name:
                torch.nn.init.normal_(weight, std=0.3)
        wrapped.save_pretrained(tmp_path / 'adapter')
        return base, tmp_path / 'adapter', wrapped.merge_and_unload().state_dict()

    return make


def beside(base: Path, adapter: Path) -> Path:
    for name in FILES:
        shutil.copy(adapter / name, base)
    return base


def same(folder: Path, expected: dict[str, Tensor]) -> bool:
    got = load_weights(folder, torch.float32).state_dict()
    return got.keys() == expected.keys() and all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize('family', ['qwen2.5', 'qwen3'])
def test_it_is_merged_and_said(trained: Callable[..., Any], family: str, caplog: pytest.LogCaptureFixture) -> None:
    base, adapter, merged = trained(family)
    assert merged_adapter(base) is None
    assert not same(base, merged)
    assert same(beside(base, adapter), merged)
    policy: Any = load_policy(base)
    assert policy.name == 'qwen with the LoRA adapter of rank 4 merged'
    assert merged_adapter(base) == 'LoRA adapter of rank 4'
    assert f'the LoRA adapter of rank 4 in {base} is merged into the weights of the model' in caplog.text


@pytest.mark.parametrize('settings', [{'use_dora': True}, {'use_rslora': True}, {'target_modules': r'.*visual.*qkv'}])
def test_its_kin_too(trained: Callable[..., Any], settings: dict[str, Any]) -> None:
    base, adapter, merged = trained(**settings)
    assert same(beside(base, adapter), merged)


def test_one_with_the_names_of_older_transformers(trained: Callable[..., Any]) -> None:
    """As trained before 4.52; peft would leave all of it out, without a word."""
    base, adapter, merged = trained()
    weights = load_file(adapter / FILES[1])
    old = {name.replace('.model.language_model.layers.', '.model.layers.'): value for name, value in weights.items()}
    assert old.keys().isdisjoint(weights)
    save_file(old, adapter / FILES[1])
    assert same(beside(base, adapter), merged)


def test_alone_it_is_used_with_the_base_it_names(
    trained: Callable[..., Any], edit_json: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter, merged = trained()
    edit_json(adapter / FILES[0], base_model_name_or_path=str(base))
    assert same(adapter, merged)
    assert 'LoRA' in load_policy(adapter).name
    # A relative one, seen from the adapter and from here.
    edit_json(adapter / FILES[0], base_model_name_or_path=f'../{base.name}')
    assert same(adapter, merged)
    monkeypatch.chdir(base.parent)
    edit_json(adapter / FILES[0], base_model_name_or_path=base.name)
    assert same(adapter, merged)
    kept = (base / 'config.json').rename(base / 'kept')
    (base / FILES[0]).write_text('{}')
    with pytest.raises(InvalidInput, match='which is itself an adapter'):
        load_policy(adapter)
    (base / FILES[0]).unlink()
    kept.rename(base / 'config.json')
    (base / 'model.safetensors').unlink()
    with pytest.raises(InvalidInput, match=rf'{base.name} holds no model\.safetensors'):
        load_policy(adapter)


@pytest.mark.parametrize('name', ['Qwen/Qwen2.5-VL-3B-Instruct', None, '', '.', '/gone/base'])
def test_alone_it_says_of_what_it_is(trained: Callable[..., Any], edit_json: Callable[..., None], name: Any) -> None:
    _, adapter, _ = trained()
    edit_json(adapter / FILES[0], base_model_name_or_path=name)
    with pytest.raises(
        InvalidInput, match=r'only a LoRA adapter of rank 4 of .*beside the files of that model'
    ) as told:
        load_policy(adapter)
    assert (name or 'a model that it does not name') in str(told.value)
    assert 'merge it first' in str(told.value)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'target_modules': ['nope']}, 'nope'),
        ({'target_modules': ['q_proj']}, '8 of its weights have no place'),
        ({'target_modules': ['q_proj', 'v_proj', 'k_proj']}, '8 are missing'),
        ({'r': 8}, 'size mismatch'),
        ({'use_dora': True}, 'DoRA adapter .*8 are missing'),
        ({'peft_type': 'NOVEL'}, 'NOVEL'),
        ({'peft_type': 'PROMPT_TUNING', 'num_virtual_tokens': 4}, 'cannot be merged'),
        ({'peft_type': 7}, 'peft_type is 7'),
    ],
)
def test_one_that_does_not_fit_is_refused_before_the_weights_are_read(
    trained: Callable[..., Any],
    edit_json: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    message: str,
) -> None:
    base, adapter, _ = trained()
    edit_json(adapter / FILES[0], **changes)
    monkeypatch.setattr('vla_driver.model.qwen.loading._load_base', lambda *_: pytest.fail('the weights were read'))
    with pytest.raises(InvalidInput, match=message):
        load_policy(beside(base, adapter))


def test_weights_that_are_no_numbers_or_shared_are_refused(
    trained: Callable[..., Any], edit_json: Callable[..., None]
) -> None:
    base, adapter, _ = trained()
    beside(base, adapter)
    weights = load_file(base / FILES[1])
    save_file({**weights, next(iter(weights)): next(iter(weights.values())) * torch.nan}, base / FILES[1])
    with pytest.raises(InvalidInput, match=r'cannot be merged \(NaNs.*merge it first'):
        load_policy(base)
    save_file({**weights, 'base_model.model.lm_head.lora_A.weight': torch.zeros(4, 64)}, base / FILES[1])
    edit_json(base / 'config.json', tie_word_embeddings=True)
    with pytest.raises(InvalidInput, match='shares the weights of lm_head and embed_tokens'):
        load_policy(base)


def test_without_peft_it_is_refused(trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter, _ = trained()
    beside(base, adapter)
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(InvalidInput, match=r'needs the Python package peft.*install it, or merge it first'):
        load_policy(base)


def test_half_of_one_is_refused(trained: Callable[..., Any]) -> None:
    base, adapter, _ = trained()
    beside(base, adapter)
    config, weights = (base / name for name in FILES)
    kept = weights.read_bytes()
    weights.unlink()
    with pytest.raises(InvalidInput, match=r'no adapter_model\.safetensors.*remove adapter_config\.json to drive'):
        load_policy(base)
    (base / 'adapter_model.bin').write_bytes(b'\x80\x02')
    with pytest.raises(InvalidInput, match=r'adapter_model\.bin is a pickled adapter'):
        load_policy(base)
    (base / 'adapter_model.bin').unlink()
    weights.write_text('version https://git-lfs.github.com/spec/v1\nsize 5\n')
    with pytest.raises(InvalidInput, match=r'adapter_model\.safetensors is a Git LFS pointer'):
        load_policy(base)
    weights.write_bytes(kept)
    config.unlink()
    with pytest.raises(InvalidInput, match=r'weights of an adapter, but no adapter_config\.json'):
        load_policy(base)


def test_a_native_model_has_no_use_for_one(tiny_checkpoint: Path, trained: Callable[..., Any], tmp_path: Path) -> None:
    _, adapter, _ = trained()
    native = Path(shutil.copytree(tiny_checkpoint, tmp_path / 'native'))
    with pytest.raises(InvalidInput, match='has no use for'):
        load_policy(beside(native, adapter))
    assert json.loads((native / FILES[0]).read_text())['peft_type'] == 'LORA'


@pytest.mark.parametrize('name', ['non_lora_state_dict.bin', 'non_lora_trainables.bin'])
def test_weights_trained_beside_one_are_refused(
    trained: Callable[..., Any], edit_json: Callable[..., None], name: str
) -> None:
    base, adapter, _ = trained()
    (adapter / name).write_bytes(b'PK')
    for given in (str(base), 'Qwen/Qwen2.5-VL-3B-Instruct'):
        edit_json(adapter / FILES[0], base_model_name_or_path=given)
        with pytest.raises(InvalidInput, match=rf'{adapter.name}/{name} holds weights .*ignored.*merge it first'):
            load_policy(adapter)
    (adapter / name).rename(base / name)
    with pytest.raises(InvalidInput, match=rf'{base.name}/{name} holds weights'):
        load_policy(base)


def test_one_in_a_folder_below_is_said_not_to_be_applied(
    trained: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    base, adapter, _ = trained()
    shutil.copytree(adapter, base / 'lora')
    load_policy(base)
    assert caplog.text.count(f'the adapter in lora of checkpoint {base} is not applied') == 1
