# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model cut into graphs: modules of plain tensors around the stages that drive, ready to be exported.

Here are the whole ones, in cuts.py those on both sides of a pruner, in graph.py what all have in common.

What each graph takes and gives is in its `inputs` and `outputs`, by name.  Batch 1 throughout; shapes as in
model/tokens.py, and K: how many tokens stay.

    rig      rays, origins                                  -> what depends on the calibration alone, once per rig
    tick     pictures, remembered, ego, rig                 -> decision, pooled                        nothing pruned
    encode   pictures, ego, rig                             -> features, pooled, text         a pruner's `select`
    rest     features, index, kept, remembered, ego, rig    -> decision                       stands between these two;
                                                      `pooled` is of `rest` where the model reads kept tokens alone
    recon    as encode                                      -> as encode, and scores of ReconPruner
    plan     features, present, spread                      -> contributions, from which PlanPruner chooses
    early{b} pictures, rig                                  -> states of units before block b, tokens as they leave
    head{b}  as early{b}                                    -> as early{b}, scores of the checkpoint's head, completed
    late{b}  states, index, camera, remembered, ego, rig    -> decision, pooled
    units{b} states, index, camera, rig                     -> features, kept features           the first part of late
    others   what a decision holds of it (`OF_OTHERS`)      -> agents, agent_controls          where somebody asks
    patches  pictures, rig                                  -> patches as they leave the encoder; for features on disk

A decision is controls, and what else `decided_by` names; models that can be told an intent take it, too (`TOLD`).
The memory stays outside: what earlier ticks left (`pooled`) comes back as `remembered_*`.  What is not valid in it does
not matter; zeros will do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vla_driver.model.export.graph import (
    EGO,
    OF_OTHERS,
    REMEMBERED,
    RIG,
    Graph,
    decided_by,
    shapes_of,
    told_to,
)
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ModelInputs


class BlindGraph(Graph):
    """A whole tick of the blind control, which sees nothing and remembers nothing."""

    def __init__(self, model: VlaModel) -> None:
        super().__init__(model)
        self.inputs = (*EGO, *told_to(model.config))
        self.outputs = decided_by(model.config)

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        nothing = torch.zeros(1)
        inputs = ModelInputs((), nothing, nothing, nothing, **{name: given[name] for name in EGO})
        return self.read_and_decide(given, None, None, self.model.ego(inputs))


class RigGraph(Graph):
    """What depends on the calibration alone."""

    inputs = ('rays', 'origins')
    outputs = RIG

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        model, shapes = self.model, shapes_of(self.model)
        nothing = torch.zeros(1)
        inputs = ModelInputs(
            images=(),
            present=torch.ones(1, shapes.cameras, dtype=torch.bool),
            rays=given['rays'],
            origins=given['origins'],
            **dict.fromkeys(EGO, nothing),
        )
        tokens = model.vision.tokens(torch.zeros(1, shapes.patches, shapes.patch_width), inputs)
        pooled = model.pool(tokens)
        return (
            model.vision.patch_position(inputs),
            tokens.rays,
            tokens.origins,
            model.position.compute(tokens.rays, tokens.origins),
            model.view.spread.compute(tokens.rays, tokens.origins),
            pooled.rays,
            pooled.origins,
        )


class TickGraph(Graph):
    """A whole tick in which nothing is pruned: the encoder, and `rest` with all tokens kept."""

    parts = ('encode_attention', 'rest')

    def __init__(self, model: VlaModel) -> None:
        super().__init__(model)
        self.inputs = (*self.pictures, 'present', *REMEMBERED, *EGO, *RIG, *told_to(model.config))
        self.outputs = (*decided_by(model.config), 'pooled')

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        model, x = self.model, self.encoded(given)
        for block in model.vision.blocks:
            x = block(x, model.vision.layout)
        tokens = self.tokens_of(given, model.vision.merged(x, given['present'][:, self.camera]))
        ego = model.ego(self.model_inputs(given))
        return *self.read_and_decide(given, tokens, None, ego), model.pool(tokens).features


class OthersGraph(Graph):
    """Everybody else's future, behind any graph that decides: agents [1, A, 8] (`AgentStates.table`) and
    agent_controls [1, A, T, 2].

    The ego's own few tokens run through the flow again, for the others read them.
    """  # fmt: skip

    inputs = OF_OTHERS
    outputs = ('agents', 'agent_controls')

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        flow = self.model.flow
        reflex = Reflex(given['bend'], given['votes'], given['trunk'])  # of which the flow reads no votes
        decoded = flow.decode(given['hidden'], given['votes'].argmax(dim=-1), None, reflex)
        assert decoded.agents is not None
        assert decoded.agent_controls is not None
        return decoded.agents.table(), decoded.agent_controls


class PatchesGraph(Graph):
    """The encoder alone: patches [1, P, d] as they leave its last block, as `VisionEncoder.embed` gives them."""

    outputs = ('patches',)

    def __init__(self, model: VlaModel) -> None:
        super().__init__(model)
        self.inputs = (*self.pictures, 'patch_position')

    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Graph`."""
        x = self.encoded(given)
        for block in self.model.vision.blocks:
            x = block(x, self.model.vision.layout)
        return (x,)
