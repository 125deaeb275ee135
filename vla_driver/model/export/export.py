# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A native checkpoint to ONNX graphs, each compared with torch as soon as it is made.

torch.export follows the modules as they are, in float32 and outside autocast; a runtime computes in bfloat16 where
that pays.  The weights are stored once for all graphs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from vla_driver.model.checkpoint import checkpoint_kind, resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.model.export.check import Run, plan_error_m, run_paths
from vla_driver.model.export.following import OPSET, follow, followed, graphs_of, to_follow
from vla_driver.model.export.graph import Graph, cells_of, shapes_of
from vla_driver.model.export.joining import joined, keeping_all, only
from vla_driver.model.export.manifest import MANIFEST, SAMPLE, WEIGHTS, GraphEntry, Manifest, digest_of
from vla_driver.model.export.sample import Arrays, sample_index, sample_rays, sample_ticks
from vla_driver.model.export.session import COMPILED, CPU_EP, Wanted, open_graph
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import InvalidInput

#: Smaller tensors stay in the graphs' own files, where shapes can be worked out from them.
_SHARED_BYTES: Final = 1024
#: Folders of exports under way.
_UNFINISHED: Final = '.graphs-'
#: How far positions of the sample may be from torch's in float32 (and in bfloat16, where torch itself is not nearer).
TOLERANCE_M: Final = {'float32': 1e-3, 'bfloat16': 0.06}


def export_checkpoint(
    name_or_path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    on_graph: Callable[[str, int], object] | None = None,
    jobs: int = 1,
) -> Path:
    """Write the graphs of a native checkpoint; return their folder.

    out: the folder, by default `graphs` in the checkpoint's; it is replaced as a whole, once all is there.
    on_graph: told each graph's name when torch has followed it, and how many there will be.
    jobs: how many processes follow graphs, each with a model of its own; 1: this one.
    Raises InvalidInput for a checkpoint that is no native one, for a folder that cannot be written, and where a graph
    does not give what torch does.
    """
    folder = resolve_checkpoint(name_or_path)
    if (kind := checkpoint_kind(folder)) != VlaConfig.model_type:
        raise InvalidInput(f'checkpoint {folder} is a {kind!r}: only native ones are exported; it runs in torch')
    target = Path(out) if out is not None else folder / 'graphs'
    _refuse_other_folders(target)
    model = load_model(folder, auxiliary=False).requires_grad_(False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=_UNFINISHED) as made:
            work = Path(made) / 'graphs'
            work.mkdir()
            (Path(made) / 'old').mkdir()
            _write(model, folder, work, on_graph or (lambda name, count: None), jobs)
            _replace(target, work, Path(made) / 'old')
    except OSError as error:
        raise InvalidInput(f'graphs cannot be written to {target}: {error}; name another folder') from error
    return target


