# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How good the plans are that would be driven, on ticks that training has not seen; and two models compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import to_device
from vla_driver.statistics import bracketed, ratio_ci
from vla_driver.train.reinforcement.judged import JudgedBatch, judge_controls
from vla_driver.train.reinforcement.rewards import NAMES


@dataclass(frozen=True)
class Measured:
    """figures: by name [N], of each tick: those of `Scores`, and ade_3s, the mean distance from the expert's plan over
    3 s, metres; episode [N]: of which drive it is.
    """  # fmt: skip

    figures: dict[str, npt.NDArray[np.float64]]
    episode: npt.NDArray[np.int64]

    def means(self) -> dict[str, float]:
        """Return the mean of each figure over all ticks."""
        return {name: float(values.mean()) for name, values in self.figures.items()}


@torch.inference_mode()
def measure(model: VlaModel, batches: Iterable[JudgedBatch]) -> Measured:
    """Return the figures of the plans that would be driven: the likeliest anchor, and nothing added."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    rows: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in (*NAMES, 'ade_3s')}
    episodes: list[int] = []
    for on_cpu in batches:
        batch = to_device(on_cpu, device)
        with autocast(device):
            out = model(batch, stage='policy')
            controls = model.decode(out.hidden, out.reflex)
        normalised = model.flow.normalise(controls.float()).unsqueeze(1)
        for name, values in judge_controls(model.flow, normalised, batch).items():
            rows[name].append(values[:, 0].cpu().double().numpy())
        driven = model.flow.rollout(normalised[:, 0], batch.inputs.speed_mps)
        away = (driven.positions_m - batch.labels.positions_m).norm(dim=-1)
        rows['ade_3s'].append(away[:, : round(3.0 / model.flow.config.dt_s)].mean(dim=1).cpu().double().numpy())
        episodes += on_cpu.episode
    model.train(was_training)
    return Measured({name: np.concatenate(values) for name, values in rows.items()}, np.array(episodes, np.int64))


def compare(before: Measured, after: Measured) -> dict[str, Any]:
    """Return before, after and their difference of each figure, with a 95 % interval of the difference.

    Both of the same ticks.  The interval is a percentile bootstrap over whole drives: ticks of one are alike.
    """
    drives, place = np.unique(before.episode, return_inverse=True)
    counts = np.bincount(place)
    report: dict[str, Any] = {'ticks': len(before.episode), 'drives': len(drives)}
    for name, earlier in before.figures.items():
        gain = after.figures[name] - earlier
        report[name] = {
            'before': float(earlier.mean()),
            'after': float(after.figures[name].mean()),
            'difference': float(gain.mean()),
            'interval': ratio_ci(np.bincount(place, gain), counts),
        }
    return report


def described(report: dict[str, Any]) -> str:
    """Return what `compare` found, one figure a line."""
    lines = [f'held out: {report["ticks"]} ticks of {report["drives"]} drives; 95 % intervals over drives']
    for name, row in report.items():
        if isinstance(row, dict):
            change = f'{row["difference"]:+.4f}{bracketed(row["interval"], "+.4f")}'
            lines.append(f'{name}: {row["before"]:.4f} -> {row["after"]:.4f}, {change}')
    return '\n'.join(lines)
