# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model's graphs as a Policy: what `NativePolicy` answers, in half the time, and without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vla_driver.model.checkpoint import PRUNER_FOLDER
from vla_driver.model.export.manifest import Manifest, RefusedGraphs
from vla_driver.model.export.opened import OpenedGraphs
from vla_driver.model.native.seeing.arrays import ArrayBuilder, ObservationArrays
from vla_driver.model.native.seeing.remembering import MemoryState, Recalled
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.policies.graph_ways import PLAN, RECON, OwnPruner, Way, Whole, foreseen, open_with_others, way_of
from vla_driver.policies.native_intents import intent_arrays
from vla_driver.policies.native_plans import forecasts_of, plan_of, refuse_intent
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import (
    EngineReport,
    FloatArray,
    Forecast,
    InputNeeds,
    Intent,
    InvalidInput,
    Observation,
    Plan,
    Selection,
)

if TYPE_CHECKING:
    from vla_driver.policies.native import NativePolicy

Array = npt.NDArray[Any]


def told_arrays(manifest: Manifest, intent: Intent | None, observation: Observation) -> dict[str, Array]:
    """Return what graphs are told of an intent, by their names; nothing where the model cannot be told any.

    Raises `InvalidInput` for an intent that it cannot be told.
    """
    if not manifest.intent:
        refuse_intent(intent)
        return {}
    kinds, numbers = np.zeros((1, 3), np.int64), np.zeros((1, 7), np.float32)
    if intent is not None:
        kinds, numbers = intent_arrays(intent, observation, manifest.camera_names)
        if numbers[0, -1] <= 0.0:  # its time to live is over: as if nothing had been said
            kinds, numbers = np.zeros_like(kinds), np.zeros_like(numbers)
    return {'intent_kinds': kinds, 'intent_numbers': numbers}


def decided_plan(
    manifest: Manifest,
    observation: Observation,
    made: Mapping[str, Array],
    told: Mapping[str, Array],
    name: str,
    timing_ms: Mapping[str, float],
) -> Plan:
    """Return the plan of what graphs have decided, told what `told_arrays` says."""
    forecasts: tuple[Forecast, ...] = ()
    if 'agents' in made:
        states, motion = made['agents'][0].astype(np.float64), made['agent_controls'][0].astype(np.float64)
        forecasts = forecasts_of(states, motion, manifest.dt_s, manifest.agent_existence)
    controls = made['controls'][0].astype(np.float64)
    plan = plan_of(observation, controls, manifest.dt_s, name, timing_ms, forecasts)
    said = bool(told) and bool(told['intent_numbers'][0, -1] > 0.0)
    silent = 1.0 if manifest.words else math.nan
    wants = float(made['wants_words'][0]) if said and 'wants_words' in made else silent
    return dataclasses.replace(plan, uncertainty=float(made['uncertainty'][0]), wants_words=wants)


def load_in(manifest: Manifest, made: Mapping[str, Array]) -> dict[int, FloatArray]:
    """Return the load of the experts of what graphs have made: language layer -> [N]; {} where they give none."""
    if 'expert_load' not in made:
        return {}
    return dict(zip(manifest.expert_layers, made['expert_load'][0].astype(np.float64), strict=True))


