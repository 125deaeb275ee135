# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a pruner's training: pruner, decoder, optimiser, progress; saved and resumed exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vla_driver.model.precision import autocast
from vla_driver.model.pruning.base import keep_best
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.tokens import VisualTokens, to_device
from vla_driver.train.optimisation import cosine_factor, decay_groups, finish_step, set_rate
from vla_driver.train.pruning.recon_batches import ReconBatch
from vla_driver.train.pruning.reconstruction import (
    ReconDecoder,
    Targets,
    guidance,
    recalls,
    reconstruction_losses,
    token_shares,
)
from vla_driver.train.pruning.token_encoder import TokenEncoder
from vla_driver.train.record import Means
from vla_driver.train.state import load_state, restore_optimizer, save_state, tensors_of, under
from vla_driver.types import InvalidInput

#: Shares pruned at which recall is reported, as in FastDriveVLA's tables.
RATIOS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class PrunerConfig:
    """Settings that a resumed run must share with the run it continues (`steps` too: the schedule ends there).

    decoder_steps: the first steps, in which the decoder alone learns, from tokens kept at random.  Otherwise the
    roles can swap for good: a decoder that has only seen background kept paints black where there is a token.
    pruner_rate: learning rate of the pruner in units of the decoder's.  Where it learns as quickly, the scores run
    away together before the decoder can make anything of the dropped tokens, and everything stays kept.
    score_limit: as in `straight_through`; 0 for none, as in the paper.
    object_weight: of the errors on people, vehicles, signs, lights and barriers; 1 in the paper.
    centre: take the mean score of each moment off its scores before their signs count.  Otherwise the bias of the
    scorer is pulled by the majority of the tokens, which are background, and within fifty steps nothing is kept.
    Which tokens are the best does not change, so driving needs no centring.
    guide: weight of telling the scores directly what is foreground (`guidance`), beside the reconstruction; 0 in the
    paper.  guide_road: what a token of nothing but road is worth there; a token with a thing on it, 1.
    """

    steps: int = 4000
    batch: int = 16
    objective: str = 'both'
    alpha: float = 0.5
    decoder_layers: int = 6
    cell: int = 16
    decoder_steps: int = 200
    learning_rate: float = 5e-4
    pruner_rate: float = 0.1
    score_limit: float = 2.0
    object_weight: float = 1.0
    centre: bool = True
    guide: float = 0.0
    guide_road: float = 1.0
    warmup: int = 100
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0
    seed: int = 0


