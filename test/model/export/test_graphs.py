# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs give what torch does: on every provider there is, with every way through them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.models import SMALL_ACTION, SMALL_LANGUAGE, make_small_model

from vla_driver.model.export.check import check_runs
from vla_driver.model.export.cuts import EarlyGraph
from vla_driver.model.export.export import export_checkpoint
from vla_driver.model.export.manifest import SAMPLE, RefusedGraphs, read_manifest
from vla_driver.model.export.opened import OpenedGraphs
from vla_driver.model.export.session import CPU_EP, OPENVINO, Wanted, open_graph
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.trained.plan import PlanPruner
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.pruning.trained.recon_layers import layer_spec
from vla_driver.policies.graph_ways import OwnPruner
from vla_driver.policies.in_torch import load_native
from vla_driver.policies.native import NativePolicy
from vla_driver.policies.onnx import OnnxPolicy
from vla_driver.types import HazardKind, Intent, InvalidInput, MetaAction, Observation

Observe = Callable[..., Observation]
HALF = TokenBudget(ratio=0.5, floor=1)
#: Not the random ones: their draw hangs on the last digit of the features, so another engine draws otherwise.
PRUNERS = (
    'none',
    'recon',
    'recon:50',
    'early:1-head',
    'early:1-norm',
    'uniform',
    'divprune',
    'vispruner',
    'visionzip',
    'cdpruner',
    'prune2drive',
)


def _policies(folder: Path, provider: str, monkeypatch: pytest.MonkeyPatch) -> tuple[OnnxPolicy, NativePolicy]:
    monkeypatch.setattr('vla_driver.model.export.opened.providers_for', lambda device: (provider,))
    graphs = OnnxPolicy(OpenedGraphs(folder / 'graphs', folder, Wanted(threads=1)))
    native = load_native(folder)
    assert isinstance(native, NativePolicy)
    return graphs, native


def _prune(graphs: OnnxPolicy, native: NativePolicy, spec: str, folder: Path, budget: TokenBudget = HALF) -> None:
    graphs.set_pruning(graphs.own_pruner(spec) or make_pruner(spec, folder / 'pruner'), budget)
    native.set_pruning(make_pruner(spec, folder / 'pruner'), budget)


@pytest.mark.filterwarnings('error:The given NumPy array is not writable')
@pytest.mark.usefixtures('float32')
@pytest.mark.parametrize(
    ('spec', 'provider'),
    [*((spec, OPENVINO) for spec in PRUNERS), *((spec, CPU_EP) for spec in ('none', 'recon', 'early:1-head'))],
)
def test_plans_are_those_of_torch(
    graphs_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch, spec: str, provider: str
) -> None:
    graphs, native = _policies(graphs_made, provider, monkeypatch)
    _prune(graphs, native, spec, graphs_made)
    assert (graphs.engine.engine, graphs.engine.provider) == ('onnx', provider)
    for index in range(4):  # the memory fills; a camera is lost on the way
        seen = observe(index, missing=('back_left',) if index == 2 else ())
        plan, expected = graphs.plan(seen), native.plan(seen)
        np.testing.assert_allclose(plan.trajectory.positions_m, expected.trajectory.positions_m, atol=1e-4)
        kept, other = graphs.last_selection, native.last_selection
        assert (kept is None) == (other is None)
        if kept is not None and other is not None:
            assert (kept.pruner, kept.stamp_s) == (other.pruner, other.stamp_s)
            for camera, one in kept.cameras.items():
                np.testing.assert_array_equal(one.kept, other.cameras[camera].kept)


