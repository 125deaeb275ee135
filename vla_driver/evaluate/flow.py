# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Solvers and steps of the flow against a 50-step reference: what few steps cost, and what they save.

All settings answer the same ticks from the same starts, so that they differ by the solver alone.  minADE is the mean
distance from the expert's plan, over the whole horizon, of the best of K samples (from the K likeliest anchors); a
miss is a final distance of the best one above 2 m; drivable is what the plan guard would let pass.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from vla_driver.evaluate.forecasts import MISS_M, ForecastFigures
from vla_driver.geometry import unicycle as numpy_unicycle
from vla_driver.model.native.acting.flow_samples import Samples, draw
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.acting.unicycle import integrate
from vla_driver.model.native.training import Dropouts, perceive
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.planning.guard import GuardLimits, infeasibility
from vla_driver.types import EgoState, Plan

#: What everything is compared with.
REFERENCE: Final = ('euler', 50)
SETTINGS: Final = (
    ('euler', 1),
    ('euler', 2),
    ('euler', 3),
    ('midpoint', 1),
    ('midpoint', 2),
    ('midpoint', 3),
    REFERENCE,
)


class _Setting:
    """What one setting gathers."""

    def __init__(self, solver: str, steps: int) -> None:
        self.solver, self.steps = solver, steps
        self.ade: list[Tensor] = []
        self.minade: list[Tensor] = []
        self.missed: list[Tensor] = []
        self.drivable: list[bool] = []
        self.times_ms: list[float] = []

    def add(self, samples: Samples, positions: Tensor, speed: Tensor, dt_s: float) -> None:
        controls = samples.controls.float()
        path = integrate(speed.unsqueeze(1).expand(controls.shape[:2]), controls, dt_s).positions_m
        error = (path - positions.unsqueeze(1)).norm(dim=-1)
        self.ade.append(error[:, 0].mean(dim=-1))
        self.minade.append(error.mean(dim=-1).amin(dim=1))
        self.missed.append(error[..., -1].amin(dim=1) > MISS_M)
        limits = GuardLimits()
        for v, rows in zip(speed.tolist(), controls.double().cpu().numpy(), strict=True):
            ego = EgoState(0.0, 0.0, 0.0, 0.0, v)
            for row in rows:
                trajectory = numpy_unicycle.integrate(v, row[:, 0], row[:, 1], dt_s)
                self.drivable.append(not infeasibility(Plan(0.0, trajectory, ego, 'flow'), limits))

    def row(self, reference: _Setting) -> dict[str, Any]:
        minade, of_reference = float(torch.cat(self.minade).mean()), float(torch.cat(reference.minade).mean())
        ade, ade_of_reference = float(torch.cat(self.ade).mean()), float(torch.cat(reference.ade).mean())
        return {
            'solver': self.solver,
            'steps': self.steps,
            'minade_m': minade,
            'relative_to_50': minade / of_reference - 1.0,
            'ade_m': ade,
            'ade_relative_to_50': ade / ade_of_reference - 1.0,
            'miss_rate': float(torch.cat(self.missed).float().mean()),
            'drivable': float(np.mean(self.drivable)),
            'ms': statistics.median(self.times_ms),
            'time_to_reference': statistics.median(
                mine / theirs for mine, theirs in zip(self.times_ms, reference.times_ms, strict=True)
            ),
        }


def evaluate_flow(
    model: VlaModel,
    batches: Iterable[ClipBatch],
    *,
    samples: int = 6,
    seed: int = 0,
    timed: int = 40,
    on_batch: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Return rows of `SETTINGS` and, where others are forecast and recorded, how good the forecasts are.

    timed: how often each setting's decoding of one tick is timed.  The model is left in evaluation mode, integrating
    as its checkpoint says.
    """
    device = next(model.parameters()).device
    action = model.config.action_config
    model.eval()
    settings = [_Setting(*setting) for setting in SETTINGS]
    figures, judged, ticks, last = ForecastFigures(action.dt_s, action.agent_existence, action.agent_pixels), 0, 0, None
    for number, on_cpu in enumerate(batches):
        batch = to_device(on_cpu, device)
        with torch.inference_mode(), autocast(device):
            hidden, reflex = _read(model, batch)
            for setting in settings:
                model.flow.solve_with(setting.solver, setting.steps)
                drawn = draw(model.flow, hidden, reflex, samples, torch.Generator().manual_seed(seed + number))
                setting.add(drawn, batch.labels.positions_m, batch.inputs.speed_mps, action.dt_s)
            model.flow.solve_with(action.solver, action.num_steps)
            if batch.labels.agents is not None and action.num_agents:
                drawn = draw(model.flow, hidden, reflex, samples, torch.Generator().manual_seed(seed + number))
                assert drawn.agents is not None
                assert drawn.agent_controls is not None
                figures.add(drawn.agents, drawn.agent_controls, batch.labels.agents)
                judged += int(batch.labels.agents.known.sum())
        ticks, last = ticks + len(hidden), (hidden[:1], Reflex(*(value[:1] for value in vars(reflex).values())))
        on_batch()
    assert last is not None, 'no batches'
    _time(model, settings, timed, *last)
    answer: dict[str, Any] = {'ticks': ticks, 'samples': samples, 'rows': [s.row(settings[-1]) for s in settings]}
    if judged:
        answer['others'] = {'ticks': judged, **figures.summary()}
    return answer


def _read(model: VlaModel, batch: ClipBatch) -> tuple[Tensor, Reflex]:
    """Return hidden states and reflex of a batch, nothing withheld."""
    ego = model.ego(batch.inputs)
    seen, memory, _ = perceive(model, Dropouts(), batch, ego)
    prefix = model.prefill(ego, None if seen is None else seen.tokens, memory)
    return model.act(*model.tell(prefix, ego)), model.reflex(prefix, ego)


def _time(model: VlaModel, settings: list[_Setting], timed: int, hidden: Tensor, reflex: Reflex) -> None:
    """Time one decoding of one tick, as driving does it; the settings in turns, so that all are slowed alike."""
    device = hidden.device
    anchor = torch.zeros(1, dtype=torch.int64, device=device)
    with torch.inference_mode(), autocast(device):
        for number in range(timed + 3):
            for setting in settings:
                model.flow.solve_with(setting.solver, setting.steps)
                began_s = time.perf_counter()
                model.flow.decode(hidden, anchor, None, reflex).controls.cpu()
                if number >= 3:
                    setting.times_ms.append(1e3 * (time.perf_counter() - began_s))
    action = model.config.action_config
    model.flow.solve_with(action.solver, action.num_steps)
