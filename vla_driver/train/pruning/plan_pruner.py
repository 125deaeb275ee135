# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Measure what a PlanPruner (model/pruning/trained/plan.py) knows of a checkpoint: in which directions the plan reacts.

Nothing is trained by steps.  Let u be what the panorama gives before the activation, y the steering (in deviations of
its own) and the votes for anchors that follow.  The mean over drives of J^T F J, with J = dy/du and F the identity for
steering and the Fisher information for votes, says how strongly the plan reacts to a small change of u (as in natural
gradients, Amari 1998).  It is estimated from random projections: one backward pass gives one sample.  Its leading
eigenvectors, each times the root of its eigenvalue, are the directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from vla_driver.data.clips import ClipDataset, find_episodes, split_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.model.checkpoint import PRUNER_FOLDER, resolve_checkpoint
from vla_driver.model.device import choose_device
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.pruned import Reading, budget_of, difference, read_panorama, whole_reading
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.pruning.base import Pruner
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.trained.plan import PlanPruner
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.train.checks import check_output, check_positive
from vla_driver.train.record import Means, append_log
from vla_driver.types import InvalidInput

RATIOS = (0.25, 0.5, 0.75)
#: Random projections of a batch.
_SAMPLES = 4
#: A little of every direction, as a share of the mean: what the plan never reacted to may matter once.
_FLOOR = 0.1


@dataclass(frozen=True)
class PlanPrunerRun:
    """One run, from episodes under the folders `data` to the pruner `out`.

    model: the native checkpoint that is to drive as it does unpruned; directions: in which the plan reacts, the leading
    ones; batches of `batch` ticks are measured on; validate: held-out ticks on which pruners are compared.
    """

    data: Sequence[Path]
    model: str
    out: Path
    features: Path | None = None
    directions: int = 32
    batches: int = 24
    batch: int = 48
    seed: int = 0
    validate: int = 480
    threads: int | None = None
    device: str = 'auto'


def make_plan_pruner(run: PlanPrunerRun) -> dict[str, float]:
    """Measure and write a pruner; return `plan_differences` of it and others on held-out drives (empty without any).

    Raises `InvalidInput` for settings and data that cannot be measured on.
    """
    check_positive(directions=run.directions, batches=run.batches, batch=run.batch, validate=run.validate)
    check_output(run.out)
    if run.threads:
        torch.set_num_threads(run.threads)
    device = torch.device(choose_device(run.device))
    model = load_model(run.model, auxiliary=False).to(device).requires_grad_(False)
    if model.config.blind or not model.config.reads_kept:
        raise InvalidInput(f"--model {run.model} reads dropped tokens, too: its view_config.reads is not 'kept'")
    paths, held_out = split_episodes(find_episodes(run.data))
    folder = encode_episodes(model, [*paths, *held_out], run.features or run.out / 'features', device=device)

    def dataset(which: list[Path]) -> ClipDataset:
        return ClipDataset(which, model.config, ticks=1, augment=False, features=folder, device=str(device))

    torch.manual_seed(run.seed)
    drives = dataset(paths)
    drawn = (drives.training_batch(run.seed, number, run.batch) for number in range(run.batches))
    reactions = plan_reactions(model, tqdm(drawn, total=run.batches, unit='batch', dynamic_ncols=True), device)
    pruner = plan_pruner_of(model, reactions, run.directions)
    pruner.notes |= {'trained_for': run.model, 'ticks': run.batches * run.batch, 'seed': run.seed}
    figures: dict[str, float] = {}
    run.out.mkdir(parents=True, exist_ok=True)
    if held_out:
        pruners = {'plan': pruner} | _others(model, resolve_checkpoint(run.model) / PRUNER_FOLDER)
        figures = plan_differences(
            model, pruners, dataset(held_out).validation_batches(run.batch, run.validate), device
        )
        append_log(run.out, kind='validation', **figures)
        pruner.notes['held_out'] = {name: round(value, 4) for name, value in figures.items()}
    pruner.save_pretrained(run.out)
    return figures