@pytest.mark.usefixtures('float32')
def test_one_graph_serves_every_budget(graphs_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, native = _policies(graphs_made, OPENVINO, monkeypatch)
    for spec in ('recon', 'early:1-head'):
        for count in (6, 7, 13):
            _prune(graphs, native, spec, graphs_made, TokenBudget(count=count, floor=1))
            graphs.reset()
            native.reset()
            seen = observe(0)
            here, there = graphs.plan(seen), native.plan(seen)
            np.testing.assert_allclose(here.trajectory.positions_m, there.trajectory.positions_m, atol=1e-4)
            assert graphs.last_selection is not None
            assert graphs.last_selection.kept == count


@pytest.mark.usefixtures('float32')
def test_another_rig_is_another_constant(graphs_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, native = _policies(graphs_made, CPU_EP, monkeypatch)
    seen = observe(0)
    cameras = []
    for camera in seen.rig:
        pose = camera.base_from_camera.copy()
        pose[:3, 3] += (0.5, 0.2, 0.7)
        cameras.append(dataclasses.replace(camera, base_from_camera=pose))
    other = dataclasses.replace(seen, rig=dataclasses.replace(seen.rig, cameras=tuple(cameras)))
    plans = []
    for one in (seen, other, seen):
        graphs.reset()
        native.reset()
        plan = graphs.plan(one)
        plans.append(plan.trajectory.positions_m)
        np.testing.assert_allclose(plans[-1], native.plan(one).trajectory.positions_m, atol=1e-4)
    assert np.abs(plans[0] - plans[1]).max() > 1e-4
    np.testing.assert_array_equal(plans[0], plans[2])


@pytest.mark.usefixtures('float32')
@pytest.mark.parametrize(('spec', 'name'), [('fastv:1', 'fastv'), ('early:1-attention', 'early-attention')])
def test_a_pruner_that_looks_inside_runs_in_torch_and_says_so(
    graphs_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch, spec: str, name: str
) -> None:
    graphs, native = _policies(graphs_made, CPU_EP, monkeypatch)
    _prune(graphs, native, spec, graphs_made)
    assert graphs.engine.engine == 'torch'
    assert f'pruner {name} looks at attention' in graphs.engine.note
    seen = observe(0)
    np.testing.assert_array_equal(graphs.plan(seen).trajectory.positions_m, native.plan(seen).trajectory.positions_m)
    assert graphs.last_selection is not None
    graphs.set_pruning(None)
    assert graphs.engine.engine == 'onnx'
    assert graphs.pruning == (None, None)


def test_what_does_not_fit_changes_nothing(graphs_made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, _ = _policies(graphs_made, CPU_EP, monkeypatch)
    own = graphs.own_pruner('recon')
    graphs.set_pruning(own, HALF)
    with pytest.raises(InvalidInput, match='no token budget'):
        graphs.set_pruning(own)
    with pytest.raises(InvalidInput, match='cannot give each of 6 cameras its floor'):
        graphs.set_pruning(own, TokenBudget(ratio=0.9, floor=9))
    assert graphs.pruning == (own, HALF)


def test_a_pruner_changed_since_is_not_the_graphs_own(
    graphs_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'copy'
    shutil.copytree(graphs_made, folder)
    (folder / 'pruner' / 'config.json').write_text((folder / 'pruner' / 'config.json').read_text() + ' ')
    graphs, _ = _policies(folder, CPU_EP, monkeypatch)
    assert graphs.own_pruner('recon') is None  # torch then scores with what is there now
    assert graphs.own_pruner('early:1-head') is not None


@pytest.mark.usefixtures('float32')
def test_masked_blocks_do_what_ragged_ones_do(small_model: Callable[..., VlaModel]) -> None:
    """Early pruning in fixed shapes, against the ragged one that torch runs."""
    block = small_model().vision.blocks[1]
    torch.manual_seed(1)
    x = torch.randn(1, 10, 32)
    lengths = [3, 0, 5, 2]
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None]
    with torch.no_grad():
        ragged = block.ragged(x, [lengths])
        masked = block.masked(x, owner.unsqueeze(2) != owner.unsqueeze(1))
    torch.testing.assert_close(masked, ragged)


def test_a_block_that_is_not_there_is_refused(small_model: Callable[..., VlaModel]) -> None:
    with pytest.raises(InvalidInput, match='block 2; allowed: 1 to 1'):
        EarlyGraph(small_model(), 2)


def test_weights_are_stored_once(graphs_made: Path) -> None:
    folder = graphs_made / 'graphs'
    manifest = read_manifest(folder)
    assert {'tick', 'encode', 'rest', 'recon', 'early1', 'head1', 'late1'} <= set(manifest.graphs)
    model = (graphs_made / 'model.safetensors').stat().st_size
    # Padded to pages, and with what the exporter folds; each graph's own copy would be several times the model.
    assert (folder / 'weights.bin').stat().st_size < 3 * model + 4096 * 400


@pytest.mark.parametrize('name', ['recon', 'head1'])
def test_joined_graphs_know_the_shapes_within(graphs_made: Path, name: str) -> None:
    """OpenVINO's provider for ONNX Runtime takes a tensor without a known shape for a single number."""
    import onnx

    graph = onnx.load(graphs_made / 'graphs' / f'{name}.onnx', load_external_data=False).graph
    known = {one.name for one in graph.value_info} | {one.name for one in graph.output}
    # Of products, and of what goes on from them; of its own steps between (val_...) the exporter says no shapes.
    made = {
        output
        for node in graph.node
        if node.op_type in ('MatMul', 'Gemm', 'Softmax', 'Split', 'Gelu')
        for output in node.output
        if output.startswith('second/') and not output.startswith('second/val_')
    }
    assert len(made) > 1
    assert made - known == set()


@pytest.fixture(scope='module')
def kept_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that reads kept tokens alone, and its graphs."""
    folder = tmp_path_factory.mktemp('kept') / 'small'
    model = make_small_model(view_config={'reads': 'kept', 'coverage': True, 'hidden_size': 48})
    model.save_pretrained(folder)
    ReconPruner(layer_spec(model.config)).save_pretrained(folder / 'pruner')
    export_checkpoint(folder)
    return folder


@pytest.mark.usefixtures('float32')
@pytest.mark.parametrize('provider', [CPU_EP, OPENVINO])
@pytest.mark.parametrize('spec', ['none', 'recon', 'divprune', 'early:1-norm'])
def test_a_model_that_reads_kept_tokens_alone_remembers_these_alone(
    spec: str, provider: str, kept_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'pooled' in read_manifest(kept_made / 'graphs').graphs['rest'].outputs
    graphs, native = _policies(kept_made, provider, monkeypatch)
    _prune(graphs, native, spec, kept_made)
    for tick in range(4):
        seen = observe(tick)
        ours, theirs = graphs.plan(seen), native.plan(seen)
        np.testing.assert_allclose(ours.trajectory.positions_m, theirs.trajectory.positions_m, atol=1e-3)
        assert ours.uncertainty == pytest.approx(theirs.uncertainty, abs=1e-3)


@pytest.fixture(scope='module')
def whole_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of all parts that a model can have, and its graphs."""
    folder = tmp_path_factory.mktemp('whole') / 'small'
    torch.manual_seed(1)
    model = make_small_model(
        view_config={'reads': 'kept', 'coverage': True, 'hidden_size': 48},
        language_config={
            **SMALL_LANGUAGE,
            'num_experts': 4,
            'experts_per_token': 2,
            'expert_size': 16,
            'shared_size': 16,
            'attention': ['local_strided', 'full'],
            'attention_window': 4,
        },
        action_config={**SMALL_ACTION, 'num_agents': 4, 'agent_existence': 0.01},
        words_config={'grammar': 1},
        memory_config={'recall': True},
        intent=True,
    )
    torch.nn.init.normal_(model.recall.out.weight, std=0.2)  # it says nothing before it is trained
    model.save_pretrained(folder)
    ReconPruner(layer_spec(model.config)).save_pretrained(folder / 'pruner')
    plan = PlanPruner(model.config.view_config, model.config.language_config.hidden_size, directions=3)
    plan.squeeze.load_state_dict(model.view.squeeze.state_dict())  # it is of this model
    with torch.no_grad():
        for parameter in (plan.reads, plan.seen):
            parameter.normal_()
    plan.save_pretrained(folder / 'plan')
    export_checkpoint(folder)
    return folder


@pytest.mark.usefixtures('float32')
def test_plan_pruner_chooses_without_torch_what_it_chooses_in_torch(
    whole_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, native = _policies(whole_made, OPENVINO, monkeypatch)
    for count in (7, 12):
        budget = TokenBudget(count=count, floor=1)
        own = graphs.own_pruner('plan')
        assert isinstance(own, OwnPruner)
        graphs.set_pruning(own, budget)
        native.set_pruning(make_pruner('plan', whole_made / 'pruner'), budget)
        for index in range(2):
            seen = observe(index, missing=('front_left',) if index else ())
            np.testing.assert_allclose(
                graphs.plan(seen).trajectory.positions_m, native.plan(seen).trajectory.positions_m, atol=1e-4
            )
            kept, other = graphs.last_selection, native.last_selection
            assert kept is not None and other is not None
            assert kept.pruner == other.pruner == 'plan' and kept.kept == count
            for camera, one in kept.cameras.items():
                np.testing.assert_array_equal(one.kept, other.cameras[camera].kept)
        graphs.reset()
        native.reset()
    assert graphs.engine.engine == 'onnx' and not graphs.engine.note


@pytest.mark.usefixtures('float32')
@pytest.mark.parametrize(
    ('spec', 'provider'),
    [*((spec, OPENVINO) for spec in ('recon', 'divprune', 'early:1-norm')), ('none', OPENVINO), ('none', CPU_EP)],
)
def test_a_model_of_all_parts_drives_by_graphs(
    spec: str, provider: str, whole_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = read_manifest(whole_made / 'graphs').graphs['rest'].outputs
    # What it remembers is what was kept, and so is known behind the cut.
    beside = ('uncertainty', 'wants_words', 'expert_load', 'pooled')
    assert outputs == ('controls', 'hidden', 'trunk', 'bend', 'votes', *beside)
    graphs, native = _policies(whole_made, provider, monkeypatch)
    assert graphs.needs.intents and native.needs.intents
    if spec != 'none':
        _prune(graphs, native, spec, whole_made)
    intent = Intent(
        0.6, MetaAction.SLOW_DOWN, 2.0, target_speed_mps=3.0, hazard=HazardKind.PERSON, hazard_camera='front'
    )
    plans = []
    for tick, said in enumerate((None, None, intent, intent, dataclasses.replace(intent, stamp_s=-5.0))):
        seen = observe(tick)
        ours, theirs = graphs.plan(seen, said), native.plan(seen, said)
        np.testing.assert_allclose(ours.trajectory.positions_m, theirs.trajectory.positions_m, atol=1e-3)
        assert len(ours.forecasts) == len(theirs.forecasts) > 0
        for one, other in zip(ours.forecasts, theirs.forecasts, strict=True):
            np.testing.assert_allclose(one.positions_m, other.positions_m, atol=1e-2)
            assert one.kind is other.kind
        assert ours.uncertainty == pytest.approx(theirs.uncertainty, abs=1e-3)
        assert ours.wants_words == pytest.approx(theirs.wants_words, abs=1e-3)
        assert (
            list(graphs.last_load) == list(native.last_load) == list(read_manifest(whole_made / 'graphs').expert_layers)
        )
        for layer, load in graphs.last_load.items():
            np.testing.assert_allclose(load, native.last_load[layer], atol=1e-5)
            assert load.shape == (4,) and load.mean() == pytest.approx(1.0)
        plans.append(ours)
    assert [plan.wants_words == 1.0 for plan in plans] == [True, True, False, False, True]
    # Where nobody asks for the others, the plan is the same.
    seen, intent = observe(5), dataclasses.replace(intent, stamp_s=0.9)
    for policy in (graphs, native):
        before = policy.plan(seen, intent)
        policy.reset()
        policy.forecasting = False
        alone = policy.plan(seen, intent)
        policy.reset()
        policy.forecasting = True
        asked = policy.plan(seen, intent)
        assert not alone.forecasts and asked.forecasts and before.forecasts
        np.testing.assert_allclose(alone.trajectory.positions_m, asked.trajectory.positions_m, atol=1e-5)
        assert 'others' not in alone.timing_ms
        policy.reset()


@pytest.mark.usefixtures('float32')
def test_what_was_said_changes_the_plan_of_graphs(
    whole_made: Path, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, _ = _policies(whole_made, OPENVINO, monkeypatch)
    ends = []
    for said in (None, Intent(0.9, MetaAction.STOP, 2.0), Intent(0.9, MetaAction.START, 2.0)):
        graphs.reset()
        ends.append(graphs.plan(observe(2), said).trajectory.positions_m)
    assert np.abs(ends[0] - ends[1]).max() > 1e-4 and np.abs(ends[1] - ends[2]).max() > 1e-4


def test_experts_that_read_other_tokens_are_refused(whole_made: Path) -> None:
    folder = whole_made / 'graphs'
    manifest = read_manifest(folder)
    with np.load(folder / SAMPLE) as stored:
        sample = dict(stored)
    runs = {name: open_graph(folder / f'{name}.onnx', CPU_EP, Wanted()).run for name in ('rig', 'tick')}
    check_runs(manifest, sample, runs, 'float32', CPU_EP)
    load = sample['expected.tick.expert_load']
    elsewhere = np.zeros_like(load)
    np.put_along_axis(elsewhere, load.argmin(axis=-1, keepdims=True), float(load.shape[-1]), axis=-1)
    with pytest.raises(RefusedGraphs, match=r'% of the tokens of the sample are read by other experts.*allowed: 10%'):
        check_runs(manifest, sample | {'expected.tick.expert_load': elsewhere}, runs, 'float32', CPU_EP)