def _refuse_other_folders(target: Path) -> None:
    """Raise `InvalidInput` for a folder in which there is anything but graphs: it would be gone."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InvalidInput(f'{target} is a file: name a folder')
    found = sorted(one.name for one in target.iterdir())
    ours = {MANIFEST, WEIGHTS, SAMPLE, COMPILED}
    others = [name for name in found if name not in ours and not name.endswith('.onnx')]
    # Others have a manifest.json, too.
    if others or (found and not {MANIFEST, WEIGHTS} <= set(found)):
        raise InvalidInput(f'{target} is not empty and holds other things than graphs: name another folder')


def _replace(target: Path, work: Path, aside: Path) -> None:
    """Put `work` where `target` is; two who do so at once both succeed, one of them last."""
    for last in (False, True):
        with contextlib.suppress(FileNotFoundError):
            target.rename(aside / str(last))
        try:
            work.rename(target)
            return
        except OSError:  # somebody else was quicker: theirs goes aside, too
            if last:
                raise


def _sweep(folder: Path) -> None:
    """Remove what exports that were killed have left, an hour ago or more."""
    for left in folder.glob(f'{_UNFINISHED}*'):
        if time.time() - left.stat().st_mtime > 3600.0:
            shutil.rmtree(left, ignore_errors=True)


def _write(model: VlaModel, folder: Path, work: Path, on_graph: Callable[[str, int], object], jobs: int) -> None:
    import onnx

    graphs, pruners = graphs_of(model, folder)
    weights = _Weights(work / WEIGHTS)
    made: dict[str, Any] = {}
    wanted = to_follow(graphs)
    for name, one in followed(wanted, model, folder, jobs):
        weights.take(one)
        made[name] = one
        on_graph(name, len(wanted))
    weights.close()
    for name in graphs:
        onnx.save(_whole(name, graphs, made, model), work / f'{name}.onnx')
    manifest = _manifest(model, folder, graphs, pruners)
    sample = make_sample(model, graphs)
    np.savez_compressed(work / SAMPLE, allow_pickle=False, **sample)
    entries = _measured(manifest, sample, work, graphs)
    tolerance = {
        **TOLERANCE_M,
        'bfloat16': max(TOLERANCE_M['bfloat16'], 2.0 * _bfloat16_error_m(manifest, sample, graphs)),
    }
    Manifest(**{**vars(manifest), 'graphs': entries, 'tolerance_m': tolerance}).write(work)


def _whole(name: str, graphs: Mapping[str, Graph], followed: Mapping[str, Any], model: VlaModel) -> Any:
    """Return the ONNX model of a graph, joined where it is made of others."""
    graph = graphs[name]
    if graph.behind:
        # What scores tokens runs in one go with what makes them: a call less, and nothing is copied between.
        first = _whole(graph.behind, graphs, followed, model)
        # The text is for pruners of torch, which look at it; these do not.
        outputs = [one.name for one in first.graph.output if one.name != 'text']
        return only(joined(first, followed[name]), (*outputs, *graph.outputs))
    if not graph.parts:
        return followed[name]
    # What reads the tokens is followed once for all ways, for it is most of the work.
    first, *more = (followed[part] for part in graph.parts)
    for second in more:
        if 'kept_index' not in graph.inputs:
            second = keeping_all(second, shapes_of(model).tokens, {'kept_features': 'features'})
        first = joined(first, second)
    return only(first, graph.outputs)


def export_graph(graph: Graph, model: VlaModel, path: Path) -> None:
    """Write one graph of a model in memory to `path`, its weights beside it; it is not compared with torch."""
    import onnx

    one, weights = follow(graph, model), _Weights(path.with_name(WEIGHTS))
    try:
        weights.take(one)
    finally:
        weights.close()
    onnx.save(one, path)


class _Weights:
    """One file for the weights of several graphs; what two of them hold is stored once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open('wb')
        self._places: dict[bytes, tuple[int, int]] = {}

    def take(self, model: Any) -> None:
        """Move a graph's large tensors here; where it is saved beside this file, it finds them."""
        import onnx

        for tensor in model.graph.initializer:
            data = tensor.raw_data
            if len(data) < _SHARED_BYTES:
                continue
            offset, length = self._place(data)
            tensor.ClearField('raw_data')
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (('location', self._path.name), ('offset', offset), ('length', length)):
                tensor.external_data.add(key=key, value=str(value))

    def _place(self, data: bytes) -> tuple[int, int]:
        digest = hashlib.sha256(data).digest()
        if digest not in self._places:
            # Aligned, so that a runtime can use the file as it lies in memory.
            self._file.write(b'\0' * (-self._file.tell() % 4096))
            self._places[digest] = (self._file.tell(), len(data))
            self._file.write(data)
        return self._places[digest]

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def _manifest(model: VlaModel, folder: Path, graphs: Mapping[str, Graph], pruners: Mapping[str, str]) -> Manifest:
    config, memory = model.config, model.config.memory_config
    sizes = (
        {}
        if config.blind
        else {name: value for name, value in vars(shapes_of(model)).items() if isinstance(value, int)}
    )
    return Manifest(
        checkpoint=digest_of(folder),
        pruners=pruners,
        made_with=f'torch {torch.__version__}',
        opset=OPSET,
        groups=config.camera_groups,
        patch_size=config.vision_config.patch_size,
        merge_size=config.vision_config.spatial_merge_size,
        ages_s=tuple(float(age) for age in memory.ages_s),
        tolerance_s=float(memory.tolerance_s),
        reset_gap_s=float(memory.reset_gap_s),
        dt_s=float(config.action_config.dt_s),
        intent=bool(config.intent),
        words=bool(config.words_config.grammar),
        agent_existence=float(config.action_config.agent_existence),
        sizes=sizes,
        tolerance_m=TOLERANCE_M,
        graphs={name: GraphEntry(graph.inputs, graph.outputs, 0) for name, graph in graphs.items()},
        expert_layers=tuple(sorted(config.language_config.routed_layers)),
    )


