# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What turns pictures into patch features: torch, or on a CPU an exported graph, where that gives the same."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from vla_driver.model.export.export import export_graph
from vla_driver.model.export.graph import Graph
from vla_driver.model.export.graphs import PatchesGraph
from vla_driver.model.export.manifest import RefusedGraphs
from vla_driver.model.export.session import CPU_EP, NoProvider, Session, Wanted, open_graph, providers_for
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast, precision
from vla_driver.model.tokens import ModelInputs, to_device
from vla_driver.settings.policy import ENGINES
from vla_driver.types import EngineReport, InvalidInput

Float32Array = npt.NDArray[np.float32]

#: Above this many ticks 'auto' makes a graph.  That takes 3 to 5 s and saves 6 to 35 ms a tick (docs/benchmarks.md), so
#: it pays from 130 ticks in bfloat16 and beside other load, from 500 in float32 on quiet cores.
FEW_TICKS: Final = 300
#: How far a graph's features may be from torch's in float32, as a share of their length.
_FLOAT32_OFF: Final = 1e-3
#: How much further than torch in bfloat16 a graph in bfloat16 may be from torch in float32.
_BFLOAT16_TIMES: Final = 2.0


class PatchEncoder(Protocol):
    """Encodes the pictures of a batch."""

    engine: EngineReport

    def __call__(self, inputs: ModelInputs) -> Float32Array:
        """Return the patch features float32 [B, P, d] of inputs on the CPU."""


class TorchPatches:
    """The model itself, a batch at once."""

    def __init__(self, model: VlaModel, device: torch.device | str, note: str = '') -> None:
        self._model, self._device = model, device
        kind = torch.device(device).type
        self.engine = EngineReport('torch', f'torch-{kind}', precision(device), torch.get_num_threads(), note)

    def __call__(self, inputs: ModelInputs) -> Float32Array:
        """See `PatchEncoder`."""
        with torch.inference_mode(), autocast(self._device):
            patches = self._model.vision.embed(to_device(inputs, self._device))
            return np.asarray(patches.float().cpu().numpy())


class GraphPatches:
    """An exported `PatchesGraph`, a tick at a time; what depends on the rig alone comes from torch, once per rig."""

    def __init__(self, graph: Graph, session: Session, note: str = '') -> None:
        self._vision, self._pictures, self._session = graph.model.vision, graph.pictures, session
        self._vision.position.remember()
        self.engine = EngineReport('onnx', session.provider, session.precision, torch.get_num_threads(), note)

    def __call__(self, inputs: ModelInputs) -> Float32Array:
        """See `PatchEncoder`."""
        batch, rows = len(inputs.present), []
        shares = batch // len(inputs.rays)
        for row in range(batch):
            rig = slice(row // shares, row // shares + 1)
            of_rig = dataclasses.replace(inputs, rays=inputs.rays[rig], origins=inputs.origins[rig])
            with torch.inference_mode():
                position = self._vision.patch_position(of_rig).numpy()
            pictures = {
                name: images[row : row + 1].numpy() for name, images in zip(self._pictures, inputs.images, strict=True)
            }
            rows.append(self._session.run({**pictures, 'patch_position': position})['patches'])
        return np.concatenate(rows).astype(np.float32, copy=False)


def choose_encoder(
    model: VlaModel, device: torch.device | str, ticks: int, sample: ModelInputs, engine: str = 'auto'
) -> PatchEncoder:
    """Return what is to encode pictures for a model in evaluation mode, whose weights must stay as they are.

    ticks: how many there are to encode; sample: the first few of them, on which a graph must give what torch does
    before it is used.  engine: one of `ENGINES`; 'auto' makes a graph on a CPU for more than `FEW_TICKS` ticks.
    Where a graph was to be used and is not, torch encodes and the note of its `engine` says why.
    Raises `InvalidInput` for another engine.
    """
    if engine not in ENGINES:
        raise InvalidInput(f'engine {engine!r}, allowed: {", ".join(ENGINES)}')
    on_cpu = torch.device(device).type == 'cpu'
    if engine == 'torch' or (engine == 'auto' and (ticks <= FEW_TICKS or not on_cpu)):
        return TorchPatches(model, device)
    if not on_cpu:
        return TorchPatches(model, device, f'no graph encodes on {device}, only on cpu')
    try:
        return _graph_patches(model, sample)
    except (RefusedGraphs, OSError) as error:  # OSError: there is no place for its file
        return TorchPatches(model, device, f'no graph: {error}')


def _graph_patches(model: VlaModel, sample: ModelInputs) -> GraphPatches:
    """Return an exported graph that gives what torch does; raise `RefusedGraphs` with the reasons where none does."""
    # The caller's model may be in training, or keep its weights in bfloat16; graphs are float32, so is the reference.
    graph = PatchesGraph(copy.deepcopy(model).float().eval().requires_grad_(False))
    wanted = Wanted('cpu', precision('cpu'), torch.get_num_threads())
    with torch.inference_mode():
        reference = graph.model.vision.embed(sample).numpy()
    allowed = _FLOAT32_OFF
    if wanted.precision != 'float32':
        allowed = _BFLOAT16_TIMES * features_off(TorchPatches(model, 'cpu')(sample), reference)
    reasons: list[str] = []
    # A session holds its weights in memory: nothing is left behind, however this process ends.
    with tempfile.TemporaryDirectory(prefix='vla_driver-') as folder:
        path = Path(folder) / 'patches.onnx'
        try:
            export_graph(graph, graph.model, path)
        except Exception as error:  # the exporter's, a disk's: torch encodes as well
            raise RefusedGraphs(f'it could not be exported: {" ".join(str(error).split())[-200:]}') from error
        for provider in providers_for('cpu'):
            try:
                return _checked(graph, open_graph(path, provider, wanted), wanted, sample, reference, allowed, reasons)
            except (NoProvider, RefusedGraphs) as error:
                reasons.append(f'{provider}: {error}')
    raise RefusedGraphs('; '.join(reasons))


def _checked(
    graph: Graph,
    session: Session,
    wanted: Wanted,
    sample: ModelInputs,
    reference: Float32Array,
    allowed: float,
    passed_over: Sequence[str],
) -> GraphPatches:
    if session.precision != wanted.precision:
        raise RefusedGraphs(f'it computes in {session.precision}, not in {wanted.precision}')
    made = GraphPatches(graph, session, '; '.join(passed_over) if session.provider == CPU_EP else '')
    off = features_off(made(sample), reference)
    if not off <= allowed:
        raise RefusedGraphs(
            f'its features of the first ticks are off by {off:.2%} of their length, allowed: {allowed:.1%}'
        )
    return made


def features_off(made: Float32Array, reference: Float32Array) -> float:
    """Return how far made [B, P, d] is from reference, as a share of its length, over all patches together.

    The worst patch alone would say less: rounding to bfloat16 makes outliers, behind which a wrong rig could hide.
    """
    return float(np.linalg.norm(made - reference) / max(1e-9, float(np.linalg.norm(reference))))
