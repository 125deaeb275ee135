# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs that must not drive are refused by name, and torch drives; graphs are found, made once, and cached."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_driver.model.export import making, opened, session
from vla_driver.model.export.manifest import MANIFEST, SAMPLE, WEIGHTS, RefusedGraphs, read_manifest
from vla_driver.model.export.opened import OpenedGraphs, graphs_folder, writable_folder
from vla_driver.model.export.session import CPU_EP, OPENVINO, OPENVINO_EP, NoProvider, Wanted, open_graph
from vla_driver.policies.loading import load_policy
from vla_driver.policies.registry import make_policy
from vla_driver.types import InvalidInput, Observation


@pytest.fixture
def copied(graphs_made: Path, tmp_path: Path) -> Path:
    folder = tmp_path / 'mine'
    shutil.copytree(graphs_made, folder)
    return folder


def _changed(graphs: Path, **entries: object) -> None:
    """Write other entries into a manifest."""
    manifest = graphs / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | entries))


def _refusal(folder: Path, observe: Callable[..., Observation]) -> str:
    """Return why torch drives, having made sure that it does."""
    policy = load_policy(folder, engine='auto', threads=1)
    assert policy.engine.engine == 'torch'
    assert policy.plan(observe(0)).policy == 'model'
    return policy.engine.note


def test_weights_changed_since_are_refused(copied: Path, observe: Callable[..., Observation]) -> None:
    config = copied / 'config.json'
    config.write_text(config.read_text() + '\n')
    note = _refusal(copied, observe)
    assert 'refused: graphs' in note
    assert 'its weights or its config.json were changed since' in note
    assert 'vla_driver export' in note


@pytest.mark.usefixtures('float32')
def test_graphs_that_give_something_else_are_refused(copied: Path, observe: Callable[..., Observation]) -> None:
    """The weights of the graphs are not those of the checkpoint, though the manifest says so."""
    weights = copied / 'graphs' / WEIGHTS
    numbers = np.fromfile(weights, np.float32)
    numbers[np.abs(numbers) < 10] *= 1.3
    numbers.tofile(weights)
    note = _refusal(copied, observe)
    assert 'its plan of the sample is' in note
    assert 'allowed: 0.001 m' in note
    assert OPENVINO in note
    assert CPU_EP in note  # every provider was tried, and has its reason


@pytest.mark.parametrize(
    ('spoil', 'why'),
    [
        (lambda g: (g / MANIFEST).write_text('{'), 'manifest.json cannot be read'),
        (lambda g: (g / MANIFEST).write_text('{"format": 99}'), 'written by another version'),
        (lambda g: (g / MANIFEST).write_text('[]'), 'manifest.json cannot be read'),
        (lambda g: _changed(g, sizes={}), 'manifest.json cannot be read'),
        (lambda g: _changed(g, checkpoint=None), 'manifest.json cannot be read'),
        (lambda g: _changed(g, tolerance_m={'float32': 1.0}), 'manifest.json cannot be read'),
        (lambda g: (g / SAMPLE).write_bytes(b'PK'), 'sample.npz cannot be read'),
        (lambda g: (g / SAMPLE).unlink(), 'sample.npz cannot be read'),
        (lambda g: (g / SAMPLE).write_bytes((g / SAMPLE).read_bytes()[:-3000]), 'sample.npz cannot be read'),
        (lambda g: np.savez(g / SAMPLE, other=1), 'the sample does not run'),
        (lambda g: shutil.copy(g / 'rest.onnx', g / 'tick.onnx'), 'the sample does not run'),
        (lambda g: (g / 'tick.onnx').write_bytes(b'no graph'), 'tick.onnx does not open'),
        (lambda g: (g / 'tick.onnx').unlink(), 'tick.onnx does not open'),
        (lambda g: (g / WEIGHTS).write_bytes(b''), 'does not open'),
    ],
)
def test_damaged_folders_are_refused(
    copied: Path, observe: Callable[..., Observation], spoil: Callable[[Path], object], why: str
) -> None:
    spoil(copied / 'graphs')
    assert why in _refusal(copied, observe)


def test_a_pruner_that_is_gone_is_no_longer_the_graphs_own(copied: Path) -> None:
    policy = load_policy(copied, engine='onnx', threads=1)
    shutil.rmtree(copied / 'pruner')
    assert policy.own_pruner('recon') is None  # type: ignore[union-attr]


