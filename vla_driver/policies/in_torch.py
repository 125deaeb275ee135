# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A native checkpoint as a policy that runs in torch."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_driver.model.native.loading import load_model
from vla_driver.policies.blind import BlindPolicy
from vla_driver.policies.native import NativePolicy


def load_native(folder: Path, device: torch.device | str = 'cpu') -> NativePolicy | BlindPolicy:
    """Return the policy of a native checkpoint, nothing pruned; raises as `load_model` does."""
    model = load_model(folder, auxiliary=False)
    return BlindPolicy(model, device) if model.config.blind else NativePolicy(model, device)