class OnnxPolicy:
    """Drives with the graphs of a checkpoint that sees.  Deterministic, and not for use from two threads at once."""

    name = 'model'

    def __init__(self, opened: OpenedGraphs) -> None:
        """Raises `RefusedGraphs` where no provider of this machine gives what torch does."""
        manifest = opened.manifest
        self._opened, self._manifest = opened, manifest
        self._inputs = ArrayBuilder(manifest)
        self._memory: MemoryState[Array] = MemoryState(manifest.ages_s, manifest.tolerance_s, manifest.reset_gap_s)
        self._nothing = np.zeros((manifest.sizes['pooled'], manifest.sizes['width']), np.float32)
        self._way: Way = Whole(opened)
        self._in_torch: NativePolicy | None = None  # while a pruner has no graphs that will do
        self._why_torch = ''
        self._pruning: tuple[Any, TokenBudget | None] = (None, None)
        self._rays: Array | None = None  # of the rig whose constants the way has
        self._seen_s = 0.0
        self._load: dict[int, FloatArray] = {}
        #: Whether plans say where others will be, as far as the model does; without, they take less time.
        self.forecasting = True

    @property
    def needs(self) -> InputNeeds:
        """The model's cameras, at the sizes that it works at."""
        return InputNeeds(self._manifest.camera_names, self._manifest.image_sizes, intents=self._manifest.intent)

    @property
    def engine(self) -> EngineReport:
        """What computes."""
        if self._in_torch is not None:
            return self._in_torch.engine.noting(self._why_torch)
        return self._opened.engine

    @property
    def last_load(self) -> dict[int, FloatArray]:
        """Of the last tick: language layer -> load of each of its experts [N], 1 for an even one; {} without any."""
        return self._load if self._in_torch is None else self._in_torch.last_load

    def reset(self) -> None:
        """Forget earlier ticks."""
        self._memory.reset()
        if self._in_torch is not None:
            self._in_torch.reset()

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation.  A jump of its clock empties the memory.

        Raises InvalidInput for an intent where the model cannot be told one, and for unknown cameras.
        """
        if self._in_torch is not None:
            self._in_torch.forecasting = self.forecasting
            return self._in_torch.plan(observation, intent)
        told = told_arrays(self._manifest, intent, observation)
        watch, stamp_s = Stopwatch(), observation.stamp_s
        self._seen_s = stamp_s
        arrays = self._inputs(observation)
        if arrays.rays is not self._rays:
            self._way.use_rig(arrays.rays, arrays.origins)
            self._rays = arrays.rays
        self._memory.observe_clock(stamp_s)
        tick = self._feeds(arrays, self._memory.read(observation.ego, stamp_s)) | told
        watch.mark('preprocess')
        made = self._way.run(tick, watch)
        if self.forecasting:
            made = self._way.foresee(made, watch)
        self._memory.write(made['pooled'][0], observation.ego, stamp_s)
        self._load = load_in(self._manifest, made)
        return decided_plan(self._manifest, observation, made, told, self.name, watch.timing_ms)

    def _feeds(self, arrays: ObservationArrays, recalled: Recalled[Array]) -> dict[str, Array]:
        features = [self._nothing if item is None else item for item in recalled.items]
        return {
            **{f'images_{number}': group for number, group in enumerate(arrays.images)},
            'present': arrays.present,
            'speed_mps': arrays.speed_mps,
            'yaw_rate_rps': arrays.yaw_rate_rps,
            'command': arrays.command,
            'command_distance_m': arrays.command_distance_m,
            'targets_m': arrays.targets_m,
            'remembered_features': np.stack(features)[None],
            'remembered_valid': recalled.valid[None],
            'motion': recalled.motion[None],
            'age_s': recalled.age_s[None],
        }

    # Pruning.

    def own_pruner(self, spec: str) -> OwnPruner | None:
        """Return the pruner of a spec where the checkpoint's own has graphs; None for every other one."""
        name, _, argument = spec.partition(':')
        if spec == RECON and self._opened.has_pruner('pruner'):
            return OwnPruner(RECON)
        if spec == PLAN and self._opened.has_pruner('plan'):
            return OwnPruner(PLAN)
        block, _, source = argument.partition('-')
        if name == 'early' and source == 'head' and block.isdigit() and self._opened.has_pruner(f'early{block}'):
            return OwnPruner('early-head', int(block))
        return None

    def set_pruning(self, pruner: Any, budget: TokenBudget | None = None) -> None:
        """Prune visual tokens from the next tick on; None or `NoPruner`: keep all.

        pruner: an `OwnPruner`, or any that `NativePolicy` takes.  Where its graphs are refused, or it looks inside the
        model, torch drives with it, beginning with nothing remembered.  Raises `InvalidInput`, with the reason, and
        changes nothing, for a pruner that does not fit the model, a budget that cannot be met, and a missing budget.
        """
        self.prepare_pruning(pruner, budget)()

    def prepare_pruning(self, pruner: Any, budget: TokenBudget | None = None) -> Callable[[], None]:
        """Do what takes long of `set_pruning`, while another thread may plan; what is returned does the rest.

        Raises as `set_pruning` does.
        """
        way, in_torch, why = self._way_with(pruner, budget)

        def put_in_place() -> None:
            if in_torch is not None:
                self._memory.reset()  # torch remembers in its own way
            self._way, self._in_torch, self._why_torch, self._rays = way, in_torch, why, None
            nothing = isinstance(way, Whole) and in_torch is None
            self._pruning = (None, None) if nothing else (pruner, budget)

        return put_in_place

    def _way_with(self, pruner: Any, budget: TokenBudget | None) -> tuple[Way, NativePolicy | None, str]:
        """Return the way with a pruner; the model in torch where there is none, and why there is none."""
        if pruner is None:
            return Whole(self._opened), None, ''
        if isinstance(pruner, OwnPruner):
            if budget is None:
                raise InvalidInput(f'pruner {pruner.name!r}: no token budget; give one, as in TokenBudget(ratio=0.5)')
            try:
                return way_of(self._opened, pruner, budget), None, ''
            except RefusedGraphs as error:
                from vla_driver.model.pruning.registry import make_pruner

                made = make_pruner(pruner.spec, self._opened.checkpoint / PRUNER_FOLDER)
                return self._way, self._torch(made, budget), f'refused: {error}'
        from vla_driver.model.pruning.stage import BeforeBlock, BehindEncoder, TokenStage, as_stage
        from vla_driver.policies.graph_ways import BehindInTorch, EarlyInTorch

        stage = as_stage(pruner, budget)
        if stage.name == TokenStage.name:
            return Whole(self._opened), None, ''
        in_torch = self._torch(pruner, budget)  # tries it on the model's own shapes
        try:
            if isinstance(stage, BehindEncoder):
                return BehindInTorch(self._opened, stage), None, ''
            if isinstance(stage, BeforeBlock) and stage.pruner.source != 'attention':
                return EarlyInTorch(self._opened, stage), None, ''
        except RefusedGraphs as error:
            return self._way, in_torch, f'refused: {error}'
        why = f'pruner {pruner.name} looks at attention inside the model, where no graph is cut'
        return self._way, in_torch, why

    def _torch(self, pruner: Any, budget: TokenBudget | None) -> NativePolicy:
        """Return the checkpoint in torch, with a pruner."""
        from vla_driver.policies.blind import BlindPolicy
        from vla_driver.policies.in_torch import load_native

        policy = load_native(self._opened.checkpoint, self._opened.wanted.device)
        assert not isinstance(policy, BlindPolicy)
        policy.set_pruning(pruner, budget)
        return policy

    @property
    def pruning(self) -> tuple[Any, TokenBudget | None]:
        """The pruner and its budget, (None, None) where all tokens are kept."""
        return self._pruning

    @property
    def last_selection(self) -> Selection | None:
        """What the latest tick kept, by camera; None before the first tick and where nothing is pruned."""
        return self._way.selection(self._seen_s) if self._in_torch is None else self._in_torch.last_selection


