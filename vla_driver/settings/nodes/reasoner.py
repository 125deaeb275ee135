# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Knobs of the reasoner, the slow half of the driver."""

from __future__ import annotations

from dataclasses import dataclass

from vla_driver.settings.inputs import InputParameters
from vla_driver.settings.knob import parameter


@dataclass(frozen=True)
class ReasonerParameters(InputParameters):
    """What reasons, how often, and with how much of the machine."""

    checkpoint: str = parameter(
        '',
        "the reasoner's checkpoint, one that speaks: a folder, or the name of a shipped one; a vision-language model "
        'can be the slow half of a native planner',
        unset='nano',
        launch='reasoner_checkpoint',
        metavar='DIR',
    )
    prompt: str = parameter(
        '',
        "template file of a vision-language model's words",
        unset='its own, or config/prompts/default.yaml',
        launch='reasoner_prompt',
        metavar='FILE',
    )
    device: str = parameter(
        'auto',
        'where the reasoner runs: auto (CUDA where torch sees it), cpu, cuda or cuda:N',
        launch='reasoner_device',
    )
    threads: int = parameter(
        1,
        "threads of the reasoner's arithmetic; 0: torch's own choice",
        low=0,
        high=256,
        launch='reasoner_threads',
        metavar='N',
    )
    nice: int = parameter(
        19,
        'by how much the priority of its thoughts is lowered (0 to 19), so that the planner does not wait for them; at '
        '19 it thinks only while nobody else wants the cores',
        low=0,
        high=19,
        launch='reasoner_nice',
    )
    rate_hz: float = parameter(
        2.0,
        'how often it looks of itself; 0: only when it is asked',
        low=0.0,
        high=10.0,
        live=True,
        launch='reasoner_rate_hz',
    )
    ask_uncertainty: float = parameter(
        0.5,
        "it also looks when a plan's uncertainty reaches this; above 1: never",
        low=0.0,
        high=2.0,
        live=True,
        launch=True,
    )
    ask_wanted: float = parameter(
        0.5,
        "it also looks when a plan's wants_words reaches this; above 1: never",
        low=0.0,
        high=2.0,
        live=True,
        launch=True,
    )
    pause_s: float = parameter(
        0.25, 'at least this long lies between the beginnings of two looks', low=0.0, high=10.0, live=True
    )
    max_age_s: float = parameter(
        1.0, 'images published longer ago are dropped, never thought about', low=0.02, high=10.0, live=True
    )
