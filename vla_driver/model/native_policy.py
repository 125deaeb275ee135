# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model as a Policy: one observation in, one plan out, with a memory between."""

from __future__ import annotations

import itertools
import time

import torch

from vla_driver.geometry.unicycle import integrate
from vla_driver.model.inputs import InputBuilder
from vla_driver.model.memory import MemoryState
from vla_driver.model.precision import autocast, store_for_inference
from vla_driver.model.tokens import to_device
from vla_driver.model.vla import VlaModel
from vla_driver.types import Intent, InvalidInput, Observation, Plan


class NativePolicy:
    """Drives with a VlaModel.  Deterministic: the same observations give the same plans.

    Not for use from two threads at once.
    """

    def __init__(self, model: VlaModel, device: str | torch.device = 'cpu'):
        """The model is taken over: moved to `device`, set to evaluation, its weights stored as they are used."""
        self.config = model.config
        self.name = 'blind' if self.config.blind else 'model'
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        store_for_inference(self.model, self.device)
        self._inputs = InputBuilder(self.config)
        self._memory = MemoryState(self.config.memory_config)

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
            marks.append((stage, time.perf_counter()))

        inputs = to_device(self._inputs(observation), self.device)
        self._memory.observe_clock(observation.stamp_s)
        mark('preprocess')
        with autocast(self.device):
            tokens, remembered = None, None
            if not self.blind:
                tokens = self.model.encode(inputs).tokens
                pooled = self.model.pool(tokens)
                remembered = self._memory.read(observation.ego, observation.stamp_s, pooled)
                self._memory.write(pooled, observation.ego, observation.stamp_s)
            mark('vision')
            ego = self.model.ego(inputs)
            prefix = self.model.prefill(ego, tokens, remembered)
            mark('prefix')
            hidden = self.model.act(prefix, ego)
            mark('action')
            controls = self.model.decode(hidden)[0].double().cpu().numpy()
            mark('flow')
        trajectory = integrate(
            observation.ego.speed_mps, controls[:, 0], controls[:, 1], dt_s=self.config.action_config.dt_s
        )
        return Plan(
            stamp_s=observation.stamp_s,
            trajectory=trajectory,
            ego=observation.ego,
            policy=self.name,
            timing_ms={stage: 1e3 * (end - begin) for (_, begin), (stage, end) in itertools.pairwise(marks)},
        )
