# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The ways through a checkpoint's graphs: whole, cut behind the encoder, cut in front of one of its blocks.

At a cut, a pruner says which tokens stay.  The checkpoint's own (ReconPruner, PlanPruner, early heads) have graphs and
choose in numpy; every other one is handed tensors, and torch is imported for it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.model.export.check import OTHERS
from vla_driver.model.export.opened import OpenedGraphs
from vla_driver.model.export.sample import Arrays, of_camera
from vla_driver.model.export.session import Session
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.choosing import Chooser, nearest_set, selection_of
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import InvalidInput, Selection

if TYPE_CHECKING:
    from vla_driver.model.pruning.stage import BeforeBlock, BehindEncoder
    from vla_driver.model.tokens import VisualTokens

Index = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

RECON: Final = 'recon'
PLAN: Final = 'plan'


@dataclass(frozen=True)
class OwnPruner:
    """A pruner of the checkpoint's own that has graphs: 'recon', 'plan', or the head before vision block `block`."""

    name: str
    block: int = 0

    @property
    def spec(self) -> str:
        """What users call it."""
        return f'early:{self.block}-head' if self.block else self.name


class Way(abc.ABC):
    """From one tick's arrays to a decision (`graph.decided_by`) and pooled tokens [1, M, D].

    rig: the constants of the calibration, kept up to date by `use_rig`.
    """

    #: Graphs it takes, and those that make constants of a rig.
    graphs: tuple[str, ...]

    def __init__(self, opened: OpenedGraphs) -> None:
        self.sessions = open_with_others(opened, *self.graphs)
        self.manifest = opened.manifest
        self.rig: Arrays = {}

    def use_rig(self, rays: npt.NDArray[np.float32], origins: npt.NDArray[np.float32]) -> None:
        """Compute what depends on the calibration: rays [1, P, 3], origins [1, C, 3]."""
        self.rig = constants(self.sessions['rig'].run({'rays': rays, 'origins': origins}))

    @abc.abstractmethod
    def run(self, tick: Mapping[str, Any], watch: Stopwatch) -> Arrays:
        """Return a decision and `pooled`; tick: all that is of this tick alone, by the graphs' names."""

    def foresee(self, made: Arrays, watch: Stopwatch) -> Arrays:
        """Return a decision with where others will be, of models that say so."""
        return foreseen(self.sessions, made, watch)

    def selection(self, stamp_s: float) -> Selection | None:
        """Return what stayed at the latest tick."""
        return None


def open_with_others(opened: OpenedGraphs, *graphs: str) -> dict[str, Session]:
    """Return sessions of graphs that decide, and of the one that says where others will be, if there is one."""
    others = (OTHERS,) if OTHERS in opened.manifest.graphs else ()
    return dict(opened.open(*others, *graphs))


def foreseen(sessions: Mapping[str, Session], made: Arrays, watch: Stopwatch) -> Arrays:
    """Return a decision with where others will be, of models that say so."""
    if OTHERS not in sessions:
        return made
    made = {**made, **sessions[OTHERS].run(made)}
    watch.mark('others')
    return made


