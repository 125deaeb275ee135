# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model as it is loaded, saved and trained: its stages, and a `forward` that returns losses."""

from __future__ import annotations

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.pruned import PrunedTraining
from vla_driver.model.native.stages import VlaStages
from vla_driver.model.native.training import Dropouts, VlaOutput, losses_of
from vla_driver.model.tokens import ClipBatch


class VlaModel(VlaStages):
    """A `PreTrainedModel`: `from_pretrained` and `save_pretrained` read and write safetensors."""

    def __init__(self, config: VlaConfig):
        super().__init__(config)
        self.dropouts = Dropouts()
        #: Drops visual tokens in training; None: all stay.
        self.pruning: PrunedTraining | None = None

    def forward(self, batch: ClipBatch, stage: str = 'all') -> VlaOutput:
        """Return the losses of one batch of clips (`training.losses_of`)."""
        return losses_of(self, self.dropouts, batch, stage, self.pruning)
