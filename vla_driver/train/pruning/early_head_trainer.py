# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of an early head's training, and how well it says what its teacher says.

The head sees the hidden states before one block of the frozen encoder, the teacher (a trained ReconPruner) the finished
tokens of the same pictures; the head learns the teacher's answer, the probability that a token is worth keeping, by
cross-entropy.  Where the model reads tokens that have left, it also learns to complete those: squared distance to the
finished ones.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_driver.model.precision import autocast
from vla_driver.model.pruning.base import keep_best
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.trained.early import EarlyHead
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.tokens import VisualTokens, to_device
from vla_driver.train.optimisation import cosine_factor, set_rate
from vla_driver.train.pruning.pruner_trainer import RATIOS
from vla_driver.train.pruning.recon_batches import ReconBatch
from vla_driver.train.pruning.reconstruction import recalls, token_shares
from vla_driver.train.pruning.token_encoder import TokenEncoder


class EarlyHeadTrainer:
    """One run of `steps` steps: `train_step` advances it."""

    def __init__(
        self,
        encoder: TokenEncoder,
        teacher: ReconPruner,
        head: EarlyHead,
        block: int,
        *,
        steps: int,
        learning_rate: float,
        device: torch.device,
    ):
        """Train `head` before vision block `block`; encoder, teacher and head are on `device` already."""
        self.encoder, self.teacher, self.head, self.block = encoder, teacher, head, block
        self.device, self._steps, self._learning_rate = device, steps, learning_rate
        self.optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=0.01)
        self.step, self.elapsed_s = 0, 0.0

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        return min(1.0, self.step / self._steps)

    def train_step(self, on_cpu: ReconBatch) -> dict[str, float]:
        """Take one optimiser step and return its loss."""
        set_rate(self.optimizer, self._learning_rate * cosine_factor(self.step, self._steps, self._steps // 10))
        losses, _, _ = self._losses(on_cpu)
        losses['loss'].backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {'loss': float(losses['loss'].detach())}

    def _losses(self, on_cpu: ReconBatch) -> tuple[dict[str, Tensor], Tensor, VisualTokens]:
        """Return the losses, the head's scores [B, N] and the finished tokens.

        score: cross-entropy to the teacher.  completion, where the model reads tokens that have left: squared distance
        of the completed tokens to the finished ones, in parts of the finished ones' variance; unfinished: the same of
        the tokens as they are.  loss: what is minimised.
        """
        with torch.no_grad(), autocast(self.device):
            states, tokens = self.encoder.encode_at(to_device(on_cpu.inputs, self.device), self.block)
            wanted, unfinished = self.teacher.score(tokens).sigmoid(), self.encoder.unfinished(states)
        scores: Tensor = self.head(states.float())
        losses = {'score': F.binary_cross_entropy_with_logits(scores[tokens.valid], wanted[tokens.valid])}
        if unfinished is not None:
            losses |= {
                'completion': _distance(self.head.complete(states.float(), unfinished.float()), tokens),
                'unfinished': _distance(unfinished, tokens),
            }
        losses['loss'] = losses['score'] + losses.get('completion', torch.zeros(()))
        return losses, scores, tokens

    @torch.no_grad()
    def validate(self, batches: Iterable[ReconBatch], cell: int) -> dict[str, float]:
        """Return for each ratio which share of the teacher's choice the head makes, and the foreground recall of both.

        cell: pixels a side of a token's area in the targets.
        """
        rows: dict[str, list[Tensor]] = {}
        for batch in batches:
            losses, scores, tokens = self._losses(batch)
            for name, loss in losses.items():
                rows.setdefault(name, []).append(loss.expand(len(scores)))
            theirs, share = self.teacher.score(tokens), token_shares(to_device(batch.targets, self.device), cell)
            for ratio in RATIOS:
                percent, budget = round(100 * ratio), TokenBudget(ratio=ratio)
                own, other = (keep_best(x, tokens, budget).index for x in (scores, theirs))
                both = (own.unsqueeze(2) == other.unsqueeze(1)).any(dim=2).float().mean(dim=1)
                found = {'agreement': both}
                for name, index in (('', own), ('teacher_', other)):
                    found |= {f'{name}{kind}': values for kind, values in recalls(index, share).items()}
                for name, values in found.items():
                    rows.setdefault(f'{name}_{percent}', []).append(values)
        return {name: float(torch.cat(values).nanmean()) for name, values in rows.items()}


def _distance(features: Tensor, tokens: VisualTokens) -> Tensor:
    """Return the mean squared distance to the finished tokens, in parts of their variance."""
    finished = tokens.features.float()[tokens.valid]
    return F.mse_loss(features.float()[tokens.valid], finished) / finished.var(dim=0).mean()
