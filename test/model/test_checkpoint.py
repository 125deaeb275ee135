# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_driver.model.checkpoint import resolve_checkpoint, shipped_models
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.loading import load_policy
from vla_driver.types import InvalidInput


@pytest.fixture
def checkpoint(small_model: Callable[..., VlaModel], tmp_path: Path) -> Path:
    folder = tmp_path / 'checkpoint'
    small_model().save_pretrained(folder)
    return folder


def test_holds_safetensors_and_config_alone(checkpoint: Path) -> None:
    assert sorted(path.name for path in checkpoint.iterdir()) == ['config.json', 'model.safetensors']


def test_loads_what_was_saved(checkpoint: Path, small_model: Callable[..., VlaModel]) -> None:
    loaded, original = load_model(checkpoint), small_model()
    assert not loaded.training
    state = loaded.state_dict()
    assert state.keys() == original.state_dict().keys()
    for name, value in original.state_dict().items():
        assert torch.equal(state[name], value), name


def test_driving_drops_the_training_heads(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = {name.split('.')[0] for name in load_policy(checkpoint).model.state_dict()}
    assert not names & {'dense_head', 'scene_head', 'plan_head'}
    assert 'UNEXPECTED' not in capfd.readouterr().err


def test_training_on_restores_them(checkpoint: Path, tmp_path: Path) -> None:
    load_model(checkpoint, auxiliary=False).save_pretrained(tmp_path / 'slim')
    model = load_model(tmp_path / 'slim', auxiliary=True)
    assert model.dense_head.head.weight.std() > 0


def test_unknown_name_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'no-such-model' not found.*shipped name") as caught:
        resolve_checkpoint('no-such-model')
    for name in shipped_models():
        assert name in str(caught.value)


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'model.pt', 'model.pth', 'weights.pkl', 'last.ckpt'])
def test_pickles_are_refused(checkpoint: Path, name: str) -> None:
    (checkpoint / 'model.safetensors').unlink()
    torch.save({'weight': torch.zeros(1)}, checkpoint / name)
    with pytest.raises(InvalidInput, match=rf'pickles \({name}\).*refused.*safetensors'):
        load_policy(checkpoint)
    with pytest.raises(InvalidInput, match='refused'):
        load_policy(checkpoint / name)


def test_other_defects_are_named(checkpoint: Path) -> None:
    weights = checkpoint / 'model.safetensors'
    with pytest.raises(InvalidInput, match='is a file'):
        load_model(weights)
    tensors = load_file(weights)
    lost = tensors.pop('language.norm.weight')
    save_file(tensors, weights, metadata={'format': 'pt'})
    with pytest.raises(InvalidInput, match=r'1 weights are missing.*language\.norm\.weight'):
        load_model(checkpoint)
    save_file({**tensors, 'language.norm.weight': lost[:5].clone()}, weights, metadata={'format': 'pt'})
    with pytest.raises(InvalidInput, match=r'does not (fit|load)'):
        load_model(checkpoint)
    weights.write_bytes(b'not safetensors at all')
    with pytest.raises(InvalidInput, match='does not load'):
        load_model(checkpoint)
    save_file({**tensors, 'language.norm.weight': lost}, weights, metadata={'format': 'pt'})
    config = checkpoint / 'config.json'
    config.write_text(json.dumps({'model_type': 'qwen2_5_vl'}))
    with pytest.raises(InvalidInput, match=r"'qwen2_5_vl' model, expected 'vla_driver'"):
        load_model(checkpoint)
    config.write_text('{')
    with pytest.raises(InvalidInput, match='no valid configuration'):
        load_model(checkpoint)
    config.unlink()
    with pytest.raises(InvalidInput, match=r'no config\.json'):
        load_model(checkpoint)
    weights.unlink()
    with pytest.raises(InvalidInput, match=r'no model\.safetensors'):
        load_model(checkpoint)
