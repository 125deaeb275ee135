# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruning as a stage of a model: one object with hooks, which a backend calls at every tick without asking what it is.

A backend calls, in this order:

    stage.begin()                                        # a new tick
    kept = stage.before_block(number, units)             # in front of every block of the vision encoder
    kept = stage.behind_encoder(tokens, text)            # between encoder and language model
    run = stage.within_prefill(tokens, layout, ...)      # the run is asked after every layer of the language model
    stage.selection(stamp_s)                             # what stayed, for topics and reports

A hook that has nothing to say returns None, or the run in which nothing is ever due, and the backend goes on with all
tokens.  `TokenStage` itself keeps everything; each kind of pruner is a stage of its own, which fills one hook.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vla_driver.model.layers.rays import RayFunction
from vla_driver.model.pruning.base import KeptTokens, Pruner, camera_sizes, needs_attention
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.controls import NoPruner
from vla_driver.model.pruning.in_model import (
    NOTHING_LEAVES,
    InModelPruner,
    Layout,
    PrefillPruning,
    PrefillRun,
    check_stages,
)
from vla_driver.model.pruning.selection import make_selection
from vla_driver.model.pruning.trained.early import EarlyPruner
from vla_driver.model.pruning.trained.plan import PlanPruner
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput, Selection

AnyPruner = Pruner | InModelPruner | EarlyPruner

#: Where a pruner works, and in which part of a tick its time is spent.
VISION, PREFILL = 'vision', 'prefill'


@dataclass(frozen=True)
class Units:
    """The merge units in front of a block of a vision encoder.

    states [B, N, patches, d]: their hidden states; tokens: the tokens that they would make as they are (a backend in
    which nobody reads those gives patch means as features); received: computes the attention [B, N] that each one
    receives in the block to come.
    """

    states: Tensor
    tokens: VisualTokens
    received: Callable[[], Tensor]


@dataclass(frozen=True)
class TokenShapes:
    """A backend's shapes, with random numbers in them: a pruner is tried on these before the first tick.

    config: the checkpoint's; vision_depth, language_depth: how many blocks and layers; tokens: of batch 1, with
    attention; states [1, N, patches, d]: in front of a block; text: how many tokens the language model is asked with;
    device, dtype: where a pruner's weights go (None: as they are stored); completes: whether something in the model
    reads tokens that leave the encoder early, which a head then completes; squeeze [C, D]: the weights by which a
    native model's panorama reads tokens, None where it has none.
    """

    config: Any
    vision_depth: int
    language_depth: int
    tokens: VisualTokens
    states: Tensor
    text: int
    device: torch.device
    dtype: torch.dtype | None = None
    completes: bool = False
    squeeze: Tensor | None = None