def constants(arrays: Arrays) -> Arrays:
    """Return arrays that stay as they are, marked so."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


class Whole(Way):
    """One graph; nothing is pruned."""

    graphs = ('rig', 'tick')

    def run(self, tick: Mapping[str, Any], watch: Stopwatch) -> Arrays:
        """See `Way`."""
        made = self.sessions['tick'].run({**self.rig, **tick})
        watch.mark('model')
        return made


class _Cut(Way):
    """A way with a pruner in it; `behind` is the graph behind the cut, `pruner_name` what its selection is called."""

    behind: str
    pruner_name: str

    def __init__(self, opened: OpenedGraphs, budget: TokenBudget) -> None:
        super().__init__(opened)
        self.budget = budget
        self.names = self.manifest.camera_names
        self.cells = of_camera(self.manifest)
        self.camera = self.cells[0]
        self._choose = Chooser(self.camera, self.names, budget)
        self.sessions[self.behind] = opened.settled(self.behind, self._choose.total)
        self._chosen: tuple[Index, Scores | None] | None = None

    def own_choice(self, scores: Scores, present: npt.NDArray[np.bool_]) -> Index:
        """Return which tokens stay [1, K] by scores [1, N]; present [1, C]."""
        kept = self._choose(scores[0], present[0, self.camera])[None]
        self._chosen = kept, scores[0]
        return kept

    def selection(self, stamp_s: float) -> Selection | None:
        """See `Way`."""
        if self._chosen is None:
            return None
        index, scores = self._chosen
        return selection_of(self.pruner_name, stamp_s, self.names, self.cells, index[0], scores)

    def torch_tokens(self, features: npt.NDArray[Any], present: npt.NDArray[np.bool_], **more: Any) -> VisualTokens:
        """Return features [1, N, D] as the tensors that pruners of torch take."""
        import torch

        from vla_driver.model.tokens import VisualTokens

        camera, row, column = (torch.from_numpy(cell) for cell in self.cells)
        return VisualTokens(
            features=torch.from_numpy(features),
            camera=camera,
            row=row,
            column=column,
            rays=torch.tensor(self.rig['token_rays']),  # copies: torch takes no read-only arrays
            origins=torch.tensor(self.rig['token_origins']),
            valid=torch.from_numpy(present[:, self.camera]),
            names=self.names,
            **{name: torch.from_numpy(value) for name, value in more.items()},
        )


class Behind(_Cut):
    """Tokens leave between encoder and language model."""

    graphs: tuple[str, ...] = ('rig', 'encode', 'rest')
    encode, behind = 'encode', 'rest'

    def run(self, tick: Mapping[str, Any], watch: Stopwatch) -> Arrays:
        """See `Way`."""
        given = {**self.rig, **tick}
        seen = self.sessions[self.encode].run(given)
        watch.mark('vision')
        index, kept = self.choose(given, seen)
        watch.mark('pruner')
        feeds = {**given, 'features': seen['features'], 'kept_index': index, 'kept_features': kept}
        made = self.sessions[self.behind].run(feeds)
        watch.mark('rest')
        return made if 'pooled' in made else {**made, 'pooled': seen['pooled']}

    @abc.abstractmethod
    def choose(self, given: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Index, npt.NDArray[Any]]:
        """Return which tokens stay [1, K], and what they hold [1, K, D]."""


class BehindByRecon(Behind):
    """By the checkpoint's own ReconPruner."""

    graphs = ('rig', 'recon_rig', 'recon', 'rest')
    encode = 'recon'
    pruner_name = RECON

    def use_rig(self, rays: npt.NDArray[np.float32], origins: npt.NDArray[np.float32]) -> None:
        """See `Way`."""
        super().use_rig(rays, origins)
        self.rig = {**self.rig, **constants(self.sessions['recon_rig'].run(self.rig))}

    def choose(self, given: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Index, npt.NDArray[Any]]:
        """See `Behind`."""
        index = self.own_choice(seen['scores'], given['present'])
        return index, seen['features'][:, index[0]]


class BehindByPlan(Behind):
    """By the checkpoint's own PlanPruner."""

    graphs = ('rig', 'plan', 'encode', 'rest')
    pruner_name = PLAN

    def choose(self, given: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Index, npt.NDArray[Any]]:
        """See `Behind`."""
        parts = self.sessions['plan'].run({**given, **seen})['contributions'][0]
        index = nearest_set(parts @ parts.T, self.camera, self._choose.quotas, self._choose.total)[None]
        self._chosen = index, np.square(parts).sum(axis=-1)
        return index, seen['features'][:, index[0]]