def make_sample(model: VlaModel, graphs: Mapping[str, Graph]) -> Arrays:
    """Return the sample's inputs, and what torch makes of them in float32 (`check.run_paths` names the outputs)."""
    config = model.config
    sizes = (1, 1, 1) if config.blind else (lambda s: (s.pooled, s.ticks, s.width))(shapes_of(model))
    first, second = sample_ticks(config, *sizes)
    arrays: Arrays = {}
    if not config.blind:
        arrays['rays'], arrays['origins'] = sample_rays(config)
        arrays['kept_index'] = sample_index(shapes_of(model).tokens)
        arrays['of_camera'] = cells_of(model)[0].numpy()[arrays['kept_index']]
    arrays |= {f'first.{name}': value for name, value in first.items()}
    arrays |= {f'second.{name}': value for name, value in second.items()}
    expected = run_paths(runs_in_torch(graphs), arrays)
    return arrays | {f'expected.{name}': value for name, value in expected.items()}


def runs_in_torch(graphs: Mapping[str, Graph], autocast: bool = False) -> dict[str, Run]:
    """Return graphs as functions of arrays, run by torch in float32 or, for comparison, in bfloat16."""
    runs = {name: _in_torch(graph, autocast) for name, graph in graphs.items()}

    def both(first: Run, second: Run) -> Run:
        def run(feeds: Mapping[str, Any]) -> Arrays:
            made = dict(first(feeds))
            return {**made, **second({**feeds, **made})}

        return run

    return {name: both(runs[g.behind], runs[name]) if g.behind else runs[name] for name, g in graphs.items()}


def _in_torch(graph: Graph, autocast: bool) -> Run:
    def run(feeds: Mapping[str, Any]) -> Arrays:
        tensors = [torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in graph.inputs]
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            outputs = graph(*tensors)
        return {name: value.float().numpy() for name, value in zip(graph.outputs, outputs, strict=True)}

    return run


def _measured(manifest: Manifest, sample: Arrays, work: Path, graphs: Mapping[str, Graph]) -> dict[str, GraphEntry]:
    """Return the graphs' entries with what ONNX Runtime makes of the sample; raise `InvalidInput` where it is wrong."""
    import onnx

    sessions = {name: open_graph(work / f'{name}.onnx', CPU_EP, Wanted()).run for name in graphs}
    errors = plan_error_m(manifest, sample, run_paths(sessions, sample))
    for name, metres in errors.items():
        if not metres <= TOLERANCE_M['float32']:
            raise InvalidInput(
                f'graph {name}: its plan of the sample is {metres:.2g} m from that of torch, allowed: '
                f'{TOLERANCE_M["float32"]} m; this checkpoint runs in torch alone'
            )
    entries = {}
    for name in graphs:
        graph = onnx.load(work / f'{name}.onnx', load_external_data=False).graph
        inputs, outputs = (tuple(one.name for one in ends) for ends in (graph.input, graph.output))
        entries[name] = GraphEntry(inputs, outputs, len(graph.node), errors.get(name))
    return entries


def _bfloat16_error_m(manifest: Manifest, sample: Arrays, graphs: Mapping[str, Graph]) -> float:
    """Return how far torch itself is in bfloat16 from float32, in metres on the sample."""
    return max(plan_error_m(manifest, sample, run_paths(runs_in_torch(graphs, autocast=True), sample)).values())