class OnnxBlindPolicy:
    """Drives with the graph of a blind checkpoint."""

    name = 'blind'

    def __init__(self, opened: OpenedGraphs) -> None:
        """Raises `RefusedGraphs` where no provider of this machine gives what torch does."""
        self._opened, self._manifest = opened, opened.manifest
        self._sessions = open_with_others(opened, 'blind')
        #: As `OnnxPolicy.forecasting`.
        self.forecasting = True
        self._inputs = ArrayBuilder(opened.manifest, looks=False)

    @property
    def needs(self) -> InputNeeds:
        """No pictures; where some are decoded all the same, the size that the model would work at is enough."""
        return InputNeeds((), self._manifest.image_sizes, intents=self._manifest.intent)

    @property
    def engine(self) -> EngineReport:
        """What computes."""
        return self._opened.engine

    def reset(self) -> None:
        """Nothing is remembered."""

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation; raises as `OnnxPolicy.plan` does."""
        watch, arrays = Stopwatch(), self._inputs(observation)
        told = told_arrays(self._manifest, intent, observation)
        watch.mark('preprocess')
        made = self._sessions['blind'].run({**vars(arrays), **told})
        watch.mark('model')
        if self.forecasting:
            made = foreseen(self._sessions, made, watch)
        return decided_plan(self._manifest, observation, made, told, self.name, watch.timing_ms)


def open_policy(folder: Path, opened: OpenedGraphs) -> OnnxPolicy | OnnxBlindPolicy:
    """Return the policy of a folder of graphs; raises `RefusedGraphs` where they must not drive."""
    if 'blind' in opened.manifest.graphs:
        return OnnxBlindPolicy(opened)
    if 'tick' not in opened.manifest.graphs:
        raise RefusedGraphs(f'graphs {folder}: neither "tick" nor "blind" is among them')
    return OnnxPolicy(opened)
