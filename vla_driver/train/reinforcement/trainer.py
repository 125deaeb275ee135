# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A step of fine-tuning by rewards: plans of a group judged, and imitation beside it, so that nothing is unlearned."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vla_driver.model.layers.experts import uncounted
from vla_driver.model.native.training import Dropouts, VlaOutput
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.train.policy_trainer import PolicyConfig, PolicyTrainer, step_seed
from vla_driver.train.reinforcement.group import decoder_loss, sample_group, vote_divergence, vote_loss
from vla_driver.train.reinforcement.judged import JudgedBatch, judge_controls


@dataclass(frozen=True)
class ReinforceConfig(PolicyConfig):
    """Settings as `PolicyConfig` has them, and of the rewards.

    start: the checkpoint that is fine-tuned; samples: plans of a tick's group; votes, decoder: weights of the policy
    gradients of the votes and of the flow; imitation, divergence: of imitation's loss, and of the votes' divergence
    from the start; temperature: of the votes by which the group is weighted.
    """

    stage: str = 'policy'
    clips: int = 8
    ticks: int = 4
    learning_rate: float = 3e-5
    weight_decay: float = 0.0
    ema_decay: float = 0.98
    start: str = ''
    samples: int = 16
    votes: float = 1.0
    decoder: float = 0.05
    imitation: float = 0.1
    divergence: float = 0.1
    temperature: float = 2.0


class ReinforceTrainer(PolicyTrainer):
    """One run, in one process; `PolicyTrainer` says the rest."""

    # It begins where another run ended, and is short.
    warm_up = 10

    def __init__(
        self, model: VlaModel, before: VlaModel, config: ReinforceConfig, device: str | torch.device = 'cpu'
    ) -> None:
        """Fine-tune `model`; before: the one it began as, with the same parts."""
        # A plan without the speed is none that is driven.
        model.dropouts = Dropouts(speed=0.0)
        before = copy.deepcopy(before)
        before.dropouts = model.dropouts
        super().__init__(model, config, device)
        # In training mode, too: by equal chance it is asked the same, and the same model diverges by nothing.
        self.before = before.to(self.device).train().requires_grad_(False)
        self.reinforce = config

    def _forward(self, on_cpu: ClipBatch, share: int) -> VlaOutput:
        assert isinstance(on_cpu, JudgedBatch)
        config, batch = self.reinforce, to_device(on_cpu, self.device)
        seed = step_seed(config.seed, self.step, share)
        torch.manual_seed(seed)
        with autocast(self.device):
            out = cast(VlaOutput, self.model(batch, stage=config.stage))
            group = sample_group(self.model.flow, out.hidden, out.reflex, config.samples)
        plans = torch.cat([group.controls, group.explored], dim=1)
        figures = judge_controls(self.model.flow, plans, batch)
        count = group.controls.shape[1]
        reward, explored = figures['reward'].split([count, plans.shape[1] - count], dim=1)
        losses = {
            'votes': vote_loss(group, reward, config.temperature),
            'decoder': decoder_loss(group, explored),
            'divergence': self._divergence(batch, group.logits, seed),
        }
        total = (
            config.votes * losses['votes']
            + config.decoder * losses['decoder']
            + config.divergence * losses['divergence']
            + config.imitation * out.loss
        )
        likely = group.logits.detach().gather(1, group.anchor).softmax(dim=-1)
        said = {f'{name}_loss': value.detach() for name, value in losses.items()}
        said |= {'imitation_loss': out.loss.detach(), 'expected': (likely * reward).sum(dim=-1).mean()}
        said |= {'best': reward.max(dim=-1).values.mean(), 'explored': explored.mean()} if explored.numel() else {}
        # Of the plan that would be driven.
        said |= {name: value[:, 0].mean() for name, value in figures.items()}
        return dataclasses.replace(out, loss=total, losses=said)

    def _divergence(self, batch: ClipBatch, logits: Tensor, seed: int) -> Tensor:
        if not self.reinforce.divergence:
            return logits.new_zeros(())
        torch.manual_seed(seed)
        with torch.no_grad(), uncounted(self.before), autocast(self.device):
            out = cast(VlaOutput, self.before(batch, stage=self.reinforce.stage))
            before = self.before.flow.classify(out.hidden, out.reflex)
        return vote_divergence(logits, before)
