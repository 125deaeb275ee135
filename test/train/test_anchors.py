# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Anchors are fitted to the expert's controls: speeds that it drives, straight on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vla_driver.model.native.vla import VlaModel
from vla_driver.train.anchors import fit_anchors
from vla_driver.types import InvalidInput


def _controls(count: int) -> np.ndarray:
    """Return [count, 20, 2]: accelerations about -2, 0 or 1 m/s2, and a curve to the left."""
    rng = np.random.default_rng(0)
    kinds = rng.choice([-2.0, 0.0, 1.0], count)
    acceleration = kinds[:, None] + rng.normal(0.0, 0.05, (count, 20))
    return np.stack([acceleration, np.full((count, 20), 0.02)], axis=-1).astype(np.float32)


def test_anchors_are_the_kinds_there_are_and_go_straight_on(episode_model: Callable[..., VlaModel]) -> None:
    model, controls = episode_model(), _controls(300)
    anchors = fit_anchors(model, controls, np.ones(300), seed=0)
    assert anchors.shape == (6, 20, 2)
    assert np.array_equal(model.flow.anchors.detach().numpy(), anchors)
    drivable = model.flow.denormalise(model.flow.anchors.float()).detach().numpy()
    nearest = np.abs(drivable[..., 0].mean(axis=1)[:, None] - np.array([-2.0, 0.0, 1.0])).min(axis=1)
    assert nearest.max() < 0.1
    assert np.abs(drivable[..., 1]).max() < 1e-4
    assert np.array_equal(fit_anchors(model, controls, np.ones(300), seed=0), anchors)


def test_weights_say_what_counts(episode_model: Callable[..., VlaModel]) -> None:
    controls = _controls(300)
    brakes = controls[:, :, 0].mean(axis=1) < -1.0
    model = episode_model()
    fit_anchors(model, controls, brakes.astype(float), seed=0)
    assert model.config.action_config.control_mean[0] == pytest.approx(-2.0, abs=0.05)


def test_what_cannot_be_fitted_is_refused(episode_model: Callable[..., VlaModel]) -> None:
    with pytest.raises(InvalidInput, match='expected \\[n, 20, 2\\]'):
        fit_anchors(episode_model(), np.zeros((30, 19, 2)), np.ones(30), seed=0)
    with pytest.raises(InvalidInput, match='5 ticks are too few for 6 anchors'):
        fit_anchors(episode_model(), np.zeros((5, 20, 2)), np.ones(5), seed=0)
