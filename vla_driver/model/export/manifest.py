# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a folder of exported graphs says of itself: manifest.json, read without torch.

graphs/manifest.json   this
graphs/*.onnx          the graphs, by name (graphs.py says what each takes and gives)
graphs/weights.bin     the weights, stored once for all graphs
graphs/sample.npz      two ticks: what goes in, and what torch makes of it in float32
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vla_driver.types import InvalidInput

FORMAT: Final = 3
FOLDER: Final = 'graphs'
MANIFEST, WEIGHTS, SAMPLE = 'manifest.json', 'weights.bin', 'sample.npz'
#: Sizes that a policy needs.
_SIZES: Final = ('tokens', 'pooled', 'ticks', 'width')
#: Of a checkpoint (or pruner, or head), what its graphs are made of.
_MADE_OF: Final = ('config.json', 'model.safetensors')


class RefusedGraphs(InvalidInput):
    """Graphs that must not drive, and why; torch drives instead."""


@dataclass(frozen=True)
class GraphEntry:
    """One graph: inputs and outputs by name and in order; nodes: how many operations.

    measured_m: how far, in metres over the plan's positions, ONNX Runtime's CPU provider was from torch at export, both
    in float32; None for graphs that give no plan by themselves.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int
    measured_m: float | None = None


@dataclass(frozen=True)
class Manifest:
    """See the module's docstring.

    checkpoint: digest of what the graphs were made of (`digest_of`); pruners: the same of the checkpoint's own pruners,
    by the name of their folder.  groups: cameras of equal size, ((width, height), names).  tolerance_m: precision ->
    how far positions of the sample may be from torch's in float32.  sizes: tokens, pooled, ticks, width ...
    intent, words: whether the model can be told an intent, and whether it has words; agent_existence: who is less
    likely to be there is not forecast.  expert_layers: those of the language model that `expert_load` is of; graphs
    made before there was such an output have none.
    """

    checkpoint: str
    pruners: Mapping[str, str]
    made_with: str
    opset: int
    groups: tuple[tuple[tuple[int, int], tuple[str, ...]], ...]
    patch_size: int
    merge_size: int
    ages_s: tuple[float, ...]
    tolerance_s: float
    reset_gap_s: float
    dt_s: float
    intent: bool
    words: bool
    agent_existence: float
    sizes: Mapping[str, int]
    tolerance_m: Mapping[str, float]
    graphs: Mapping[str, GraphEntry]
    expert_layers: tuple[int, ...] = ()

    @property
    def camera_groups(self) -> tuple[tuple[tuple[int, int], tuple[str, ...]], ...]:
        """As `VlaConfig.camera_groups`."""
        return self.groups

    @property
    def camera_names(self) -> tuple[str, ...]:
        """As `VlaConfig.camera_names`."""
        return tuple(name for _, names in self.groups for name in names)

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Camera -> (width, height) that the model works at."""
        return {name: size for size, names in self.groups for name in names}

    def patch_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches of an image of `size` (width, height)."""
        return size[1] // self.patch_size, size[0] // self.patch_size

    def token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of visual tokens of an image of `size` (width, height)."""
        rows, columns = self.patch_grid(size)
        return rows // self.merge_size, columns // self.merge_size

    def write(self, folder: Path) -> None:
        """Write manifest.json."""
        entries = {'format': FORMAT, **dataclasses.asdict(self)}
        (folder / MANIFEST).write_text(json.dumps(entries, indent=1) + '\n', encoding='utf-8')


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder of graphs; raise `RefusedGraphs` where it cannot be used."""
    path = folder / MANIFEST
    try:
        entries: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        if entries.pop('format') != FORMAT:
            raise RefusedGraphs(f'graphs {folder}: written by another version of this package; {_AGAIN}')
        graphs = {
            name: GraphEntry(tuple(one['inputs']), tuple(one['outputs']), one['nodes'], one['measured_m'])
            for name, one in entries.pop('graphs').items()
        }
        groups = tuple(((int(w), int(h)), tuple(names)) for (w, h), names in entries.pop('groups'))
        ages_s = tuple(float(age) for age in entries.pop('ages_s'))
        experts = tuple(int(number) for number in entries.pop('expert_layers', ()))
        manifest = Manifest(graphs=graphs, groups=groups, ages_s=ages_s, expert_layers=experts, **entries)
        sizes = () if 'blind' in graphs else _SIZES
        if not isinstance(manifest.checkpoint, str) or any(int(manifest.sizes[name]) < 1 for name in sizes):
            raise ValueError(f'checkpoint {manifest.checkpoint!r}, sizes {dict(manifest.sizes)}')
        if any(not float(manifest.tolerance_m[one]) > 0 for one in ('float32', 'bfloat16')):
            raise ValueError(f'tolerance_m {dict(manifest.tolerance_m)}')
        return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RefusedGraphs):
            raise
        raise RefusedGraphs(f'graphs {folder}: {MANIFEST} cannot be read ({error!r}); {_AGAIN}') from error


_AGAIN: Final = 'make them again: vla_driver export CHECKPOINT'


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's configuration and weights; raise `InvalidInput` where they are not there."""
    digest = hashlib.sha256()
    try:
        for name in _MADE_OF:
            digest.update((folder / name).read_bytes())
    except OSError as error:
        raise InvalidInput(f'checkpoint {folder}: {error}') from error
    return digest.hexdigest()


def check_digest(folder: Path, manifest: Manifest, checkpoint: Path) -> None:
    """Raise `RefusedGraphs` unless graphs were made of this checkpoint."""
    there = digest_of(checkpoint)
    if manifest.checkpoint != there:
        raise RefusedGraphs(
            f'graphs {folder}: made of a checkpoint with digest {manifest.checkpoint[:12]}, but {checkpoint} has '
            f'{there[:12]} (its weights or its config.json were changed since); {_AGAIN}'
        )