def _others(model: VlaModel, recon: Path) -> dict[str, Pruner]:
    names = ('random', 'divprune', *(('recon', 'recon:50') if recon.is_dir() else ()))
    made = {name: make_pruner(name, recon, model.config) for name in names}
    return {name: pruner for name, pruner in made.items() if isinstance(pruner, Pruner)}


def plan_reactions(model: VlaModel, batches: Iterable[ClipBatch], device: torch.device) -> Tensor:
    """Return [H, H], float32: how the plan reacts to what the panorama gives before the activation (see the module)."""
    width = model.config.view_config.hidden_size
    total, count = torch.zeros(width, width, device=device), 0
    for on_cpu in batches:
        inputs = to_device(on_cpu.inputs, device)
        with torch.no_grad(), autocast(device):
            tokens, ego = model.encode(inputs).tokens, model.ego(inputs).float()
            given = model.view.before_activation(
                tokens.features, model.view.spread(tokens.rays, tokens.origins), tokens.valid
            )
        given = given.float().requires_grad_(True)
        reflex = model.reflexes(F.gelu(given), ego)
        deviation = reflex.bend.detach().std(dim=0).clamp(min=1e-2)
        for _ in range(_SAMPLES):
            steering = torch.randn_like(reflex.bend) / deviation / reflex.bend.shape[1] ** 0.5
            anchor = torch.multinomial(reflex.votes.detach().softmax(dim=-1), 1)
            # Apart: their product must not count.
            for answer in (
                (steering * reflex.bend).sum(),
                reflex.votes.log_softmax(dim=-1).gather(1, anchor).sum(),
            ):
                (gradient,) = torch.autograd.grad(answer, given, retain_graph=True)
                total += gradient.mT @ gradient
        count += _SAMPLES * len(given)
    return total / max(1, count)


@torch.no_grad()
def plan_pruner_of(model: VlaModel, reactions: Tensor, directions: int) -> PlanPruner:
    """Return the pruner of a model whose plan reacts as `reactions` [H, H] say, in its leading `directions`."""
    view = model.view
    width = len(reactions)
    floor = _FLOOR * reactions.trace() / width * torch.eye(width, device=reactions.device)
    values, vectors = torch.linalg.eigh(reactions + floor)
    projection = vectors.flip(1)[:, :directions] * values.flip(0)[:directions].clamp(min=0.0).sqrt()
    config = model.config
    pruner = PlanPruner(config.view_config, config.language_config.hidden_size, min(directions, width))
    pruner.squeeze.load_state_dict(view.squeeze.state_dict())
    channels, places = config.view_config.channels, len(pruner.seen)
    reads = (view.read.weight.mT @ projection).unflatten(0, (places, channels))  # [G, C, R]
    pruner.reads.copy_(reads.transpose(0, 1).flatten(1))
    if view.coverage:
        pruner.seen.copy_(view.seen.weight.mT @ projection)
    return pruner.eval().requires_grad_(False)


@torch.no_grad()
def plan_differences(
    model: VlaModel,
    pruners: dict[str, Pruner],
    batches: Iterable[ClipBatch],
    device: torch.device,
    ratios: Sequence[float] = RATIOS,
) -> dict[str, float]:
    """Return how far what the model reads is from what it reads of all tokens: '<pruner>_<part>_<per cent>'.

    The parts are those of `pruned.difference`.
    """
    means = Means()
    for on_cpu in batches:
        inputs = to_device(on_cpu.inputs, device)
        with autocast(device):
            tokens, ego = model.encode(inputs).tokens, model.ego(inputs)
            whole = whole_reading(model, tokens, ego)
            for name, pruner in pruners.items():
                for ratio in ratios:
                    read = read_panorama(model, tokens, pruner.select(tokens, budget_of(tokens, ratio), ego))
                    for part, value in difference(Reading(read, model.reflexes(read, ego)), whole).items():
                        means.add(f'{name}_{part}_{round(100 * ratio)}', value.expand(len(ego)))
    return means.figures()