@pytest.mark.parametrize('there', ['manifest.json', 'graphs.txt', 'keep/manifest.json'])
def test_nothing_but_graphs_is_replaced(copied: Path, tmp_path: Path, there: str) -> None:
    from vla_driver.model.export.export import export_checkpoint

    theirs = tmp_path / 'web' / there
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{}')
    with pytest.raises(InvalidInput, match='other things than graphs'):
        export_checkpoint(copied, tmp_path / 'web')
    assert theirs.read_text() == '{}'
    with pytest.raises(InvalidInput, match='is a file: name a folder'):
        export_checkpoint(copied, theirs)


@pytest.mark.parametrize(('spec', 'gone'), [('recon', 'rest'), ('random', 'rest')])
def test_torch_drives_with_a_pruner_whose_graphs_fail(
    copied: Path, observe: Callable[..., Observation], spec: str, gone: str
) -> None:
    from vla_driver.model.pruning.budget import TokenBudget

    (copied / 'graphs' / f'{gone}.onnx').write_bytes(b'no graph')
    policy = load_policy(copied, spec, TokenBudget(ratio=0.5, floor=1), engine='onnx', threads=1)
    assert policy.engine.engine == 'torch'
    assert f'{gone}.onnx does not open' in policy.engine.note
    assert policy.plan(observe(0)).policy == 'model'
    assert policy.last_selection is not None  # type: ignore[union-attr]
    policy.set_pruning(None)  # type: ignore[union-attr]
    assert policy.engine.engine == 'onnx'
    assert policy.plan(observe(1)).policy == 'model'


def test_engines_by_name(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="engine 'tensorrt', allowed: auto, torch, onnx"):
        load_policy(copied, engine='tensorrt')
    assert load_policy(copied, engine='torch').engine.provider == 'torch-cpu'
    assert load_policy(copied, engine='auto', threads=1).engine.engine == 'onnx'
    shutil.rmtree(copied / 'graphs')
    bare = load_policy(copied, engine='auto')
    assert bare.engine.engine == 'torch'
    assert 'has no graphs: vla_driver export' in bare.engine.note
    assert make_policy('constant-velocity', engine='onnx').engine.describe() == 'no network'


def test_reports_are_words(copied: Path) -> None:
    described = load_policy(copied, engine='auto', threads=1).engine.describe()
    assert described.startswith('onnx on ')
    assert described.split('(')[0].strip().endswith(', 1 thread')


