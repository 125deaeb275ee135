# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The graphs on both sides of a pruner, and those of the checkpoint's own pruners; graphs.py says what each takes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vla_driver.model.export.graph import (
    EGO,
    OF_POOLED,
    OF_TOKENS,
    REMEMBERED,
    RIG,
    Graph,
    answered,
    decided_by,
    told_to,
)
from vla_driver.model.layers.gather import take
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.pruning.trained.early import EarlyHead
from vla_driver.model.pruning.trained.plan import PlanPruner
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.pruning.trained.recon_layers import NativeStack
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


class EncodeGraph(Graph):
    """Everything before a pruner that stands between encoder and language model.

    attention: also gives the attention [1, N] that tokens receive in the last block.
    """

    def __init__(self, model: VlaModel, attention: bool = False) -> None:
        super().__init__(model)
        self.attention = attention
        self.parts = () if attention else ('encode_attention',)
        self.inputs = (*self.pictures, 'present', *EGO, *RIG)
        # A model that reads the kept tokens alone remembers these alone, and so does not know yet what.
        pooled = () if model.config.reads_kept else ('pooled',)
        self.outputs = ('features', *pooled, 'text', *(('attention',) if attention else ()))

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        vision, x = self.model.vision, self.encoded(given)
        received: list[Tensor] | None = [] if self.attention else None
        last = len(vision.blocks) - 1
        for number, block in enumerate(vision.blocks):
            x = block(x, vision.layout, received if number == last else None)
        features = vision.merged(x, given['present'][:, self.camera])
        kept_only = self.model.config.reads_kept
        pooled = () if kept_only else (self.model.pool(self.tokens_of(given, features)).features,)
        given_too = () if received is None else (vision.per_token(received),)
        return features, *pooled, self.model.ego(self.model_inputs(given)), *given_too


class RestGraph(Graph):
    """Everything behind such a pruner: index [1, K] says which tokens stay, kept [1, K, D] what they hold by now."""

    def __init__(self, model: VlaModel) -> None:
        super().__init__(model)
        told = told_to(model.config)
        self.inputs = ('features', 'kept_index', 'kept_features', 'present', *REMEMBERED, *EGO, *RIG, *told)
        self.outputs = (*decided_by(model.config), *(('pooled',) if model.config.reads_kept else ()))

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        tokens = self.tokens_of(given, given['features'])
        kept = KeptTokens(given['kept_index'], features=given['kept_features'])
        decided = self.read_and_decide(given, tokens, kept, self.model.ego(self.model_inputs(given)))
        return (*decided, self.model.pool(tokens, kept).features) if self.model.config.reads_kept else decided


class ReconGraph(Graph):
    """The scores [1, N] of a ReconPruner; `recon_position` is its own embedding of the rays."""

    inputs = ('features', 'present', 'recon_position', 'token_rays', 'token_origins')
    outputs = ('scores',)
    behind = 'encode'

    def __init__(self, model: VlaModel, pruner: ReconPruner) -> None:
        super().__init__(model)
        self.pruner = pruner

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        assert isinstance(self.pruner.stack, NativeStack)
        with answered(self.pruner.stack.position, given['recon_position']):
            return (self.pruner.score(self.tokens_of(given, given['features'])),)


class PlanGraph(Graph):
    """What each token contributes to the plan [1, N, R], as a PlanPruner measures it; behind `encode`."""

    inputs = ('features', 'present', 'spread')
    outputs = ('contributions',)

    def __init__(self, model: VlaModel, pruner: PlanPruner) -> None:
        pruner.check_weights(model.view.squeeze.weight)
        super().__init__(model)
        self.pruner = pruner

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        return (self.pruner.contributed(given['features'], given['spread'], given['present'][:, self.camera]),)


