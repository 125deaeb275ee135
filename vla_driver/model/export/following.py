# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The graphs of a model, each as torch follows it (torch.export) and as ONNX.

Following is Python's work: it takes one core however many there are, and minutes for a dozen graphs.  So several
processes can share it, and what several graphs have in common is followed once (`to_follow`; joining.py puts them
together).
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from vla_driver.model.checkpoint import PRUNER_FOLDER
from vla_driver.model.export.check import OTHERS
from vla_driver.model.export.cuts import (
    EarlyGraph,
    EncodeGraph,
    HeadGraph,
    LateGraph,
    PlanGraph,
    ReconGraph,
    ReconRigGraph,
    RestGraph,
)
from vla_driver.model.export.experts import translations
from vla_driver.model.export.graph import Graph, shapes_of
from vla_driver.model.export.graphs import BlindGraph, OthersGraph, RigGraph, TickGraph
from vla_driver.model.export.manifest import digest_of
from vla_driver.model.export.opened import OF_KEPT
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.registry import PLAN_FOLDER, early_folder
from vla_driver.model.pruning.trained.early import load_early_pruner
from vla_driver.model.pruning.trained.plan import load_plan_pruner
from vla_driver.model.pruning.trained.recon import load_recon_pruner
from vla_driver.workers import run_isolated

#: OpenVINO takes 18 to 20 whole; at 23 norms and attention would stay behind.
OPSET: Final = 20
#: Each process holds the libraries and a model, some 1.5 GB.
_MOST_JOBS: Final = 4


def graphs_of(model: VlaModel, folder: Path) -> tuple[dict[str, Graph], dict[str, str]]:
    """Return all graphs of a model with the pruners in its checkpoint's folder, and the digests of these."""
    others: dict[str, Graph] = {OTHERS: OthersGraph(model)} if model.config.action_config.num_agents else {}
    if model.config.blind:
        return {'blind': BlindGraph(model), **others}, {}
    graphs: dict[str, Graph] = {
        **others,
        'rig': RigGraph(model),
        'tick': TickGraph(model),
        'encode': EncodeGraph(model),
        'encode_attention': EncodeGraph(model, attention=True),
        'rest': RestGraph(model),
    }
    pruners = {}
    if (own := folder / PRUNER_FOLDER).is_dir():
        recon = load_recon_pruner(own, model.config).requires_grad_(False)
        graphs |= {'recon_rig': ReconRigGraph(model, recon), 'recon': ReconGraph(model, recon)}
        pruners[PRUNER_FOLDER] = digest_of(own)
    if (own := folder / PLAN_FOLDER).is_dir():
        plan = load_plan_pruner(own, model.config)
        graphs['plan'] = PlanGraph(model, plan)
        pruners[PLAN_FOLDER] = digest_of(own)
    for block in range(1, len(model.vision.blocks)):
        graphs[f'early{block}'] = EarlyGraph(model, block)
        if (own := folder / early_folder(block)).is_dir():
            head = load_early_pruner(own).head
            assert head is not None
            graphs[f'head{block}'] = HeadGraph(model, head, f'early{block}')
            pruners[early_folder(block)] = digest_of(own)
        graphs[f'late{block}'] = LateGraph(model, block)
    return graphs, pruners


def to_follow(graphs: Mapping[str, Graph]) -> dict[str, Graph]:
    """Return which graphs torch has to follow for these: those that are not made of others, and their pieces."""
    pieces = {name: one for graph in graphs.values() for name, one in graph.pieces().items()}
    return {name: graph for name, graph in graphs.items() if not graph.parts} | pieces


def usual_jobs() -> int:
    """Return how many processes follow graphs where nobody says: one a core, up to four."""
    return min(_MOST_JOBS, len(os.sched_getaffinity(0)))


def followed(graphs: Mapping[str, Graph], model: VlaModel, folder: Path, jobs: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield (name, onnx.ModelProto) of the graphs to follow of those that `graphs_of(model, folder)` gave.

    They come as they are made.
    jobs: how many processes; each loads the model from `folder` anew.
    """
    if jobs == 1 or len(graphs) == 1:
        for name, graph in graphs.items():
            yield name, follow(graph, model)
        return
    import onnx

    names = list(graphs)
    with tempfile.TemporaryDirectory() as between:
        items = [(folder, name, Path(between) / f'{name}.onnx') for name in names]
        made = run_isolated(
            _follow_into, items, jobs=jobs, environment={'OMP_NUM_THREADS': '1'}, per_process=len(items)
        )
        for index, path in made:
            yield names[index], onnx.load(path)


def _follow_into(item: tuple[Path, str, Path]) -> Path:
    """Write one graph of the model in a folder, its weights in a file beside it; return where."""
    import onnx

    folder, name, path = item
    model, graphs = _own_graphs(folder)
    # A protocol buffer ends at 2 GiB, a file beside it does not.
    onnx.save(follow(graphs[name], model), path, save_as_external_data=True, location=f'{name}.data')
    return path


@functools.lru_cache(maxsize=1)
def _own_graphs(folder: Path) -> tuple[VlaModel, dict[str, Graph]]:
    model = load_model(folder, auxiliary=False).requires_grad_(False)
    return model, to_follow(graphs_of(model, folder)[0])


def follow(graph: Graph, model: VlaModel) -> Any:
    """Return the ONNX model of a graph (an onnx.ModelProto)."""
    dimension = torch.export.Dim('K', min=2, max=None if model.config.blind else shapes_of(model).tokens)
    shapes = tuple({1: dimension} if name in OF_KEPT else None for name in graph.inputs)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),
            tuple(graph.example(name) for name in graph.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=(shapes,) if any(shapes) else None,
            external_data=False,
            verbose=False,
            custom_translation_table=translations(),
            optimize=False,  # a third of the time; runtimes do it again, and no slower
        )
        assert program is not None
        return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own insides from the user."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