class BehindInTorch(Behind):
    """By any other pruner with `select`."""

    def __init__(self, opened: OpenedGraphs, stage: BehindEncoder) -> None:
        if stage.needs_attention:
            self.encode = 'encode_attention'
            self.graphs = ('rig', self.encode, 'rest')
        super().__init__(opened, stage.budget)
        self.stage, self.pruner_name = stage, stage.name

    def choose(self, given: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Index, npt.NDArray[Any]]:
        """See `Behind`."""
        import torch

        more = {'attention': seen['attention']} if 'attention' in seen else {}
        with torch.inference_mode():
            tokens = self.torch_tokens(seen['features'], given['present'], **more)
            self.stage.begin()
            kept = self.stage.behind_encoder(tokens, torch.from_numpy(seen['text']))
        assert kept is not None
        index = kept.index.numpy()
        features = seen['features'][:, index[0]] if kept.features is None else kept.features.float().numpy()
        return index, features

    def selection(self, stamp_s: float) -> Selection | None:
        """See `Way`."""
        return self.stage.selection(stamp_s)


class Early(_Cut):
    """Units leave in front of a block of the vision encoder."""

    front: str

    def run(self, tick: Mapping[str, Any], watch: Stopwatch) -> Arrays:
        """See `Way`."""
        given = {**self.rig, **tick}
        seen = self.sessions[self.front].run(given)
        watch.mark('vision')
        index, left = self.choose(given, seen)
        watch.mark('pruner')
        feeds = {
            **given,
            'left_features': left,
            'kept_index': index,
            'kept_states': seen['unit_states'][:, index[0]],
            'of_camera': self.camera[index],
        }
        made = self.sessions[self.behind].run(feeds)
        watch.mark('rest')
        return made

    @abc.abstractmethod
    def choose(self, given: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Index, npt.NDArray[Any]]:
        """Return which units stay [1, K], and what all tokens hold as they leave [1, N, D]."""


class EarlyByHead(Early):
    """By a head of the checkpoint's own."""

    pruner_name = 'early-head'

    def __init__(self, opened: OpenedGraphs, block: int, budget: TokenBudget) -> None:
        self.front, self.behind = f'head{block}', f'late{block}'
        self.graphs = ('rig', self.front, self.behind)
        super().__init__(opened, budget)

    def choose(self, given: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Index, npt.NDArray[Any]]:
        """See `Early`."""
        return self.own_choice(seen['scores'], given['present']), seen['completed']


class EarlyInTorch(Early):
    """By any other source of scores that looks at the units' states alone."""

    def __init__(self, opened: OpenedGraphs, stage: BeforeBlock) -> None:
        block = stage.pruner.block
        self.front, self.behind = f'early{block}', f'late{block}'
        self.graphs = ('rig', self.front, self.behind)
        super().__init__(opened, stage.budget)
        self.stage, self.pruner_name = stage, stage.name

    def choose(self, given: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Index, npt.NDArray[Any]]:
        """See `Early`."""
        import torch

        pruner, left = self.stage.pruner, seen['left_features']
        with torch.inference_mode():
            states = torch.from_numpy(seen['unit_states'])
            kept = pruner.choose(states, None, self.torch_tokens(left, given['present']), self.budget)
            if pruner.head is not None:
                completed = self.stage.complete(states, torch.from_numpy(left)).numpy()
                left = np.where(given['present'][:, self.camera, None], completed, left)
        scores = None if kept.scores is None else kept.scores.numpy()[0]
        self._chosen = kept.index.numpy(), scores
        return kept.index.numpy(), left


def way_of(opened: OpenedGraphs, pruner: OwnPruner, budget: TokenBudget) -> Way:
    """Return the way with a pruner of the checkpoint's own; raises as `TokenBudget.least` does."""
    if pruner.name == RECON:
        return BehindByRecon(opened, budget)
    if pruner.name == PLAN:
        return BehindByPlan(opened, budget)
    if not pruner.block:
        raise InvalidInput(f'pruner {pruner.name!r}: in front of which block?')
    return EarlyByHead(opened, pruner.block, budget)
