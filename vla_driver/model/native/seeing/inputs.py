# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Observation to tensors; what they hold is made in arrays.py."""

from __future__ import annotations

from dataclasses import fields

import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.seeing.arrays import ArrayBuilder
from vla_driver.model.tokens import ModelInputs
from vla_driver.types import Observation


class InputBuilder:
    """Observation to ModelInputs with B = 1; the rig's rays are computed once per rig."""

    def __init__(self, config: VlaConfig):
        # The blind control never looks, so nothing is resized for it.
        self._arrays = ArrayBuilder(config, looks=not config.blind)

    def __call__(self, observation: Observation) -> ModelInputs:
        """Return the tensors of one observation; raise `InvalidInput` for cameras the model does not know."""
        arrays = self._arrays(observation)
        images = tuple(torch.from_numpy(group) for group in arrays.images)
        others = {
            field.name: torch.from_numpy(getattr(arrays, field.name))
            for field in fields(arrays)
            if field.name != 'images'
        }
        return ModelInputs(images=images, **others)
