# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of what plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vla_driver.settings.knob import parameter

#: The policies that a node can load; a simulation or a recording has an expert, too (`policies/registry.py`).
NODE_POLICIES: Final = ('model', 'blind', 'constant-velocity')
#: auto: graphs where there are some, or where they are those of a shipped model; else torch.
ENGINES: Final = ('auto', 'torch', 'onnx')


@dataclass(frozen=True)
class PolicyParameters:
    """What plans, and what it computes with."""

    policy: str = parameter('model', 'which policy plans', choices=NODE_POLICIES, launch=True)
    model: str = parameter(
        '',
        "the policy's checkpoint: a folder, or the name of a shipped one",
        unset='nano, or nano-blind for blind',
        launch=True,
        metavar='DIR',
    )
    engine: str = parameter(
        'auto',
        'what computes the model: onnx (its exported graphs, made where there are none), torch, or auto (the graphs '
        "where there are some; a shipped model's are made at first use)",
        choices=ENGINES,
        launch=True,
    )
    device: str = parameter(
        'auto', 'where the model runs: auto (CUDA where torch sees it), cpu, cuda or cuda:N', launch=True
    )
    prompt: str = parameter(
        '',
        "template file of a vision-language model's words",
        unset='its own, or config/prompts/default.yaml',
        launch=True,
        metavar='FILE',
    )
    threads: int = parameter(
        0,
        "threads of the policy's arithmetic; 0: one per core for graphs, torch's own choice for torch",
        low=0,
        high=256,
        launch=True,
        metavar='N',
    )
