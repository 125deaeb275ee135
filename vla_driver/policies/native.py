# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model as a Policy: one observation in, one plan out, with a memory between."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.experts import expert_layers
from vla_driver.model.layers.rays import RayFunction
from vla_driver.model.native.inputs import InputBuilder
from vla_driver.model.native.memory import MemoryState
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast, precision, store_for_inference
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.stage import AnyPruner, TokenShapes
from vla_driver.model.tokens import Prefix, VisualTokens, to_device
from vla_driver.policies.native_plans import plan_of, refuse_intent
from vla_driver.policies.prunable import Prunable
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import EngineReport, FloatArray, InputNeeds, Intent, InvalidInput, Observation, Plan


class NativePolicy(Prunable):
    """Drives with a VlaModel that sees.  Deterministic: the same observations give the same plans.

    Not for use from two threads at once.
    """

    name = 'model'
    #: Why it is not graphs that drive, where they were to.
    engine_note = ''

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
        return InputNeeds(tuple(self.config.camera_names), picture_sizes(self.config))

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
        )

    @property
    def last_load(self) -> dict[int, FloatArray]:
        """Of the last tick: language layer -> load of each of its experts [N], 1 for an even one; {} without any."""
        loads = {}
        for number, layer in enumerate(self.model.language.layers):
            routing = next((part.last_routing for part in expert_layers(layer).values()), None)
            if routing is not None:
                loads[number] = routing.load().cpu().numpy()
        return loads

    def reset(self) -> None:
        """Forget earlier ticks."""
        self._memory.reset()

    @torch.inference_mode()
    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation.  A jump of its clock empties the memory.

        Raises InvalidInput for an intent (the model has none yet to be told) and for unknown cameras.
        """
        refuse_intent(intent)
        watch, model, stage = Stopwatch(self.device), self.model, self._stage
        stage.begin()
        self._seen_s = observation.stamp_s
        inputs = to_device(self._inputs(observation), self.device)
        self._memory.observe_clock(observation.stamp_s)
        watch.mark('preprocess')
        with autocast(self.device):
            seen = model.encode(inputs, stage)
            pooled = model.pool(seen.tokens)
            remembered = self._memory.read(observation.ego, observation.stamp_s, pooled)
            self._memory.write(pooled, observation.ego, observation.stamp_s)
            ego = model.ego(inputs)
            watch.mark('vision')
            kept = stage.behind_encoder(seen.tokens, ego) or seen.kept
            prefix = model.prefill(ego, seen.tokens, remembered, kept, stage)
            watch.mark('prefix')
            controls = drive(model, prefix, ego, watch)
        timing_ms = stage.share_of(watch.timing_ms, 'prefix')
        return plan_of(observation, controls, model.config.action_config.dt_s, self.name, timing_ms)


def drive(model: VlaModel, prefix: Prefix, ego: Tensor, watch: Stopwatch) -> FloatArray:
    """Return the controls [T, 2] in m/s^2 and 1/m that follow from what was read."""
    hidden = model.act(prefix, ego)
    watch.mark('action')
    controls: FloatArray = model.decode(hidden, model.reflex(prefix, ego))[0].double().cpu().numpy()
    watch.mark('flow')
    return controls


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