def test_the_openvino_plugin_is_asked_for_its_devices(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device for this processor it is passed over, with the reason."""
    monkeypatch.setattr(session, '_openvino_devices', tuple)
    with pytest.raises(NoProvider, match='offers no device for this processor'):
        open_graph(copied / 'graphs' / 'tick.onnx', OPENVINO_EP, Wanted())


def test_a_session_on_another_provider_than_asked_for_is_none(copied: Path) -> None:
    import onnxruntime

    opened_on_cpu = onnxruntime.InferenceSession(copied / 'graphs' / 'recon.onnx', providers=[CPU_EP])
    with pytest.raises(NoProvider, match='on CPUExecutionProvider, not on OpenVINOExecutionProvider'):
        session.OrtSession(opened_on_cpu, OPENVINO_EP, 'float32')


def test_what_is_not_installed_is_said(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'openvino', None)
    session._openvino_core.cache_clear()
    try:
        with pytest.raises(NoProvider, match='openvino is not installed'):
            open_graph(copied / 'graphs' / 'tick.onnx', OPENVINO, Wanted())
    finally:
        session._openvino_core.cache_clear()


def test_the_cpu_provider_computes_in_float32_and_says_so(
    copied: Path, monkeypatch: pytest.MonkeyPatch, bfloat16: None
) -> None:
    monkeypatch.setattr(opened, 'providers_for', lambda device: (CPU_EP,))
    report = load_policy(copied, engine='onnx', threads=1).engine
    assert (report.provider, report.precision) == (CPU_EP, 'float32')


def test_providers_of_a_gpu_that_is_not_there(copied: Path) -> None:
    graphs = OpenedGraphs(copied / 'graphs', copied, Wanted(device='cuda:0'))
    with pytest.raises(RefusedGraphs, match=r'TensorrtExecutionProvider.*CUDAExecutionProvider'):
        graphs.open('rig', 'tick')


def test_a_compiled_blob_that_is_damaged_is_made_again(
    copied: Path, observe: Callable[..., Observation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, 'providers_for', lambda device: (OPENVINO,))  # which keeps what it compiles
    compiled = copied / 'graphs' / session.COMPILED
    load_policy(copied, engine='onnx', threads=1)
    blobs = list(compiled.glob('*.blob'))
    assert blobs
    for blob in blobs:
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[:1000])
    policy = load_policy(copied, engine='onnx', threads=1)
    assert policy.engine.engine == 'onnx'
    assert policy.plan(observe(0)).policy == 'model'


def test_read_only_checkpoints_have_their_graphs_in_the_cache(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    made = tmp_path / 'made'
    shutil.move(copied / 'graphs', made)
    monkeypatch.setattr(os, 'access', lambda path, mode: False)  # root may write everywhere
    target = writable_folder(copied)
    assert target.is_relative_to(tmp_path / 'cache' / 'vla_driver' / 'graphs')
    assert graphs_folder(copied) is None
    shutil.copytree(made, target)
    assert graphs_folder(copied) == target
    assert load_policy(copied, engine='auto', threads=1).engine.engine == 'onnx'


def test_graphs_are_made_once_by_a_process_of_its_own(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = copied.parent / 'made'
    shutil.move(copied / 'graphs', made)
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        shutil.copytree(made, command[-1])
        return subprocess.CompletedProcess(command, 0, '', '')

    monkeypatch.setattr(making.subprocess, 'run', run)
    assert making.find_or_make(copied) is None  # somebody's own checkpoint, and nobody asked for graphs
    assert making.find_or_make(copied, make=True) == copied / 'graphs'
    assert making.find_or_make(copied, make=True) == copied / 'graphs'
    assert len(ran) == 1
    assert ran[0][1:3] == ['-m', 'vla_driver.model.export']


def test_what_cannot_be_made_is_refused_with_its_last_words(copied: Path) -> None:
    """The real process, on a checkpoint that does not load."""
    shutil.rmtree(copied / 'graphs')
    weights = copied / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(RefusedGraphs, match=r'could not be made: .*safetensors'):
        making.find_or_make(copied, make=True)


def test_the_manifest_says_what_was_measured(graphs_made: Path) -> None:
    manifest = read_manifest(graphs_made / 'graphs')
    assert manifest.opset == 20
    assert manifest.tolerance_m['float32'] == 1e-3
    assert manifest.tolerance_m['bfloat16'] >= 0.06
    measured = {name: graph.measured_m for name, graph in manifest.graphs.items() if graph.measured_m is not None}
    assert {'tick', 'encode', 'early1', 'head1'} <= set(measured)
    assert max(measured.values()) < 1e-3
    assert all(graph.nodes > 5 for graph in manifest.graphs.values())
    assert json.loads((graphs_made / 'graphs' / MANIFEST).read_text())['sizes']['tokens'] == 18


def test_constants_are_copied_once_and_nothing_else_is_taken_for_one(copied: Path) -> None:
    """Read-only inputs may be given again and again; another one, and one that can change, is looked at."""
    graph = open_graph(copied / 'graphs' / 'recon_rig.onnx', OPENVINO, Wanted(threads=1))
    rng = np.random.default_rng(0)
    shape = read_manifest(copied / 'graphs').sizes['tokens']
    rays, others, origins = (rng.standard_normal((1, shape, 3)).astype(np.float32) for _ in range(3))
    expected = {id(one): graph.run({'token_rays': one, 'token_origins': origins}) for one in (rays, others)}
    first, second = (expected[id(one)]['recon_position'].copy() for one in (rays, others))
    assert np.abs(first - second).max() > 1e-3
    frozen = rays.copy()
    frozen.flags.writeable = False
    for given, wanted in ((frozen, first), (frozen, first), (others, second), (frozen, first), (rays, first)):
        made = graph.run({'token_rays': given, 'token_origins': origins})['recon_position']
        np.testing.assert_array_equal(made, wanted)
    rays[:] = others  # the same object, with other numbers
    np.testing.assert_array_equal(graph.run({'token_rays': rays, 'token_origins': origins})['recon_position'], second)


def test_what_runs_a_way_is_reported_of_that_way(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that does not take a pruner's graph leaves it to the next; the whole graph stays where it was."""
    take = opened.open_graph

    def all_but_recon(path: Path, provider: str, wanted: Wanted) -> session.Session:
        if path.name == 'recon.onnx' and provider == OPENVINO:
            raise NoProvider('it does not take this one')
        return take(path, provider, wanted)

    monkeypatch.setattr(opened, 'providers_for', lambda device: (OPENVINO, CPU_EP))
    monkeypatch.setattr(opened, 'open_graph', all_but_recon)
    graphs = OpenedGraphs(copied / 'graphs', copied, Wanted(threads=1))
    graphs.open('rig', 'tick')
    assert graphs.engine.provider == OPENVINO
    graphs.open('rig', 'recon_rig', 'recon', 'rest')
    assert graphs.engine.provider == CPU_EP
    assert graphs.settled('rest', 7).provider == CPU_EP
    graphs.open('rig', 'tick')
    assert graphs.engine.provider == OPENVINO