class PrunerTrainer:
    """One run: `train_step` advances it; `save` and `load` keep it."""

    def __init__(
        self, encoder: TokenEncoder, config: PrunerConfig, *, device: str | torch.device = 'cpu', trained_for: str = ''
    ):
        """Start with the backbone's own first layer in the pruner and a random decoder."""
        self.encoder, self.config, self.device = encoder, config, torch.device(device)
        torch.manual_seed(config.seed)
        notes = {'trained_for': trained_for, 'objective': config.objective, 'guide': config.guide}
        if config.guide > 0:
            notes['guide_road'] = config.guide_road
        self.pruner = ReconPruner(encoder.spec, notes).to(self.device)
        encoder.start(self.pruner)
        channels = 1 if config.objective == 'adversarial-only' else 3
        self.decoder = ReconDecoder(
            encoder.spec, encoder.groups, layers=config.decoder_layers, cell=config.cell, channels=channels
        ).to(self.device)
        self.module = nn.ModuleDict({'pruner': self.pruner, 'decoder': self.decoder}).train()
        self.step, self.elapsed_s = 0, 0.0
        groups = decay_groups(self.pruner.parameters(), config.weight_decay, factor=config.pruner_rate)
        groups += decay_groups(self.decoder.parameters(), config.weight_decay, factor=1.0)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        return min(1.0, self.step / self.config.steps)

    def train_step(self, on_cpu: ReconBatch) -> dict[str, float]:
        """Take one optimiser step; return its losses, the share of tokens with S > 0, learning rate, gradient norm.

        Raises `InvalidInput` when the loss is not finite; the weights are then as before the step.
        """
        inputs, targets = to_device(on_cpu.inputs, self.device), to_device(on_cpu.targets, self.device)
        config = self.config
        rate = config.learning_rate * cosine_factor(self.step, config.steps, config.warmup)
        set_rate(self.optimizer, rate)
        with autocast(self.device):
            tokens = self.encoder.encode(inputs)
            if self.step < config.decoder_steps:
                scores = self._chance(tokens)
            else:
                if self.step == config.decoder_steps:
                    self._centre(tokens)
                scores = self.pruner.score(tokens)
            signs = self._centred(scores, tokens)
            losses = self._losses(signs, tokens, targets)
        guided = config.guide > 0 and self.step >= config.decoder_steps
        losses['loss'].backward(retain_graph=guided)
        # Apart from each other: the straight-through gradient is many times the decoder's and would drown it.
        norm = max(
            float(nn.utils.clip_grad_norm_(part.parameters(), config.max_grad_norm))
            for part in (self.pruner, self.decoder)
        )
        if guided:
            # After the clipping, which the straight-through gradient alone would use up.
            losses['guide'] = guidance(scores, token_shares(targets, config.cell), tokens.valid, config.guide_road)
            (config.guide * losses['guide']).backward()
        values = {name: float(value.detach()) for name, value in losses.items()}
        finish_step(self.optimizer, self.step, values['loss'], norm)
        self.step += 1
        kept = (signs.detach() > 0)[tokens.valid].float().mean()
        return {**values, 'kept': float(kept), 'lr': rate, 'grad_norm': norm}

    def _centred(self, scores: Tensor, tokens: VisualTokens) -> Tensor:
        """Return scores [B, N] whose signs say what is kept in training."""
        if not self.config.centre:
            return scores
        there = tokens.valid.to(scores.dtype)
        mean = (scores * there).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True).clamp(min=1.0)
        return scores - mean

    def _chance(self, tokens: VisualTokens) -> Tensor:
        """Return random scores, a function of seed and step: nothing has to be restored to resume exactly."""
        rng = np.random.default_rng([self.config.seed, self.step, 1])
        return torch.from_numpy(rng.standard_normal(tokens.valid.shape, dtype=np.float32)).to(self.device)

    def _losses(self, scores: Tensor, tokens: VisualTokens, targets: Targets) -> dict[str, Tensor]:
        config = self.config
        return reconstruction_losses(
            scores,
            tokens,
            self.decoder,
            targets,
            objective=config.objective,
            alpha=config.alpha,
            score_limit=config.score_limit or math.inf,
            object_weight=config.object_weight,
        )

    @torch.no_grad()
    def _centre(self, tokens: VisualTokens) -> None:
        """Scale and shift the scorer so that the scores of these tokens have median 0 and deviation 1.

        V* has a large common part, so that random scores are all of one sign: everything kept, or nothing, and
        no contrast for the straight-through gradient to begin with.
        """
        scores = self.pruner.score(tokens)[tokens.valid]
        scale = scores.std().clamp(min=1e-6)
        self.pruner.scorer.weight /= scale
        self.pruner.scorer.bias.sub_(scores.median()).div_(scale)

    @torch.no_grad()
    def validate(self, batches: Iterable[ReconBatch]) -> dict[str, float]:
        """Return means over frames: foreground_recall_25 ..., object_recall_25 ... (without road), kept, loss.

        Tokens are kept by score, globally, no camera below one token; at random, recall is 1 - ratio.
        """
        means = Means()
        self.module.eval()
        for on_cpu in batches:
            inputs, targets = to_device(on_cpu.inputs, self.device), to_device(on_cpu.targets, self.device)
            with autocast(self.device):
                tokens = self.encoder.encode(inputs)
                scores = self._centred(self.pruner.score(tokens), tokens)
                losses = self._losses(scores, tokens, targets)
            share = token_shares(targets, self.config.cell)
            for ratio in RATIOS:
                index = keep_best(scores, tokens, TokenBudget(ratio=ratio)).index
                for name, values in recalls(index, share).items():
                    means.add(f'{name}_{round(100 * ratio)}', values[values.isfinite()])
            means.add('kept', (scores > 0)[tokens.valid])
            means.add('foreground', share[..., 0][tokens.valid])
            for name, value in losses.items():
                means.add(name, value.expand(len(scores)))
        self.module.train()
        return means.figures()

    # --- keeping ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the pruner to `folder` and the run's state below it, replaced as a whole."""
        self.pruner.notes['step'] = self.step
        self.pruner.save_pretrained(folder)
        tensors = tensors_of(self.module, self.optimizer)
        save_state(folder, tensors, step=self.step, elapsed_s=self.elapsed_s, config=asdict(self.config))

    def load(self, folder: Path) -> None:
        """Continue the run saved in `folder`; raise `InvalidInput` where there is none or its settings differ."""
        state = load_state(folder, asdict(self.config), self.device)
        try:
            self.module.load_state_dict(under('model.', state.tensors))
        except RuntimeError as error:
            raise InvalidInput(f'the run in {folder} was for another --model: {error}') from error
        restore_optimizer(self.module, self.optimizer, state.tensors)
        self.step, self.elapsed_s = state.step, state.elapsed_s
