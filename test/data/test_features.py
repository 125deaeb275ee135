# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Training on encoded features: they are what the encoder gives, they are kept, and the encoder stays as it is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_driver.data import encoding as module
from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.data.encoding import encode_episodes, encoder_hash
from vla_driver.data.features import RECORD, feature_path, open_features
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.training import Dropouts, perceive
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import VARIABLE, autocast
from vla_driver.train import policy as command
from vla_driver.types import InvalidInput


def _small(file: Path, **more: Any) -> VlaModel:
    torch.manual_seed(0)
    return VlaModel(VlaConfig(**json.loads(file.read_text()), **more)).eval()


def test_features_give_the_tokens_that_the_pictures_give(
    episodes: Path, small_model_file: Path, tmp_path: Path, each_precision: str
) -> None:
    model = _small(small_model_file)
    paths = find_episodes([episodes])
    folder = encode_episodes(model, paths, tmp_path, progress=False)
    assert folder.name == f'{encoder_hash(model)}-{each_precision}'
    assert json.loads((folder / RECORD).read_text())['precision'] == each_precision
    pictures = ClipDataset(paths, model.config, ticks=2, augment=False).batch([(0, 1), (1, 0)], None)
    encoded = ClipDataset(paths, model.config, ticks=2, features=folder).batch([(0, 1), (1, 0)], None)
    assert not encoded.inputs.images and encoded.inputs.patches is not None
    assert torch.equal(encoded.inputs.present, pictures.inputs.present)
    with torch.inference_mode(), autocast('cpu'):  # as training and driving encode
        expected = model.encode(pictures.inputs).tokens.features
        tokens = model.encode(encoded.inputs).tokens.features
        other = model.encode(
            ClipDataset(paths, model.config, ticks=2, features=folder).batch([(0, 2), (1, 1)], None).inputs
        )
    # float16 on disk: ten bits of a number; bfloat16 has seven, and the merger multiplies what they differ by.
    exact = each_precision == 'float32'
    torch.testing.assert_close(tokens, expected, rtol=0.0, atol=0.02 if exact else 0.1)
    assert (other.tokens.features - expected).abs().max() > 0.1


def test_what_is_encoded_is_not_encoded_again(
    episodes: Path, small_model_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    model = _small(small_model_file)
    paths = find_episodes([episodes])
    folder = encode_episodes(model, paths, tmp_path, progress=False)
    feature_path(folder, paths[0]).unlink()
    saved: list[int] = []
    save = np.save
    monkeypatch.setattr(module.np, 'save', lambda stream, x: (saved.append(len(x)), save(stream, x)))
    assert encode_episodes(model, paths, tmp_path, progress=False) == folder
    assert len(saved) == 1 and feature_path(folder, paths[0]).exists()


def test_another_encoder_has_another_folder(small_model_file: Path) -> None:
    model = _small(small_model_file)
    before = encoder_hash(model)
    with torch.no_grad():
        model.language.norm.weight.add_(1.0)
    assert encoder_hash(model) == before
    with torch.no_grad():
        model.vision.blocks[0].fc1.bias.add_(1e-3)
    assert encoder_hash(model) != before


def test_the_blind_control_has_no_features(small_model_file: Path) -> None:
    with pytest.raises(InvalidInput, match='blind control has no encoder'):
        encoder_hash(_small(small_model_file, blind=True))


def test_features_that_do_not_fit_are_refused(episodes: Path, small_model_file: Path, tmp_path: Path) -> None:
    model = _small(small_model_file)
    paths = find_episodes([episodes])
    folder = encode_episodes(model, paths[:1], tmp_path, progress=False)
    with pytest.raises(InvalidInput, match='holds no features of'):
        open_features(folder, tmp_path / 'other.npz', 3)
    with pytest.raises(InvalidInput, match='ticks, the episode has 3: remove it'):
        open_features(folder, paths[0], 3)


def test_features_of_another_precision_are_refused(
    episodes: Path, small_model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, paths = _small(small_model_file), find_episodes([episodes])
    monkeypatch.setenv(VARIABLE, 'bfloat16')
    folder = encode_episodes(model, paths, tmp_path, progress=False)
    monkeypatch.setenv(VARIABLE, 'float32')
    with pytest.raises(InvalidInput, match=r'made in bfloat16, but this model computes in float32; encode .* again'):
        ClipDataset(paths, model.config, ticks=2, features=folder)
    other = encode_episodes(model, paths, tmp_path, progress=False)
    assert other != folder and len(ClipDataset(paths, model.config, ticks=2, features=other)) > 0
    (other / RECORD).unlink()  # as older versions left it
    with pytest.raises(InvalidInput, match='does not say in which precision'):
        open_features(other, paths[0], 3)


def _train(*arguments: str) -> dict[str, float]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    common = ['--batch', '2', '--ticks', '3', '--validate-clips', '2', '--device', 'cpu', '--threads', '1']
    return command.train_policy(parser.parse_args([*common, *arguments]))


def test_frozen_training_leaves_the_encoder_and_moves_the_rest(
    episodes: Path, small_model_file: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    _train('--data', str(episodes), '--out', str(first), '--config', str(small_model_file), '--steps', '1')
    data = ['--data', str(episodes), '--out', str(second), '--init', str(first), '--freeze-vision']
    figures = _train(*data, '--steps', '3', '--processes', '2')
    assert 'ade_1s' in figures and 'loss_depth' not in figures
    before, after = load_model(first).state_dict(), load_model(second).state_dict()
    for name, value in before.items():
        if name.startswith('vision.'):
            assert torch.equal(after[name], value), name
    assert not torch.equal(after['language.layers.0.q.weight'], before['language.layers.0.q.weight'])
    assert list((second / 'features').glob('*/*.npy'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--freeze-vision'], 'give --init CKPT of a model that sees'),
        (['--freeze-vision', '--blind', '--init', 'x'], 'keeps a trained encoder'),
        (['--freeze-vision', '--stage', 'vision', '--init', 'x'], 'keeps what --stage vision trains'),
    ],
)
def test_freezing_without_a_trained_encoder_is_refused(
    arguments: list[str], message: str, episodes: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        _train('--data', str(episodes), '--out', str(tmp_path / 'out'), *arguments)


def test_steps_without_the_cameras_behind(episodes: Path, small_model_file: Path) -> None:
    model = _small(small_model_file)
    batch = ClipDataset(find_episodes([episodes]), model.config, ticks=3, augment=False).batch([(0, 0)], None)
    whole, memory = perceive(model, model.dropouts, batch)
    model.train()
    model.dropouts = Dropouts(camera=0.0, memory=0.0, rear=1.0)
    ahead, less = perceive(model, model.dropouts, batch)
    assert whole is not None and memory is not None and ahead is not None and less is not None
    names = model.config.camera_names
    assert {names[c] for c in ahead.tokens.camera.tolist()} == {'front', 'front_left', 'front_right'}
    kept = torch.tensor(['back' not in names[c] for c in whole.tokens.camera.tolist()])
    torch.testing.assert_close(ahead.tokens.features, whole.tokens.features[:, kept])
    pooled = torch.tensor(['back' not in names[c] for c in model.memory_pool.camera])
    torch.testing.assert_close(less.features, memory.features[:, :, pooled])
    model.eval()
    assert torch.equal(perceive(model, model.dropouts, batch)[0].tokens.camera, whole.tokens.camera)  # type: ignore[union-attr]
