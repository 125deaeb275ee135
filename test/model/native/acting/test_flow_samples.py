# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.acting.flow_samples import draw
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import InvalidInput


def _asked(model: VlaModel, rows: int = 3) -> tuple[torch.Tensor, Reflex]:
    action, width = model.config.action_config, model.config.view_config.hidden_size
    h = torch.randn(rows, 20 + action.num_agents, action.hidden_size)
    return h, Reflex(torch.randn(rows, 20), torch.randn(rows, action.num_anchors), torch.randn(rows, width))


def test_the_first_sample_is_the_plan_and_the_likeliest(small_model: Callable[..., VlaModel]) -> None:
    model = small_model()
    h, reflex = _asked(model)
    with torch.no_grad():
        samples = draw(model.flow, h, reflex, 4, torch.Generator().manual_seed(0))
        plan = model.decode(h, reflex)
    torch.testing.assert_close(samples.controls[:, 0], plan)
    assert samples.controls.shape == (3, 4, 20, 2)
    assert samples.agents is None
    torch.testing.assert_close(samples.probability.sum(dim=1), torch.ones(3))
    assert (samples.probability.diff(dim=1) <= 1e-6).all()
    # They differ, and a seed gives the same ones again.
    assert (samples.controls.std(dim=1).amax(dim=(1, 2)) > 0.05).all()
    with torch.no_grad():
        again = draw(model.flow, h, reflex, 4, torch.Generator().manual_seed(0))
    assert torch.equal(again.controls, samples.controls)


def test_of_more_samples_than_anchors_these_take_turns(small_model: Callable[..., VlaModel]) -> None:
    model = small_model()
    h, reflex = _asked(model, 1)
    with torch.no_grad():
        samples = draw(model.flow, h, reflex, 9, torch.Generator().manual_seed(0))
    assert samples.controls.shape == (1, 9, 20, 2)
    torch.testing.assert_close(samples.probability.sum(dim=1), torch.ones(1))
    assert samples.probability[0, 0] == samples.probability[0, 6], 'the first anchor is drawn from twice'
    assert not torch.allclose(samples.controls[0, 0], samples.controls[0, 6])


def test_no_samples_are_no_answer(small_model: Callable[..., VlaModel]) -> None:
    model = small_model()
    with pytest.raises(InvalidInput, match='0 samples'):
        draw(model.flow, *_asked(model), 0)