class TokenStage:
    """Keeps every token.  What a subclass keeps of the tick under way is in `kept` and `selection`.

    name: the pruner's; needs_attention: whether the encoder must give the tokens the attention they receive;
    needs_pictures: whether the encoder must run (features that were computed before will not do); leaves_within:
    whether tokens leave between layers of the language model.
    """

    name = 'none'
    needs_attention = False
    needs_pictures = False
    leaves_within = False

    def __init__(self) -> None:
        self._tokens: VisualTokens | None = None
        self._kept: KeptTokens | None = None
        self._spent: dict[str, float] = {}

    def fit(self, shapes_of: Callable[[], TokenShapes]) -> None:
        """Bring the weights to where the model computes and try everything once.

        shapes_of: makes the random tokens to try it on, which nobody needs where everything is kept.  Raises
        `InvalidInput`, with the reason, for a pruner that does not fit the model and a budget that cannot be met.
        """

    def check_depth(self, depth: int) -> None:
        """Raise `InvalidInput` unless an encoder of `depth` blocks has the block this stage waits for."""

    def begin(self) -> None:
        """Forget the tick before."""
        self._tokens, self._kept, self._spent = None, None, {}

    def before_block(self, number: int, units: Callable[[], Units]) -> KeptTokens | None:
        """Return which merge units go on into block `number`; None: all."""
        return None

    def complete(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return tokens [B, N, D], made of hidden states [B, N, patches, d] in front of a block, for their readers."""
        return tokens

    def behind_encoder(self, tokens: VisualTokens, text: Tensor) -> KeptTokens | None:
        """Return which tokens [B, N] the language model reads; None: all.

        text [B, T, D]: what it is asked, in its own embedding space.
        """
        return None

    def within_prefill(
        self, tokens: VisualTokens, layout: Callable[[], Layout], embeddings: Tensor, depth: int
    ) -> PrefillRun:
        """Return the run that drops tokens between the layers of one prefill.

        tokens: the visual ones in the sequence; layout: where they stand in embeddings [B, L, D], the input of the
        first of `depth` layers.
        """
        return NOTHING_LEAVES

    @property
    def kept(self) -> KeptTokens | None:
        """What stayed at the tick under way; None: everything."""
        return self._kept

    def selection(self, stamp_s: float) -> Selection | None:
        """Return what stayed at the latest tick, by camera; None before the first and where everything stayed."""
        kept = self.kept
        return None if kept is None or self._tokens is None else make_selection(self.name, stamp_s, self._tokens, kept)

    def share_of(self, timing_ms: Mapping[str, float], prefill: str) -> dict[str, float]:
        """Return the times of a tick with what this stage took under `pruner`, taken out of where it was spent.

        prefill: what the backend calls the part of a tick that begins behind the encoder.
        """
        timing = dict(timing_ms)
        for place, seconds in self.spent.items():
            within = prefill if place == PREFILL else place
            timing['pruner'] = timing.get('pruner', 0.0) + 1e3 * seconds
            timing[within] -= 1e3 * seconds
        return timing

    @property
    def spent(self) -> Mapping[str, float]:
        """Where in the tick this stage spent how many seconds."""
        return self._spent

    @contextmanager
    def _timed(self, place: str, device: torch.device) -> Iterator[None]:
        began = _now(device)
        yield
        self._spent[place] = self._spent.get(place, 0.0) + _now(device) - began


def _now(device: torch.device) -> float:
    """Return the time when everything asked of the device so far is done."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


class BeforeBlock(TokenStage):
    """Tokens leave in front of a block of the vision encoder (early.py)."""

    needs_pictures = True

    def __init__(self, pruner: EarlyPruner, budget: TokenBudget) -> None:
        super().__init__()
        self.pruner, self.budget, self.name = pruner, budget, pruner.name

    def check_depth(self, depth: int) -> None:
        """See `TokenStage`."""
        self.pruner.check(depth)

    def fit(self, shapes_of: Callable[[], TokenShapes]) -> None:
        """See `TokenStage`."""
        shapes = shapes_of()
        self.check_depth(shapes.vision_depth)
        head, sizes = self.pruner.head, (shapes.states.shape[2], shapes.tokens.features.shape[2])
        if head is not None:
            if shapes.completes and head.completion is not None and (head.patches, head.token_width) != sizes:
                raise InvalidInput(
                    f'pruner {self.name!r}: its head completes tokens of {head.patches} patches and width '
                    f'{head.token_width}, this model has {sizes[0]} and {sizes[1]}; train one for it (train early-head)'
                )
            _place(head, shapes.device)
        self.pruner.choose(shapes.states, shapes.tokens.attention, shapes.tokens, self.budget)

    def before_block(self, number: int, units: Callable[[], Units]) -> KeptTokens | None:
        """See `TokenStage`."""
        if number != self.pruner.block:
            return None
        there = units()
        with self._timed(VISION, there.states.device):
            received = there.received() if self.pruner.source == 'attention' else None
            self._kept = self.pruner.choose(there.states, received, there.tokens, self.budget)
        self._tokens = there.tokens
        return self._kept

    def complete(self, states: Tensor, tokens: Tensor) -> Tensor:
        """See `TokenStage`."""
        return tokens if self.pruner.head is None else self.pruner.head.complete(states, tokens)


class BehindEncoder(TokenStage):
    """Tokens leave between the encoder and the language model: ReconPruner, and every pruner with `select`."""

    def __init__(self, pruner: Pruner, budget: TokenBudget) -> None:
        super().__init__()
        self.pruner, self.budget, self.name = pruner, budget, pruner.name
        self.needs_attention = needs_attention(pruner)

    def fit(self, shapes_of: Callable[[], TokenShapes]) -> None:
        """See `TokenStage`."""
        shapes = shapes_of()
        if isinstance(self.pruner, ReconPruner | PlanPruner):
            self.pruner.check(shapes.config)
            if isinstance(self.pruner, PlanPruner) and shapes.squeeze is not None:
                self.pruner.check_weights(shapes.squeeze)
            self.pruner.store(shapes.device, shapes.dtype)
        if isinstance(self.pruner, torch.nn.Module):
            _place(self.pruner, shapes.device)
        self.pruner.select(shapes.tokens, self.budget, shapes.tokens.features[:, : shapes.text])

    def behind_encoder(self, tokens: VisualTokens, text: Tensor) -> KeptTokens | None:
        """See `TokenStage`."""
        with self._timed(PREFILL, tokens.features.device):
            self._kept = self.pruner.select(tokens, self.budget, text)
        self._tokens = tokens
        return self._kept


class WithinPrefill(TokenStage):
    """Tokens leave between two layers of the language model, by its own attention (in_model.py)."""

    leaves_within = True

    def __init__(self, pruner: InModelPruner, budget: TokenBudget) -> None:
        super().__init__()
        self.pruner, self.budget, self.name = pruner, budget, pruner.name
        self._run: PrefillPruning | None = None

    def begin(self) -> None:
        """See `TokenStage`."""
        super().begin()
        self._run = None

    def fit(self, shapes_of: Callable[[], TokenShapes]) -> None:
        """See `TokenStage`."""
        shapes = shapes_of()
        names = shapes.tokens.names
        sizes = camera_sizes(shapes.tokens.camera, len(names))
        check_stages(self.pruner, sizes, names, self.budget, shapes.language_depth)

    def within_prefill(
        self, tokens: VisualTokens, layout: Callable[[], Layout], embeddings: Tensor, depth: int
    ) -> PrefillRun:
        """See `TokenStage`."""
        self._tokens, self._run = tokens, PrefillPruning(self.pruner, self.budget, layout(), embeddings, depth)
        return self._run

    @property
    def kept(self) -> KeptTokens | None:
        """See `TokenStage`."""
        return None if self._run is None else self._run.kept

    @property
    def spent(self) -> Mapping[str, float]:
        """See `TokenStage`."""
        return {} if self._run is None else {PREFILL: self._run.seconds}


class AttentionWanted(TokenStage):
    """Keeps everything, and has the encoder say how much attention each token receives."""

    needs_attention = True


#: For whoever never prunes: training, and features that are encoded once.
KEEP_ALL = TokenStage()


def as_stage(pruner: AnyPruner | None, budget: TokenBudget | None = None) -> TokenStage:
    """Return the stage of a pruner with its budget; None and 'none' keep everything.

    Raises `InvalidInput` for a missing budget, and for what is no pruner.
    """
    if pruner is None or isinstance(pruner, NoPruner):
        return TokenStage()
    if not isinstance(pruner, (Pruner, InModelPruner, EarlyPruner)):
        raise InvalidInput(f'{pruner!r} is no pruner; make_pruner makes one by name')
    if budget is None:
        raise InvalidInput(f'pruner {pruner.name!r}: no token budget; give one, as in TokenBudget(ratio=0.5)')
    if isinstance(pruner, EarlyPruner):
        return BeforeBlock(pruner, budget)
    if isinstance(pruner, InModelPruner):
        return WithinPrefill(pruner, budget)
    return BehindEncoder(pruner, budget)


def _place(module: torch.nn.Module, device: torch.device) -> None:
    """Bring a pruner's weights to the device; its functions of rays are the same at every tick of a rig."""
    module.to(device).eval()
    for part in module.modules():
        if isinstance(part, RayFunction):
            part.remember()
