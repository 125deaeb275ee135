# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The state of a pruner's training: pruner, decoder, optimiser, progress; saved and resumed exactly."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vla_driver.data.frames import JoinedFrames
from vla_driver.model.precision import autocast
from vla_driver.model.pruning.base import keep_best
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.tokens import VisualTokens, to_device
from vla_driver.train.reconstruction import (
    ReconDecoder,
    Targets,
    guidance,
    make_targets,
    recall,
    reconstruction_losses,
    token_shares,
)
from vla_driver.train.token_encoder import TokenEncoder
from vla_driver.train.trainer import STATE_FOLDER
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


@dataclass(frozen=True)
class ReconBatch:
    """inputs: of the encoder."""

    inputs: Any
    targets: Targets


def cosine_factor(step: int, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Return the factor of the learning rate at `step`, counted from 0: linear warm-up, then half a cosine."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps))))


def picture_size(text: str | None) -> tuple[int, int] | None:
    """Return (width, height) of --picture-size, None for None; raise `InvalidInput` for what is no size."""
    if text is None:
        return None
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InvalidInput(f'--picture-size {text!r}, expected WIDTHxHEIGHT such as 672x392')
    return int(width), int(height)


def make_batch(frames: JoinedFrames, numbers: Iterable[int], encoder: TokenEncoder, cell: int) -> ReconBatch:
    """Read frames by number and prepare them."""
    chosen = [frames.frame(int(number)) for number in numbers]
    return ReconBatch(encoder.prepare(chosen), make_targets(chosen, encoder.groups, cell))


def training_batches(
    frames: JoinedFrames, encoder: TokenEncoder, config: PrunerConfig, first: int, ahead: int = 2
) -> Generator[ReconBatch, None, None]:
    """Yield batches first, first + 1, ...; number s is a function of (seed, s) alone, so a run resumes exactly."""

    def make(step: int) -> ReconBatch:
        rng = np.random.default_rng([config.seed, step])
        return make_batch(frames, rng.integers(0, len(frames), config.batch), encoder, config.cell)

    with ThreadPoolExecutor(1, thread_name_prefix='frames') as pool:
        pending = [pool.submit(make, first + k) for k in range(ahead)]
        step = first + ahead
        while True:
            batch = pending.pop(0).result()
            pending.append(pool.submit(make, step))
            step += 1
            yield batch


def held_out_batches(
    frames: JoinedFrames, encoder: TokenEncoder, limit: int, batch: int, cell: int
) -> Generator[ReconBatch, None, None]:
    """Yield at most `limit` frames, evenly spread, in batches."""
    count = min(limit, len(frames))
    numbers = [round(k * (len(frames) - 1) / max(1, count - 1)) for k in range(count)]
    for first in range(0, count, batch):
        yield make_batch(frames, numbers[first : first + batch], encoder, cell)


def append_log(folder: Path, **entry: Any) -> None:
    """Add a line to the run's log.jsonl, numbers rounded."""
    with (folder / 'log.jsonl').open('a', encoding='utf-8') as stream:
        rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in entry.items()}
        stream.write(json.dumps(rounded) + '\n')


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
        groups = []
        for part, factor in ((self.pruner, config.pruner_rate), (self.decoder, 1.0)):
            for decays in (True, False):
                parameters = [p for p in part.parameters() if (p.ndim >= 2) is decays]
                decay = config.weight_decay if decays else 0.0
                groups.append({'params': parameters, 'weight_decay': decay, 'factor': factor})
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))

    def train_step(self, on_cpu: ReconBatch) -> dict[str, float]:
        """Take one optimiser step; return its losses, the share of tokens with S > 0, learning rate, gradient norm.

        Raises `InvalidInput` when the loss is not finite; the weights are then as before the step.
        """
        inputs, targets = to_device(on_cpu.inputs, self.device), to_device(on_cpu.targets, self.device)
        config = self.config
        rate = config.learning_rate * cosine_factor(self.step, config.steps, config.warmup)
        for group in self.optimizer.param_groups:
            group['lr'] = rate * group['factor']
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
        if not math.isfinite(norm) or not math.isfinite(values['loss']):
            self.optimizer.zero_grad(set_to_none=True)
            raise InvalidInput(
                f'training diverged at step {self.step}: loss {values["loss"]}, gradient norm {norm}; '
                'resume from the last checkpoint with a lower --learning-rate, and check the data'
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
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
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}

        def add(name: str, values: Tensor) -> None:
            known = values[values.isfinite()]
            sums[name] = sums.get(name, 0.0) + float(known.sum())
            counts[name] = counts.get(name, 0) + known.numel()

        self.module.eval()
        for on_cpu in batches:
            inputs, targets = to_device(on_cpu.inputs, self.device), to_device(on_cpu.targets, self.device)
            with autocast(self.device):
                tokens = self.encoder.encode(inputs)
                scores = self._centred(self.pruner.score(tokens), tokens)
                losses = self._losses(scores, tokens, targets)
            share = token_shares(targets, self.config.cell)
            for ratio in RATIOS:
                kept = keep_best(scores, tokens, TokenBudget(ratio=ratio)).index
                add(f'foreground_recall_{round(100 * ratio)}', recall(kept, share[..., 0]))
                add(f'object_recall_{round(100 * ratio)}', recall(kept, share[..., 1]))
            add('kept', (scores > 0)[tokens.valid].float())
            add('foreground', share[..., 0][tokens.valid])
            for name, value in losses.items():
                add(name, value.expand(len(scores)))
        self.module.train()
        return {name: sums[name] / counts[name] for name in sums if counts[name]}

    # --- keeping ---------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the pruner to `folder` and the run's state below it, replaced as a whole."""
        self.pruner.notes['step'] = self.step
        self.pruner.save_pretrained(folder)
        temporary, final = folder / f'.{STATE_FOLDER}.tmp', folder / STATE_FOLDER
        previous = folder / f'.{STATE_FOLDER}.old'
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(self._tensors(), temporary / 'state.safetensors')
        note = {'step': self.step, 'elapsed_s': self.elapsed_s, 'config': asdict(self.config)}
        (temporary / 'state.json').write_text(json.dumps(note, indent=2) + '\n', encoding='utf-8')
        shutil.rmtree(previous, ignore_errors=True)
        if final.exists():
            os.replace(final, previous)
        os.replace(temporary, final)
        shutil.rmtree(previous, ignore_errors=True)

    def _tensors(self) -> dict[str, Tensor]:
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.module.named_parameters()}
        tensors = {f'model.{name}': value for name, value in self.module.state_dict().items()}
        for parameter, state in self.optimizer.state.items():
            tensors |= {f'optimizer.{key}.{names[parameter]}': value for key, value in state.items()}
        return {name: value.contiguous() for name, value in tensors.items()}

    def load(self, folder: Path) -> None:
        """Continue the run saved in `folder`; raise `InvalidInput` where there is none or its settings differ."""
        state = next((s for s in (folder / STATE_FOLDER, folder / f'.{STATE_FOLDER}.old') if s.is_dir()), None)
        if state is None:
            raise InvalidInput(f'{folder} holds no training state to resume; leave out --resume to start there')
        note = json.loads((state / 'state.json').read_text(encoding='utf-8'))
        ours, theirs = asdict(self.config), note['config']
        differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if differing:
            pairs = ', '.join(f'{key}: {theirs.get(key)} there, {ours.get(key)} here' for key in differing)
            raise InvalidInput(f'cannot resume {folder} with other settings ({pairs}); give the same ones')
        tensors = load_file(state / 'state.safetensors', device=str(self.device))
        try:
            self.module.load_state_dict(
                {name.removeprefix('model.'): value for name, value in tensors.items() if name.startswith('model.')}
            )
        except RuntimeError as error:
            raise InvalidInput(f'the run in {folder} was for another --model: {error}') from error
        moments: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition('.')
            if part == 'optimizer':
                key, _, owner = rest.partition('.')
                moments.setdefault(owner, {})[key] = value
        for name, parameter in self.module.named_parameters():
            if name in moments:
                self.optimizer.state[parameter] = moments[name]
        self.step, self.elapsed_s = int(note['step']), float(note['elapsed_s'])
