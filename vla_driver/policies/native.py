# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model as a Policy: one observation in, one plan out, with a memory between."""

from __future__ import annotations

import dataclasses
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.rays import RayFunction
from vla_driver.model.native.intent import indecision
from vla_driver.model.native.seeing.inputs import InputBuilder
from vla_driver.model.native.seeing.memory import MemoryState
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast, precision, store_for_inference
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.stage import AnyPruner, TokenShapes
from vla_driver.model.tokens import WEIGHT, IntentInputs, Prefix, VisualTokens, to_device
from vla_driver.policies.native_intents import intent_arrays
from vla_driver.policies.native_plans import forecasts_of, plan_of, refuse_intent
from vla_driver.policies.prunable import Prunable
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import EngineReport, FloatArray, Forecast, InputNeeds, Intent, InvalidInput, Observation, Plan


class NativePolicy(Prunable):
    """Drives with a VlaModel that sees.  Deterministic: the same observations give the same plans.

    Not for use from two threads at once.
    """

    name = 'model'
    #: Why it is not graphs that drive, where they were to.
    engine_note = ''
    #: How strongly an intent is heeded; see `drive`.
    guidance = 1.0
    #: Whether plans say where others will be, as far as the model does; without, they take less time.
    forecasting = True

    def __init__(
        self,
        model: VlaModel,
        device: str | torch.device = 'cpu',
        pruner: AnyPruner | None = None,
        budget: TokenBudget | None = None,
    ):
        """The model is taken over: moved to `device`, set to evaluation, its weights stored as they are used.

        pruner and budget: as in `set_pruning`.  Raises `InvalidInput` for a blind model: that is a `BlindPolicy`.
        """
        super().__init__()
        if model.config.blind:
            raise InvalidInput('this checkpoint is blind (it was trained without images); drive with BlindPolicy')
        self.config = model.config
        self.device = torch.device(device)
        self.model = ready_to_drive(model, self.device)
        self._inputs = InputBuilder(self.config)
        self._memory = MemoryState(self.config.memory_config)
        self.set_pruning(pruner, budget)

    @property
    def engine(self) -> EngineReport:
        """What computes."""
        return torch_engine(self.device, self.engine_note)

    @property
    def needs(self) -> InputNeeds:
        """The model's cameras, at the sizes that it works at."""
        return InputNeeds(tuple(self.config.camera_names), picture_sizes(self.config), intents=self.config.intent)

    def _computing(self) -> AbstractContextManager[object]:
        return autocast(self.device)

    def _shapes(self) -> TokenShapes:
        vision = self.config.vision_config
        tokens = _sample_tokens(self.config, self.device)
        states = (*tokens.features.shape[:2], vision.spatial_merge_size**2, vision.hidden_size)
        return TokenShapes(
            config=self.config,
            vision_depth=vision.num_hidden_layers,
            language_depth=self.config.language_config.num_hidden_layers,
            tokens=tokens,
            states=torch.randn(states, generator=torch.Generator().manual_seed(0)).to(self.device),
            text=3,
            device=self.device,
            completes=True,
            squeeze=self.model.view.squeeze.weight,
        )

    @property
    def last_load(self) -> dict[int, FloatArray]:
        """Of the last tick: language layer -> load of each of its experts [N], 1 for an even one; {} without any."""
        return {number: routing.load().cpu().numpy() for number, routing in self.model.language.routings.items()}

    def reset(self) -> None:
        """Forget earlier ticks."""
        self._memory.reset()

    @torch.inference_mode()
    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation.  A jump of its clock empties the memory.

        Raises InvalidInput for an intent that the model cannot be told, and for unknown cameras.
        """
        watch, model, stage = Stopwatch(self.device), self.model, self._stage
        stage.begin()
        self._seen_s = observation.stamp_s
        inputs = to_device(self._inputs(observation), self.device)
        self._memory.observe_clock(observation.stamp_s)
        watch.mark('preprocess')
        with autocast(self.device):
            seen = model.encode(inputs, stage)
            ego = model.ego(inputs)
            watch.mark('vision')
            kept = stage.behind_encoder(seen.tokens, ego) or seen.kept
            pooled = model.pool(seen.tokens, kept)
            remembered = self._memory.read(observation.ego, observation.stamp_s, pooled)
            self._memory.write(pooled, observation.ego, observation.stamp_s)
            told = told_inputs(self.config, intent, observation, self.device)
            read = model.read(ego, seen.tokens, remembered, kept, stage, told)
            watch.mark('prefix')
            driven = drive(model, *read, ego, watch, told, self.guidance, self.forecasting)
        timing_ms = stage.share_of(watch.timing_ms, 'prefix')
        dt_s = model.config.action_config.dt_s
        plan = plan_of(observation, driven.controls, dt_s, self.name, timing_ms, driven.forecasts)
        return dataclasses.replace(plan, uncertainty=driven.uncertainty, wants_words=driven.wants_words)


@dataclass(frozen=True)
class Driven:
    """controls [T, 2] in m/s^2 and 1/m; uncertainty: of the choice among courses of speed, 0 to 1.

    wants_words: the chance that what the slow half said last no longer holds, 1 where it said nothing; NaN for a model
    without words.
    """

    controls: FloatArray
    uncertainty: float
    wants_words: float
    forecasts: tuple[Forecast, ...] = ()


def drive(
    model: VlaModel,
    prefix: Prefix,
    told: tuple[Prefix, Tensor],
    ego: Tensor,
    watch: Stopwatch,
    intent: IntentInputs | None = None,
    guidance: float = 1.0,
    others: bool = True,
) -> Driven:
    """Return what follows from what was read (`VlaStages.read`), and from what the slow half said.

    guidance: how strongly an intent is heeded, 1 as in training; any other needs the action expert a second time.
    others: whether they are forecast, where the model does so.
    """
    hidden = model.act(*told)
    guided = intent is not None and guidance != 1.0
    unguided = model.act(*model.tell(prefix, ego)) if guided else None
    watch.mark('action')
    reflex = model.reflex(prefix, ego)
    decoded = model.decode_all(hidden, reflex, unguided=unguided, guidance=guidance, others=others)
    assert decoded.votes is not None
    uncertainty = float(indecision(decoded.votes)[0])
    controls: FloatArray = decoded.controls[0].double().cpu().numpy()
    forecasts: tuple[Forecast, ...] = ()
    if decoded.agents is not None and decoded.agent_controls is not None:
        action = model.config.action_config
        states = decoded.agents.table()[0].double().cpu().numpy()
        motion = decoded.agent_controls[0].double().cpu().numpy()
        forecasts = forecasts_of(states, motion, action.dt_s, action.agent_existence)
    watch.mark('flow')
    return Driven(controls, uncertainty, _wants_words(model, prefix, intent), forecasts)


def _wants_words(model: VlaModel, prefix: Prefix, intent: IntentInputs | None) -> float:
    """Return what the gate makes of the scene (`Driven.wants_words`)."""
    if not model.config.words_config.grammar:
        return math.nan
    if intent is None:
        return 1.0
    return float(model.words.gate.outdated(prefix.scene, intent)[0])


def told_inputs(
    config: VlaConfig, intent: Intent | None, observation: Observation, device: torch.device
) -> IntentInputs | None:
    """Return an intent as it looks now; None where it counts for nothing any more.

    Raises `InvalidInput` where the model cannot be told one.
    """
    if not config.intent:
        refuse_intent(intent)
    if intent is None:
        return None
    kinds, numbers = intent_arrays(intent, observation, config.camera_names)
    if numbers[0, WEIGHT] <= 0.0:
        return None
    return to_device(IntentInputs(torch.from_numpy(kinds), torch.from_numpy(numbers)), device)


def torch_engine(device: torch.device, note: str = '') -> EngineReport:
    """Return what a model computes with that runs in torch on a device."""
    return EngineReport('torch', f'torch-{device.type}', precision(device), torch.get_num_threads(), note)


def ready_to_drive(model: VlaModel, device: torch.device) -> VlaModel:
    """Return the model on `device`, for inference alone, with whatever is the same at every tick computed once."""
    model = model.to(device).eval().requires_grad_(False)
    store_for_inference(model, device)
    for module in model.modules():
        if isinstance(module, RayFunction):
            module.remember()
    return model


def picture_sizes(config: VlaConfig) -> dict[str, tuple[int, int]]:
    """Return camera -> (width, height) that a model works at."""
    return {camera: (int(width), int(height)) for camera, (width, height) in config.image_sizes.items()}


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
