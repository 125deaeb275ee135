# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruning in the loop of training: what a pruner leaves must do, and lead to what all tokens would have led to.

At every step one pruner, drawn among several, drops a share of the visual tokens, drawn too.  The model that reads the
rest is taught by the expert and by itself, unpruned: what it would have read off the whole panorama, how it would have
steered, which anchor it would have voted for (self-distillation, without a gradient to the teacher).  By the expert
alone, from few ticks, it would unlearn more than it learns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.layers.gather import take
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.stages import VlaStages
from vla_driver.model.pruning.base import KeptTokens, Pruner
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.tokens import VisualTokens


def budget_of(tokens: VisualTokens, ratio: float) -> TokenBudget:
    """Return the budget that drops a share of tokens [B, N, D], as far as every camera keeps one."""
    count = len(tokens.camera)
    return TokenBudget(count=max(len(tokens.names), count - int(count * ratio)))


@dataclass
class PrunedTraining:
    """Which pruners, how much they drop at most, and at which share of the steps nothing is dropped."""

    pruners: Sequence[Pruner] = ()
    max_ratio: float = 0.8
    whole: float = 0.2
    #: Of the latest step, for the log.
    drawn: tuple[str, float] = field(default=('none', 0.0))

    @torch.no_grad()
    def draw(self, tokens: VisualTokens, text: Tensor) -> KeptTokens | None:
        """Return what a pruner leaves of the tokens, the same number in every row; None: all of them.

        text [B, T, D]: as in `Pruner.select`.
        """
        self.drawn = ('none', 0.0)
        if not self.pruners or float(torch.rand(())) < self.whole:
            return None
        ratio = self.max_ratio * float(torch.rand(()))
        pruner = self.pruners[int(torch.randint(len(self.pruners), ()))]
        self.drawn = (pruner.name, ratio)
        return pruner.select(tokens, budget_of(tokens, ratio), text)


@dataclass(frozen=True)
class Reading:
    """What was read off a panorama [B, H], and the reflex that follows."""

    read: Tensor
    reflex: Reflex


def read_panorama(model: VlaStages, tokens: VisualTokens, kept: KeptTokens | None) -> Tensor:
    """Return what the model reads [B, H] off the tokens [B, N, D], or off those that are kept."""
    features, valid = tokens.features, tokens.valid
    spread = model.view.spread(tokens.rays, tokens.origins)
    if kept is not None:
        features = take(features, kept.index) if kept.features is None else kept.features
        valid, spread = take(valid, kept.index), take(spread, kept.index)
    read: Tensor = model.view(features, spread, valid)[0]
    return read


@contextlib.contextmanager
def _as_driven(*modules: nn.Module) -> Iterator[None]:
    """Within, modules compute as they do in a vehicle."""
    training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, before in zip(modules, training, strict=True):
            module.train(before)


@torch.no_grad()
def whole_reading(model: VlaStages, tokens: VisualTokens, ego: Tensor, recalled: Tensor | None = None) -> Reading:
    """Return what the model reads off all tokens when it drives; recalled [B, H]: as in `VlaStages.recalled`."""
    with _as_driven(model.view, model.reflexes):
        read = read_panorama(model, tokens, None)
        read = read if recalled is None else read + recalled
        return Reading(read, model.reflexes(read, ego))


def difference(pruned: Reading, whole: Reading) -> dict[str, Tensor]:
    """Return how far a reading is from that of all tokens.

    read, bend: mean squared errors as shares of the variance over the batch, of what was read and of the steering;
    votes: Kullback-Leibler divergence of the votes for anchors, nats.
    """
    return {
        'read': _share(pruned.read, whole.read),
        'bend': _share(pruned.reflex.bend, whole.reflex.bend),
        'votes': F.kl_div(
            pruned.reflex.votes.log_softmax(dim=-1),
            whole.reflex.votes.log_softmax(dim=-1),
            reduction='batchmean',
            log_target=True,
        ),
    }


def _share(value: Tensor, wanted: Tensor) -> Tensor:
    value, wanted = value.float(), wanted.float()
    return (value - wanted).square().mean() / wanted.var(dim=0).mean().clamp(min=1e-4)


def teach_itself(
    model: VlaStages,
    tokens: VisualTokens,
    ego: Tensor,
    read: Tensor | None,
    reflex: Reflex,
    recalled: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the loss 'itself': how far what was read off the kept tokens is from what all tokens would have given.

    read [B, H], reflex: of the pruned pass; recalled [B, H]: what of `read` is of earlier ticks, the same for both.
    """
    if read is None:
        return {}
    apart = difference(Reading(read, reflex), whole_reading(model, tokens, ego, recalled))
    return {'itself': apart['read'] + apart['votes'] + apart['bend'].clamp(max=10.0)}