class ReconRigGraph(Graph):
    """What ReconPruner needs of the calibration."""

    inputs = ('token_rays', 'token_origins')
    outputs = ('recon_position',)

    def __init__(self, model: VlaModel, pruner: ReconPruner) -> None:
        super().__init__(model)
        self.pruner = pruner

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        assert isinstance(self.pruner.stack, NativeStack)
        return (self.pruner.stack.position.compute(given['token_rays'], given['token_origins']),)


class EarlyGraph(Graph):
    """Everything before a pruner in front of vision block `block`.

    unit_states [1, N, patches, d]; left_features [1, N, D]: the tokens that these make as they are.
    """

    outputs = ('unit_states', 'left_features')

    def __init__(self, model: VlaModel, block: int) -> None:
        super().__init__(model)
        if not 1 <= block < len(model.vision.blocks):
            raise InvalidInput(f'block {block}; allowed: 1 to {len(model.vision.blocks) - 1} of this encoder')
        self.block = block
        self.inputs = (*self.pictures, 'present', *RIG)

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        vision, x = self.model.vision, self.encoded(given)
        for block in list(vision.blocks)[: self.block]:
            x = block(x, vision.layout)
        return vision.by_token(x), vision.merged(x, given['present'][:, self.camera])


class HeadGraph(Graph):
    """A trained head on what `EarlyGraph` gives: scores [1, N], and the tokens that leave, completed [1, N, D]."""

    inputs = ('unit_states', 'left_features', 'present')
    outputs = ('scores', 'completed')

    def __init__(self, model: VlaModel, head: EarlyHead, behind: str) -> None:
        super().__init__(model)
        self.head, self.behind = head, behind

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        states, left = given['unit_states'], given['left_features']
        valid = given['present'][:, self.camera].unsqueeze(-1)
        return self.head(states), torch.where(valid, self.head.complete(states, left), left)


#: What the graphs behind the cut in front of a block are given of the units that stay.
_CUT = ('kept_states', 'left_features', 'kept_index', 'of_camera', 'present')


def _gone_on(graph: Graph, block: int, given: Mapping[str, Tensor]) -> VisualTokens:
    """Return all tokens after the blocks from `block` on have seen the kept ones alone."""
    left = graph.tokens_of(given, given['left_features'])
    states, of_camera, index = (given[name] for name in ('kept_states', 'of_camera', 'kept_index'))
    return graph.model.vision.go_on_masked(block, states, of_camera, left, index)


class UnitsGraph(Graph):
    """From such a cut to the language model: all tokens [1, N, D], and the kept ones [1, K, D].

    kept_index [1, K]: which units stay; kept_states [1, K, patches, d]: theirs; of_camera [1, K]: whose they are.
    """

    def __init__(self, model: VlaModel, block: int) -> None:
        super().__init__(model)
        self.block = block
        # What is remembered of the kept tokens alone, `RestGraph` says.
        pooled = () if model.config.reads_kept else ('pooled',)
        self.inputs = (*_CUT, *OF_TOKENS, *OF_POOLED)
        self.outputs = ('features', 'kept_features', *pooled)

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        tokens = _gone_on(self, self.block, given)
        pooled = () if self.model.config.reads_kept else (self.model.pool(tokens).features,)
        return tokens.features, take(tokens.features, given['kept_index']), *pooled


class LateGraph(Graph):
    """Everything behind such a pruner: `UnitsGraph`, whose inputs these are, and `RestGraph`."""

    def __init__(self, model: VlaModel, block: int) -> None:
        super().__init__(model)
        self.block, self.parts = block, (f'units{block}', 'rest')
        self.inputs = (*_CUT, *REMEMBERED, *EGO, *RIG, *told_to(model.config))
        self.outputs = (*decided_by(model.config), 'pooled')

    def pieces(self) -> dict[str, Graph]:
        """See `Graph`."""
        return {self.parts[0]: UnitsGraph(self.model, self.block)}

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        tokens, kept = _gone_on(self, self.block, given), KeptTokens(given['kept_index'])
        ego = self.model.ego(self.model_inputs(given))
        return *self.read_and_decide(given, tokens, kept, ego), self.model.pool(tokens, kept).features
