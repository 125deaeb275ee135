# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from vla_driver.geometry import se2, unicycle
from vla_driver.model.native.acting.agent_motion import controls_of, drive
from vla_driver.model.tokens import AgentLabels


def _fitted(labels: AgentLabels) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the fitted controls [N, T, 2], and how far they lead from the recorded places [N, T]."""
    pose, speed = labels.pose.flatten(0, 1), labels.speed_mps.flatten()
    future, valid = labels.future.flatten(0, 1), labels.future_valid.flatten(0, 1)
    controls = controls_of(pose, speed, future, valid, 0.25)
    return controls, (drive(pose, speed, controls, 0.25).positions_m - future[..., :2]).norm(dim=-1)


def test_driving_from_a_pose_is_the_unicycle_moved_there() -> None:
    pose, controls = torch.tensor([3.0, -2.0, 2.5]), torch.randn(20, 2) * torch.tensor([1.0, 0.05])
    motion = drive(pose, torch.tensor(7.0), controls, 0.25)
    alone = unicycle.integrate(7.0, controls[:, 0].numpy(), controls[:, 1].numpy())
    expected = se2.compose(pose.numpy(), np.column_stack([alone.positions_m, alone.yaw_rad]))
    np.testing.assert_allclose(motion.positions_m, expected[:, :2], atol=1e-4)
    np.testing.assert_allclose(se2.wrap(motion.yaw_rad), expected[:, 2], atol=1e-5)
    np.testing.assert_allclose(motion.speed_mps, alone.speed_mps, atol=1e-5)


def test_fitted_controls_lead_where_they_went(agent_labels: Callable[..., AgentLabels]) -> None:
    controls, error = _fitted(agent_labels(16))
    assert error[:, :8].max() < 0.1
    assert error.mean() < 0.06
    assert controls[:, :, 1].abs().max() < 0.2


def test_noise_of_places_does_not_become_a_zigzag_of_speeds(agent_labels: Callable[..., AgentLabels]) -> None:
    labels = agent_labels(16)
    still = drive(labels.pose, labels.speed_mps, torch.zeros(16, 5, 20, 2), 0.25).positions_m
    labels.future[..., :2] = still + 0.05 * torch.randn(still.shape)
    labels.future[..., 2] = labels.pose[..., 2:]
    controls, error = _fitted(labels)
    # Speeds taken from neighbouring places would change by 0.07 m / 0.25 s each step: 1.1 m/s^2 and back.
    assert controls[..., 0].diff(dim=1).abs().mean() < 0.4
    assert error.mean() < 0.3


def test_what_is_not_known_says_nothing(agent_labels: Callable[..., AgentLabels]) -> None:
    labels = agent_labels(4)
    whole, _ = _fitted(labels)
    labels.future_valid[..., 12:] = False
    labels.future[..., 12:, :] = torch.nan
    part, error = _fitted(labels)
    assert torch.isfinite(part).all()
    assert error[:, :12].max() < 0.15
    torch.testing.assert_close(part[:, :6], whole[:, :6], atol=0.3, rtol=0.0)
    labels.future_valid[:] = False
    nothing, _ = _fitted(labels)
    torch.testing.assert_close(nothing, torch.zeros_like(nothing))
