# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The blind control: the native architecture, trained without pictures, as a Policy.

It shows what ego motion and navigation alone can do; a model that sees must do better.
"""

from __future__ import annotations

import dataclasses

import torch

from vla_driver.model.native.seeing.inputs import InputBuilder
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import to_device
from vla_driver.policies.native import drive, picture_sizes, ready_to_drive, told_inputs, torch_engine
from vla_driver.policies.native_plans import plan_of
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import EngineReport, InputNeeds, Intent, InvalidInput, Observation, Plan


class BlindPolicy:
    """Drives with a VlaModel that does not see.  Not for use from two threads at once."""

    name = 'blind'
    #: Why it is not graphs that drive, where they were to.
    engine_note = ''
    #: How strongly an intent is heeded; see `drive`.
    guidance = 1.0
    #: As `NativePolicy.forecasting`.
    forecasting = True

    def __init__(self, model: VlaModel, device: str | torch.device = 'cpu') -> None:
        """The model is taken over, as by `NativePolicy`.  Raises `InvalidInput` for one that sees."""
        if not model.config.blind:
            raise InvalidInput('this checkpoint sees; drive with NativePolicy')
        self.config = model.config
        self.device = torch.device(device)
        self.model = ready_to_drive(model, self.device)
        self._inputs = InputBuilder(self.config)

    @property
    def engine(self) -> EngineReport:
        """What computes."""
        return torch_engine(self.device, self.engine_note)

    @property
    def needs(self) -> InputNeeds:
        """No pictures; where some are decoded all the same, the size that the model would work at is enough."""
        return InputNeeds((), picture_sizes(self.config), intents=self.config.intent)

    def reset(self) -> None:
        """Nothing is remembered."""

    @torch.inference_mode()
    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation.

        Raises InvalidInput for an intent that the model cannot be told, and for unknown cameras.
        """
        watch, model = Stopwatch(self.device), self.model
        inputs = to_device(self._inputs(observation), self.device)
        watch.mark('preprocess')
        with autocast(self.device):
            ego = model.ego(inputs)
            told = told_inputs(self.config, intent, observation, self.device)
            read = model.read(ego, None, None, intent=told)
            watch.mark('prefix')
            driven = drive(model, *read, ego, watch, told, self.guidance, self.forecasting)
        dt_s = model.config.action_config.dt_s
        plan = plan_of(observation, driven.controls, dt_s, self.name, watch.timing_ms, driven.forecasts)
        return dataclasses.replace(plan, uncertainty=driven.uncertainty, wants_words=driven.wants_words)
