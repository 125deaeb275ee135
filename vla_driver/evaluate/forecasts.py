# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How good forecasts of others are: who is found, how well placed, and where they go against constant velocity.

Whom a camera shows is matched with the forecasts, one to one and nearest first, within `GATE_M`.  Where the found ones
go is judged over all times that were recorded: minADE is the mean distance of the best of K samples, a miss is a final
distance above `MISS_M`.  Constant velocity starts from the same found state, so that motion alone is compared; and
both once more from the true state, as forecasting benchmarks have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vla_driver.model.native.acting.agent_motion import drive
from vla_driver.model.native.acting.agents import AgentStates
from vla_driver.model.tokens import AgentLabels
from vla_driver.statistics import mean_ci

#: Who is nearer than this is counted once more apart: range is hard to see, and grows harder with distance.
NEAR_M: Final = 20.0
#: Farther from the truth, a forecast is of somebody else.
GATE_M: Final = 4.0
#: As in Argoverse 2 (arXiv 2301.00493).
MISS_M: Final = 2.0
#: Who moves at least this fast at t0 counts as moving.
MOVING_MPS: Final = 1.0
#: A future known for less than this says little, in points of 0.25 s.
_LEAST_POINTS: Final = 8


class ForecastFigures:
    """Gathers the figures batch by batch; `summary` says them."""

    def __init__(self, dt_s: float, existence: float, pixels: float) -> None:
        """existence: from which probability on somebody counts as forecast; pixels: from which size on as seen."""
        self._dt_s, self._existence, self._pixels = dt_s, existence, pixels
        self._seen = self._found = self._said = self._true_alarms = self._near = self._near_found = 0
        self._moving: list[bool] = []
        self._state: dict[str, list[float]] = {'place_m': [], 'speed_mps': [], 'yaw_deg': [], 'kind': []}
        self._errors: dict[str, dict[str, list[float]]] = {}

    def add(self, states: AgentStates, controls: Tensor, labels: AgentLabels) -> None:
        """Take one batch: states and controls [B, K, A, T, 2] (m/s^2, 1/m; sample 0 the likeliest), and the truth."""
        existence = states.existence.sigmoid()
        distance = torch.cdist(states.pose[..., :2].float(), labels.pose[..., :2].float())
        seen = labels.present & (labels.pixels >= self._pixels) & labels.known.unsqueeze(1)
        for row in range(len(existence)):
            if not labels.known[row]:
                continue
            said = (existence[row] >= self._existence).nonzero()[:, 0]
            there, anybody = seen[row].nonzero()[:, 0], labels.present[row].nonzero()[:, 0]
            self._seen, self._said = self._seen + len(there), self._said + len(said)
            near_by = labels.pose[row, :, :2].norm(dim=-1) < NEAR_M
            self._near += int(near_by[there].sum())
            if len(said) and len(anybody):
                # Somebody whom cameras hardly show is no false alarm.
                self._true_alarms += int((distance[row][said][:, anybody].amin(dim=1) <= GATE_M).sum())
            if not len(said) or not len(there):
                continue
            near = distance[row][said][:, there].cpu().numpy()
            rows, columns = linear_sum_assignment(np.where(near <= GATE_M, near, 1e3))
            for i, j in zip(rows, columns, strict=True):
                if near[i, j] <= GATE_M:
                    self._found += 1
                    self._near_found += int(near_by[there[j]])
                    self._judge(row, int(said[i]), int(there[j]), states, controls, labels)

    def _judge(
        self, row: int, query: int, who: int, states: AgentStates, controls: Tensor, labels: AgentLabels
    ) -> None:
        pose, true_pose = states.pose[row, query].float(), labels.pose[row, who].float()
        speed, true_speed = states.speed_mps[row, query].float(), labels.speed_mps[row, who].float()
        turn = float(torch.rad2deg(pose[2] - true_pose[2]))
        self._state['place_m'].append(float((pose[:2] - true_pose[:2]).norm()))
        self._state['speed_mps'].append(abs(float(speed - true_speed)))
        self._state['yaw_deg'].append(abs((turn + 180.0) % 360.0 - 180.0))
        self._state['kind'].append(float((states.person[row, query] > 0) == labels.person[row, who]))
        valid = labels.future_valid[row, who]
        if int(valid.sum()) < _LEAST_POINTS:
            return
        self._moving.append(float(true_speed) >= MOVING_MPS)
        own = controls[row, :, query].float()  # [K, T, 2]
        truth = labels.future[row, who, :, :2].float()
        still = torch.zeros_like(own[:1])
        for name, start, v in (('found', pose, speed), ('true', true_pose, true_speed)):
            for kind, driven in (('model', own), ('constant_velocity', still)):
                many = len(driven)
                path = drive(start.expand(many, 3), v.expand(many), driven, self._dt_s).positions_m
                self._note(f'{kind}_from_{name}_state', (path - truth).norm(dim=-1)[:, valid])

    def _note(self, name: str, error: Tensor) -> None:
        """Note the distances [K, T] of the samples from the truth."""
        noted = self._errors.setdefault(name, {'ade_m': [], 'minade_m': [], 'miss': [], 'min_miss': []})
        mean, final = error.mean(dim=1), error[:, -1]
        noted['ade_m'].append(float(mean[0]))
        noted['minade_m'].append(float(mean.min()))
        noted['miss'].append(float(final[0] > MISS_M))
        noted['min_miss'].append(float(final.min() > MISS_M))

    def summary(self) -> dict[str, Any]:
        """Return shares of found and of true alarms, errors of the found states, and of their futures."""
        answer: dict[str, Any] = {
            'seen': self._seen,
            'found_share': self._found / max(1, self._seen),
            'seen_near': self._near,
            'found_share_near': self._near_found / max(1, self._near),
            'forecast': self._said,
            'true_share': self._true_alarms / max(1, self._said),
            'state': {name: float(np.mean(values)) for name, values in self._state.items() if values},
            'futures': len(self._moving),
        }
        moving = np.array(self._moving, dtype=bool)
        for title, chosen in (('all', np.ones(len(moving), bool)), ('moving', moving)):
            if chosen.any():
                answer[title] = {name: _means(noted, chosen) for name, noted in self._errors.items()}
                answer[title]['count'] = int(chosen.sum())
        return answer


def _means(noted: Mapping[str, list[float]], chosen: np.ndarray) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, values in noted.items():
        picked = np.asarray(values)[chosen]
        figures[name] = float(picked.mean())
        if name == 'minade_m':
            figures['minade_m_ci'] = mean_ci(picked, resamples=1000)
    return figures
