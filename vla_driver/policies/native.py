# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model as a Policy: one observation in, one plan out, with a memory between."""

from __future__ import annotations

import itertools
import time

import torch

from vla_driver.geometry.unicycle import integrate
from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.rays import RayFunction
from vla_driver.model.native.inputs import InputBuilder
from vla_driver.model.native.memory import MemoryState
from vla_driver.model.native.vision import PrunedVision
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast, store_for_inference
from vla_driver.model.pruning.base import KeptTokens, Pruner, camera_sizes, needs_attention
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.controls import NoPruner
from vla_driver.model.pruning.early import EarlyPruner
from vla_driver.model.pruning.in_model import InModelPruner, check_stages
from vla_driver.model.pruning.recon import ReconPruner
from vla_driver.model.pruning.selection import Selection, make_selection
from vla_driver.model.tokens import VisualTokens, to_device
from vla_driver.types import Intent, InvalidInput, Observation, Plan

AnyPruner = Pruner | InModelPruner | EarlyPruner


class NativePolicy:
    """Drives with a VlaModel.  Deterministic: the same observations give the same plans.

    Not for use from two threads at once.
    """

    def __init__(
        self,
        model: VlaModel,
        device: str | torch.device = 'cpu',
        pruner: AnyPruner | None = None,
        budget: TokenBudget | None = None,
    ):
        """The model is taken over: moved to `device`, set to evaluation, its weights stored as they are used.

        pruner and budget: as in `set_pruning`.
        """
        self.config = model.config
        self.name = 'blind' if self.config.blind else 'model'
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        store_for_inference(self.model, self.device)
        _remember_rays(self.model)
        self._inputs = InputBuilder(self.config)
        self._memory = MemoryState(self.config.memory_config)
        self._pruner: AnyPruner | None = None
        self._budget: TokenBudget | None = None
        self._last: tuple[str, float, VisualTokens, KeptTokens] | None = None
        self.set_pruning(pruner, budget)

    def set_pruning(self, pruner: AnyPruner | None, budget: TokenBudget | None = None) -> None:
        """Prune visual tokens from the next tick on; None or `NoPruner`: keep all.  The memory stays as it is.

        Everything is tried at once, on tokens of the model's own shapes.  Raises `InvalidInput`, with the reason, and
        changes nothing, for a pruner that does not fit the model, a budget that cannot be met, a missing budget, and
        for the blind control.
        """
        if pruner is None or isinstance(pruner, NoPruner):
            self._pruner, self._budget, self._last = None, None, None
            return
        if self.blind:
            raise InvalidInput(
                f'pruner {pruner.name!r}: the blind control has no visual tokens; run it without a pruner'
            )
        if budget is None:
            raise InvalidInput(f'pruner {pruner.name!r}: no token budget; give one, as in TokenBudget(ratio=0.5)')
        if not isinstance(pruner, (Pruner, InModelPruner, EarlyPruner)):
            raise InvalidInput(f'{pruner!r} is no pruner; make_pruner makes one by name')
        if isinstance(pruner, ReconPruner):
            pruner.check(self.config)
        for module in (pruner, getattr(pruner, 'head', None)):
            if isinstance(module, torch.nn.Module):
                module.to(self.device).eval()
                _remember_rays(module)
        tokens = _sample_tokens(self.config, self.device)
        if isinstance(pruner, EarlyPruner):
            self._try_early(pruner, tokens, budget)
        elif isinstance(pruner, InModelPruner):
            depth = len(self.model.language.layers)
            check_stages(pruner, camera_sizes(tokens.camera, len(tokens.names)), tokens.names, budget, depth)
        else:
            with torch.inference_mode(), autocast(self.device):
                pruner.select(tokens, budget, tokens.features[:, :3])
        self._pruner, self._budget, self._last = pruner, budget, None

    def _try_early(self, pruner: EarlyPruner, tokens: VisualTokens, budget: TokenBudget) -> None:
        vision = self.config.vision_config
        pruner.check(vision.num_hidden_layers)
        head, sizes = pruner.head, (vision.spatial_merge_size**2, self.config.language_config.hidden_size)
        if head is not None and head.completion is not None and (head.patches, head.token_width) != sizes:
            raise InvalidInput(
                f'pruner {pruner.name!r}: its head completes tokens of {head.patches} patches and width '
                f'{head.token_width}, this model has {sizes[0]} and {sizes[1]}; train one for it (train early-head)'
            )
        shape = (*tokens.features.shape[:2], vision.spatial_merge_size**2, vision.hidden_size)
        states = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        with torch.inference_mode(), autocast(self.device):
            pruner.choose(states, tokens.attention, tokens, budget)

    @property
    def pruning(self) -> tuple[AnyPruner | None, TokenBudget | None]:
        """The pruner and its budget, (None, None) where all tokens are kept."""
        return self._pruner, self._budget

    @property
    def last_selection(self) -> Selection | None:
        """What the latest tick kept, by camera; None before the first tick and where nothing is pruned."""
        return None if self._last is None else make_selection(*self._last)

    @property
    def blind(self) -> bool:
        """Whether this is the control that sees nothing."""
        return bool(self.config.blind)

    def reset(self) -> None:
        """Forget earlier ticks."""
        self._memory.reset()

    @torch.inference_mode()
    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation.  A jump of its clock empties the memory.

        Raises InvalidInput for an intent (the model has none yet to be told) and for unknown cameras.
        """
        if intent is not None:
            raise InvalidInput(f'intent {intent.name!r}: this model takes none; plan without one')
        marks = [('start', time.perf_counter())]

        def mark(stage: str) -> None:
            if self.device.type == 'cuda':
                torch.cuda.synchronize(self.device)
            marks.append((stage, time.perf_counter()))

        inputs = to_device(self._inputs(observation), self.device)
        self._memory.observe_clock(observation.stamp_s)
        mark('preprocess')
        with autocast(self.device):
            tokens, remembered = None, None
            early: PrunedVision | None = None
            if isinstance(self._pruner, EarlyPruner):
                assert self._budget is not None
                early = self.model.encode_pruned(inputs, self._pruner, self._budget)
                tokens = early.tokens
            elif not self.blind:
                tokens = self.model.encode(inputs, needs_attention(self._pruner)).tokens
            if tokens is not None:
                pooled = self.model.pool(tokens)
                remembered = self._memory.read(observation.ego, observation.stamp_s, pooled)
                self._memory.write(pooled, observation.ego, observation.stamp_s)
            ego = self.model.ego(inputs)  # before the mark: the next stage is the pruner's alone
            mark('vision')
            inside, inside_s = '', 0.0  # the stage within which a pruner works, and how long
            if self._pruner is None or tokens is None:
                prefix = self.model.prefill(ego, tokens, remembered)
            elif isinstance(self._pruner, EarlyPruner):
                assert early is not None
                prefix = self.model.prefill(ego, tokens, remembered, early.kept)
                inside, inside_s = 'vision', early.seconds
                self._last = self._pruner.name, observation.stamp_s, tokens, early.kept
            elif isinstance(self._pruner, InModelPruner):
                assert self._budget is not None
                prefix, run = self.model.prefill_pruned(ego, tokens, remembered, self._pruner, self._budget)
                inside, inside_s = 'prefix', run.seconds
                self._last = self._pruner.name, observation.stamp_s, tokens, run.kept
            else:
                assert self._budget is not None
                kept = self._pruner.select(tokens, self._budget, ego)
                mark('pruner')
                prefix = self.model.prefill(ego, tokens, remembered, kept)
                self._last = self._pruner.name, observation.stamp_s, tokens, kept
            mark('prefix')
            hidden = self.model.act(prefix, ego)
            mark('action')
            controls = self.model.decode(hidden, self.model.reflex(prefix, ego))[0].double().cpu().numpy()
            mark('flow')
        trajectory = integrate(
            observation.ego.speed_mps, controls[:, 0], controls[:, 1], dt_s=self.config.action_config.dt_s
        )
        timing_ms = {stage: 1e3 * (end - begin) for (_, begin), (stage, end) in itertools.pairwise(marks)}
        if inside:
            timing_ms |= {'pruner': 1e3 * inside_s, inside: timing_ms[inside] - 1e3 * inside_s}
        return Plan(
            stamp_s=observation.stamp_s,
            trajectory=trajectory,
            ego=observation.ego,
            policy=self.name,
            timing_ms=timing_ms,
        )


def _remember_rays(model: torch.nn.Module) -> None:
    """Let functions of rays, which are the same at every tick of a rig, be computed once."""
    for module in model.modules():
        if isinstance(module, RayFunction):
            module.remember()


def _sample_tokens(config: VlaConfig, device: torch.device) -> VisualTokens:
    """Return one row of random tokens of the model's shapes, to try a pruner on."""
    cells, first = [], 0
    for size, names in config.camera_groups:
        rows, columns = config.token_grid(size)
        cells.append(
            torch.cartesian_prod(torch.arange(first, first + len(names)), torch.arange(rows), torch.arange(columns))
        )
        first += len(names)
    camera, row, column = torch.cat(cells).to(device).unbind(dim=1)
    count, generator = len(camera), torch.Generator().manual_seed(0)
    rays = torch.randn(1, count, 3, generator=generator).to(device)
    return VisualTokens(
        features=torch.randn(1, count, config.language_config.hidden_size, generator=generator).to(device),
        camera=camera,
        row=row,
        column=column,
        rays=torch.nn.functional.normalize(rays, dim=-1),
        origins=torch.zeros(1, count, 3, device=device),
        valid=torch.ones(1, count, dtype=torch.bool, device=device),
        names=config.camera_names,
        attention=torch.rand(1, count, generator=generator).to(device),
    )
