# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A folder of graphs, opened for driving: hash, provider and outputs are made sure of first.  Without torch."""

from __future__ import annotations

import dataclasses
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.model.export.check import Run, apart_m, check_runs
from vla_driver.model.export.manifest import (
    FOLDER,
    MANIFEST,
    SAMPLE,
    Manifest,
    RefusedGraphs,
    check_digest,
    digest_of,
    read_manifest,
)
from vla_driver.model.export.sample import Arrays
from vla_driver.model.export.session import CPU_EP, NoProvider, Session, Wanted, open_graph, providers_for
from vla_driver.resources import find_cache
from vla_driver.types import EngineReport

#: Best computed exactly: in float32, on the processor, whatever the others run on.  What is computed once for a rig,
#: and PlanPruner, with whom small differences of large numbers decide.
EXACT: Final = ('rig', 'recon_rig', 'plan')
#: Inputs whose second axis is K, how many tokens stay.
OF_KEPT: Final = ('kept_index', 'kept_features', 'kept_states', 'of_camera')


class OpenedGraphs:
    """The graphs of one checkpoint.

    The first `open` settles on a provider: the best one that opens the graphs asked for and gives, on the sample, what
    torch gave at export.  Raises `RefusedGraphs` for graphs that were made of another checkpoint.
    """

    def __init__(self, folder: Path, checkpoint: Path, wanted: Wanted) -> None:
        self.folder, self.checkpoint, self.wanted = folder, checkpoint, wanted
        self.manifest: Manifest = read_manifest(folder)
        check_digest(folder, self.manifest, checkpoint)
        self.provider: str | None = None
        self.precision = wanted.precision
        #: Providers that were passed over, and why.
        self.passed_over: tuple[str, ...] = ()
        self._sessions: dict[str, Session] = {}
        self._sample: Arrays | None = None
        self._fed: dict[str, Mapping[str, npt.NDArray[Any]]] = {}  # what the sample fed the graphs behind a cut

    @property
    def engine(self) -> EngineReport:
        """What computes; why not something faster, where it is the last resort."""
        note = '; '.join(self.passed_over) if self.provider == CPU_EP else ''
        return EngineReport('onnx', self.provider or '', self.precision, self.wanted.thread_count, note)

    def has_pruner(self, folder: str) -> bool:
        """Whether there are graphs of the checkpoint's own pruner in this folder of it, as it is now."""
        made_of, there = self.manifest.pruners.get(folder), self.checkpoint / folder
        return made_of is not None and there.is_dir() and made_of == digest_of(there)

    def open(self, *names: str) -> dict[str, Session]:
        """Return sessions of these graphs, which must make up a way (`check.run_paths`).

        Raises `RefusedGraphs`, with every provider's reason, where none will do.
        """
        missing = [name for name in names if name not in self.manifest.graphs]
        if missing:
            raise RefusedGraphs(f'graphs {self.folder}: there is none named {", ".join(missing)}')
        if all(name in self._sessions for name in names):
            # A way opened meanwhile may run elsewhere: what is reported is of the one that is taken now.
            last = self._sessions[names[-1]]
            self.provider, self.precision = last.provider, last.precision
            return {name: self._sessions[name] for name in names}
        reasons = []
        # The one that runs already first; another one for a way that it does not take.
        tried = providers_for(self.wanted.device)
        for provider in sorted(tried, key=lambda one: one != self.provider):
            try:
                opened = self._open_on(provider, names)
            except (NoProvider, RefusedGraphs) as error:
                reasons.append(f'{provider}: {error}')
                continue
            last, self.passed_over = opened[names[-1]], (*self.passed_over, *reasons)
            self.provider, self.precision = last.provider, last.precision
            self._sessions |= opened
            return opened
        raise RefusedGraphs(f'graphs {self.folder}: {"; ".join(reasons)}')

    def settled(self, name: str, kept: int) -> Session:
        """Return a session of an open graph for `kept` tokens alone; where that fails, the one for any number."""
        free, fed = self._sessions[name], self._fed[name]
        try:
            fixed = open_graph(self.folder / f'{name}.onnx', free.provider, dataclasses.replace(self.wanted, kept=kept))
            feeds = {one: _resized(value, kept) if one in OF_KEPT else value for one, value in fed.items()}
            same = fixed.run(feeds)['controls'], free.run(feeds)['controls']
        except Exception:  # other people's code; the free one has been made sure of
            return free
        metres = apart_m(self.manifest, self._sample_of_folder(), *same)
        return fixed if metres <= self.manifest.tolerance_m[free.precision] else free

    def _open_on(self, provider: str, names: Sequence[str]) -> dict[str, Session]:
        opened = {}
        for name in names:
            where = (CPU_EP, Wanted(threads=self.wanted.threads)) if name in EXACT else (provider, self.wanted)
            opened[name] = self._sessions.get(name) or open_graph(self.folder / f'{name}.onnx', *where)
        precision = opened[names[-1]].precision
        sample = self._sample_of_folder()
        try:
            check_runs(
                self.manifest, sample, {n: self._run_of(n, one) for n, one in opened.items()}, precision, provider
            )
        except RefusedGraphs:
            raise
        except Exception as error:  # a graph, sample or manifest that is not what it is called must not stop torch
            raise RefusedGraphs(f'the sample does not run: {error!r}') from error
        return opened

    def _run_of(self, name: str, session: Session) -> Run:
        """Return a session's `run`, which also keeps what it was fed."""

        def run(feeds: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
            if 'kept_index' in feeds:
                self._fed[name] = feeds
            return session.run(feeds)

        return run

    def _sample_of_folder(self) -> Arrays:
        if self._sample is None:
            try:
                with np.load(self.folder / SAMPLE, allow_pickle=False) as stored:
                    self._sample = dict(stored)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise RefusedGraphs(f'graphs {self.folder}: {SAMPLE} cannot be read: {error}') from error
        return self._sample


def _resized(value: npt.NDArray[Any], kept: int) -> npt.NDArray[Any]:
    """Return [1, K, ...] with another K: the first ones, again and again if need be."""
    return np.take(value, np.arange(kept) % value.shape[1], axis=1)


def graphs_folder(checkpoint: Path) -> Path | None:
    """Return where a checkpoint's graphs are, None where there are none."""
    beside = checkpoint / FOLDER
    if (beside / MANIFEST).is_file():
        return beside
    cached = _cached(checkpoint)
    return cached if (cached / MANIFEST).is_file() else None


def fit(folder: Path, checkpoint: Path) -> bool:
    """Whether graphs are of this version of the package, and of the checkpoint as it is now."""
    try:
        check_digest(folder, read_manifest(folder), checkpoint)
    except RefusedGraphs:
        return False
    return True


def writable_folder(checkpoint: Path) -> Path:
    """Return where to put a checkpoint's graphs: beside its weights, or in the user's cache where that is read-only."""
    return checkpoint / FOLDER if os.access(checkpoint, os.W_OK) else _cached(checkpoint)


def _cached(checkpoint: Path) -> Path:
    return find_cache() / FOLDER / digest_of(checkpoint)[:16]
