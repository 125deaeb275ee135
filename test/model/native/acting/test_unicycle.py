# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from vla_driver.geometry import unicycle as reference
from vla_driver.model.native.acting import unicycle


@pytest.mark.parametrize('speed', [0.0, 0.4, 3.0, 14.0])
def test_agrees_with_the_numpy_recursion(speed: float) -> None:
    rng = np.random.default_rng(int(10 * speed))
    controls = np.stack([rng.normal(-0.5, 2.5, (50, 20)), rng.normal(0.0, 0.08, (50, 20))], axis=-1)
    rollout = unicycle.integrate(torch.full((50,), speed, dtype=torch.float64), torch.from_numpy(controls), 0.25)
    for row in range(50):
        want = reference.integrate(speed, controls[row, :, 0], controls[row, :, 1], 0.25)
        np.testing.assert_allclose(rollout.positions_m[row], want.positions_m, atol=1e-9)
        np.testing.assert_allclose(rollout.speed_mps[row], want.speed_mps, atol=1e-9)
        np.testing.assert_allclose(rollout.yaw_rad[row], want.yaw_rad, atol=1e-9)


def test_stops_and_starts_again() -> None:
    acceleration = torch.cat([torch.full((10,), -4.0), torch.full((10,), 2.0)])
    rollout = unicycle.integrate(torch.tensor(2.0), torch.stack([acceleration, torch.zeros(20)], dim=-1), 0.25)
    assert torch.equal(rollout.speed_mps[1:10], torch.zeros(9))
    assert rollout.speed_mps[-1] == pytest.approx(5.0)


def test_gradient_reaches_the_controls() -> None:
    controls = torch.zeros(20, 2, requires_grad=True)
    unicycle.integrate(torch.tensor(5.0), controls, 0.25).positions_m[-1].sum().backward()
    assert controls.grad is not None
    assert (controls.grad[:-1].abs() > 1e-3).all()
