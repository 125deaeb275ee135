# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes encoded by an exported graph: the same features as torch's, or torch encodes and that is said."""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vla_driver.data import encoding, patches
from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.data.features import RECORD, feature_path, open_features
from vla_driver.data.patches import TorchPatches, choose_encoder, features_off
from vla_driver.model.export.graphs import PatchesGraph
from vla_driver.model.export.session import CPU_EP, providers_for
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import VARIABLE
from vla_driver.model.tokens import ModelInputs
from vla_driver.types import InvalidInput

MakeModel = Callable[..., VlaModel]


def _record(folder: Path) -> tuple[str, str]:
    record = json.loads((folder / RECORD).read_text())
    return record['engine'], record['provider']


def _inputs(model: VlaModel, path: Path, ticks: int = 4) -> ModelInputs:
    return ClipDataset([path], model.config, ticks=1, augment=False).batch([(0, t) for t in range(ticks)], None).inputs


@pytest.mark.usefixtures('float32')
def test_a_graph_writes_what_torch_writes(
    episodes: Path, short_episode: Path, episode_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = episode_model(vision_layers=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    paths = [*find_episodes([episodes])[:1], short_episode]  # the short one lacks a camera once
    ours = encode_episodes(model, paths, tmp_path / 'onnx', progress=False, engine='onnx')
    assert not capsys.readouterr().err
    reference = encode_episodes(model, paths, tmp_path / 'torch', progress=False, engine='torch')
    assert ours.name == reference.name  # a cache is one engine's as much as the other's
    engine, provider = _record(ours)
    assert engine == 'onnx' and provider in providers_for('cpu')
    assert _record(reference) == ('torch', 'torch-cpu')
    for path, ticks in zip(paths, (10, 3), strict=True):
        made, expected = (open_features(folder, path, ticks).astype(np.float32) for folder in (ours, reference))
        assert np.abs(expected).max() > 0.5
        # Both are rounded to float16, perhaps to two neighbours.
        np.testing.assert_allclose(made, expected, rtol=2e-3, atol=1e-3)
    # Nothing of it is left in the model that is trained.
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_graph_is_as_near_as_the_precision_allows(
    episodes: Path, episode_model: MakeModel, each_precision: str
) -> None:
    model, path = episode_model(), find_episodes([episodes])[0]
    inputs = _inputs(model, path, 8)
    encode = choose_encoder(model, 'cpu', 8, _inputs(model, path), 'onnx')
    assert (encode.engine.engine, encode.engine.precision) == ('onnx', each_precision), encode.engine.note
    with torch.inference_mode():
        exact = model.vision.embed(inputs).numpy()
    rounded = features_off(TorchPatches(model, 'cpu')(inputs), exact)
    allowed = 1e-4 if each_precision == 'float32' else 2.5 * rounded
    assert features_off(encode(inputs), exact) <= allowed
    # Every row has the place of its own rig: here the first four look ahead, the others back.
    rays = torch.stack([inputs.rays[0], -inputs.rays[0]])
    two = dataclasses.replace(inputs, rays=rays, origins=inputs.origins[:2])
    with torch.inference_mode():
        turned = model.vision.embed(two).numpy()
    assert features_off(encode(two), turned) <= allowed < features_off(encode(inputs), turned)


@pytest.mark.usefixtures('bfloat16')
def test_a_graph_of_another_precision_is_not_used(
    episodes: Path,
    episode_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, paths = episode_model(), find_episodes([episodes])[:1]
    monkeypatch.setattr(patches, 'providers_for', lambda device: (CPU_EP,))  # as where OpenVINO is not installed
    folder = encode_episodes(model, paths, tmp_path / 'onnx', progress=False, engine='onnx')
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and 'encoding with torch on torch-cpu, bfloat16' in said[0]
    assert 'CPUExecutionProvider: it computes in float32, not in bfloat16' in said[0]
    assert _record(folder) == ('torch', 'torch-cpu')
    torchs = encode_episodes(model, paths, tmp_path / 'torch', progress=False, engine='torch')
    assert np.array_equal(np.load(feature_path(folder, paths[0])), np.load(feature_path(torchs, paths[0])))


class _Mirrored(PatchesGraph):
    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return super().compute({**given, **{name: given[name].flip(3) for name in self.pictures}})


class _ByItsNumbers(PatchesGraph):
    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        made = self.encoded(given)
        return (made if made.sum() > 0 else -made,)  # which no exporter can follow


@pytest.mark.parametrize('wrong', ['features', 'features in bfloat16', 'export', 'folder', 'device'])
def test_where_a_graph_will_not_do_torch_encodes(
    episodes: Path,
    episode_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    model, device = episode_model(), 'cpu'
    computed = 'bfloat16' if 'bfloat16' in wrong else 'float32'
    monkeypatch.setenv(VARIABLE, computed)
    if wrong.startswith('features'):
        monkeypatch.setattr(patches, 'PatchesGraph', _Mirrored)
        reason = r'off by .* of their length, allowed'
    elif wrong == 'export':
        monkeypatch.setattr(patches, 'PatchesGraph', _ByItsNumbers)
        reason = 'could not be exported'
    elif wrong == 'folder':
        monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'nowhere'))
        reason = 'nowhere'
    else:
        device, reason = 'meta', 'no graph encodes on meta, only on cpu'
    encode = choose_encoder(model, device, 4, _inputs(model, find_episodes([episodes])[0]), 'onnx')
    assert isinstance(encode, TorchPatches)
    assert (encode.engine.engine, encode.engine.precision) == ('torch', computed)
    assert re.search(reason, encode.engine.note), encode.engine.note


def test_few_ticks_do_not_pay_for_a_graph_and_the_record_names_all_that_had_a_part(
    episodes: Path, episode_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, paths = episode_model(), find_episodes([episodes])
    for module in (patches, encoding):
        monkeypatch.setattr(module, 'FEW_TICKS', 20)
    folder = encode_episodes(model, paths[:2], tmp_path, progress=False)
    assert _record(folder) == ('torch', 'torch-cpu')
    first = feature_path(folder, paths[0])
    written = first.stat().st_mtime_ns
    feature_path(folder, paths[1]).unlink()
    assert encode_episodes(model, paths, tmp_path, progress=False) == folder  # three are left, of ten ticks each
    engine, provider = _record(folder)
    assert engine == 'torch+onnx' and provider.startswith('torch-cpu+')
    assert first.stat().st_mtime_ns == written
    assert len(ClipDataset(paths, model.config, ticks=2, features=folder)) == 4 * 9
    encode_episodes(model, paths, tmp_path, progress=False)  # nothing is left to do
    assert _record(folder) == (engine, provider)


def test_features_of_before_there_were_graphs_were_torchs(
    episodes: Path, episode_model: MakeModel, tmp_path: Path
) -> None:
    model, paths = episode_model(), find_episodes([episodes])[:1]
    folder = encode_episodes(model, paths, tmp_path, progress=False)
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({k: v for k, v in record.items() if k not in ('engine', 'provider')}))
    encode_episodes(model, paths, tmp_path, progress=False)
    assert _record(folder) == ('torch', 'torch')


def test_an_interrupted_run_leaves_whole_files_and_the_model_in_training(
    episodes: Path, episode_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, paths = episode_model().train(), find_episodes([episodes])
    save, saved = np.save, []

    def interrupted(stream: Any, features: Any) -> None:
        if saved:
            raise KeyboardInterrupt
        saved.append(features)
        save(stream, features)

    monkeypatch.setattr(encoding.np, 'save', interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode_episodes(model, paths, tmp_path, progress=False)
    assert model.training
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == sorted([feature_path(folder, paths[0]).name, RECORD])


def test_an_engine_that_does_not_exist_is_refused(episodes: Path, episode_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="engine 'tensorrt', allowed: auto, torch, onnx"):
        encode_episodes(episode_model(), find_episodes([episodes]), tmp_path, engine='tensorrt')
