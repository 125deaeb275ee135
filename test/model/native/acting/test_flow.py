# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.acting.flow import position_loss, solve, time_grid
from vla_driver.model.native.acting.unicycle import compress
from vla_driver.model.native.vla import VlaModel


@pytest.mark.parametrize('steps', [1, 2, 3, 5, 10])
def test_time_grid_is_uniform(steps: int) -> None:
    grid = torch.tensor(time_grid(steps))
    assert grid[0] == 0.0
    assert grid[-1] == 1.0
    assert grid.diff().max() <= 1 / steps + 1e-6
    assert grid.diff().min() >= 1 / steps - 1e-6


def _bimodal_error(steps: int, solver: str) -> float:
    """Wasserstein-1 distance between samples drawn with `solve` and exact ones, of two modes whose flow is known."""
    generator = torch.Generator().manual_seed(0)
    modes, sigma, samples = torch.tensor([-2.0, 2.0]), 0.15, 40_000

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        t = min(max(t, 1e-6), 1 - 1e-5)  # our time: 1 is data
        noise = 1.0 - t
        variance = t**2 * sigma**2 + noise**2
        weight = torch.softmax(-((x[:, None] - t * modes) ** 2) / (2 * variance), dim=1)
        x1 = (weight * (modes + t * sigma**2 / variance * (x[:, None] - t * modes))).sum(dim=1)
        return (x1 - x) / noise

    start = torch.randn(samples, generator=generator)
    exact = modes[torch.randint(0, 2, (samples,), generator=generator)]
    exact = exact + sigma * torch.randn(samples, generator=generator)
    drawn = solve(velocity, start, steps, solver)
    return float((drawn.sort().values - exact.sort().values).abs().mean())


@pytest.mark.parametrize(('steps', 'solver', 'bound'), [(2, 'euler', 0.6), (3, 'euler', 0.2), (2, 'midpoint', 0.2)])
def test_few_steps_reach_both_modes(steps: int, solver: str, bound: float) -> None:
    # A schedule that spends the whole way on its first step scores 2.0 with two steps.
    assert _bimodal_error(steps, solver) < bound


def test_plan_starts_at_the_anchor_before_training(small_config: Callable) -> None:
    model = VlaModel(small_config())
    with torch.no_grad():
        model.flow.anchors.normal_()
        controls = model.flow.sample(torch.randn(2, 20, 24), torch.tensor([3, 5]))
    torch.testing.assert_close(controls, model.flow.anchors[[3, 5]])


def test_nearest_anchor_is_by_trajectory(small_model: Callable[..., VlaModel]) -> None:
    flow = small_model().flow
    speed = torch.full((6,), 8.0)
    assert flow.nearest_anchors(flow.anchors, speed).argmin(dim=1).tolist() == list(range(6))
    # Two ways of braking differ in their controls, but both stand still from the start.
    with torch.no_grad():
        flow.anchors[:, :, 0] = 3.0
        flow.anchors[1, :, 0] = -1.0
        flow.anchors[2, :, 0] = -4.0
    hard = flow.anchors[2:3]
    assert flow.nearest_anchors(hard, torch.zeros(1))[0, 1] < 0.5
    assert flow.nearest_anchors(hard, torch.full((1,), 10.0))[0, 1] > 2.0


def test_nearest_anchor_does_not_ask_about_steering(small_model: Callable[..., VlaModel]) -> None:
    flow = small_model().flow
    speed, turned = torch.full((6,), 8.0), flow.anchors.clone()
    turned[..., 1] += 0.7
    assert flow.nearest_anchors(turned, speed).argmin(dim=1).tolist() == list(range(6))
    with torch.no_grad():
        flow.anchors.zero_()
        flow.anchors[1, :4, 0], flow.anchors[2, -4:, 0] = -1.0, -1.0
    # Who brakes early is farther from driving on than who brakes at the end.
    distance = flow.nearest_anchors(flow.anchors[:1], torch.full((1,), 8.0))[0]
    assert distance[0] < distance[2] < distance[1]


def test_the_flow_keeps_to_the_answer_it_starts_at(small_config: Callable) -> None:
    """Where h leaves both open, one time in four "go", a start at "wait" stays there instead of creeping."""
    torch.manual_seed(0)
    flow = VlaModel(small_config()).flow
    controls = torch.zeros(64, 20, 2)
    controls[::4, :8, 0] = 2.0
    target, speed = flow.normalise(controls), torch.zeros(64)
    with torch.no_grad():
        flow.anchors.copy_(target[[1, 0, 0, 0, 0, 0]])
    h = torch.ones(64, 20, 24)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=3e-3)
    for _ in range(200):
        losses = flow.losses(h, controls, speed)
        optimizer.zero_grad()
        (losses['flow'] + losses['anchor']).backward()
        optimizer.step()
    with torch.no_grad():
        wait = flow.rollout(flow.sample(h[:1], torch.tensor([0])), speed[:1]).speed_mps
        assert flow.classify(h[:1]).argmax() == 0
    mean_of_both = 0.25 * 2.0 * 8 * 0.25
    assert wait[0, 7] < 0.4 * mean_of_both


def test_controls_are_within_limits_and_normalisation_inverts(small_model: Callable[..., VlaModel]) -> None:
    flow = small_model().flow
    controls = flow.denormalise(100 * torch.randn(4, 20, 2))
    assert controls[..., 0].min() == -8.0
    assert controls[..., 0].max() == 3.0
    assert controls[..., 1].abs().max() == pytest.approx(0.25)
    inside = torch.rand(4, 20, 2) * 0.1
    torch.testing.assert_close(flow.denormalise(flow.normalise(inside)), inside)


def test_noise_changes_the_plan_and_none_is_deterministic(small_model: Callable[..., VlaModel]) -> None:
    flow = small_model().flow
    h, anchor = torch.randn(1, 20, 24), torch.tensor([0])
    with torch.no_grad():
        assert torch.equal(flow.sample(h, anchor), flow.sample(h, anchor))
        assert not torch.allclose(flow.sample(h, anchor), flow.sample(h, anchor, torch.randn(1, 20, 2)))


def test_learns_two_manoeuvres(small_config: Callable) -> None:
    """Trained on 'brake' and 'turn left', told apart by h, the decoder answers each with its own."""
    torch.manual_seed(0)
    flow = VlaModel(small_config()).flow
    brake = torch.stack([torch.full((20,), -3.0), torch.zeros(20)], dim=-1)
    turn = torch.stack([torch.zeros(20), torch.full((20,), 0.08)], dim=-1)
    with torch.no_grad():
        flow.anchors.copy_(flow.normalise(torch.stack([brake, turn] * 3)) * 0.7)
    h = torch.zeros(2, 20, 24)
    h[0, :, :4], h[1, :, :4] = 1.0, -1.0
    target, speed = torch.stack([brake, turn]), torch.full((2,), 9.0)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=3e-3)
    for _ in range(250):
        losses = flow.losses(h, target, speed)
        optimizer.zero_grad()
        (losses['flow'] + losses['anchor'] + 0.3 * losses['position']).backward()
        optimizer.step()
    with torch.no_grad():
        controls = flow.denormalise(flow.sample(h, flow.classify(h).argmax(dim=-1)))
    assert (controls[0] - brake).abs().mean(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=0.3)
    assert (controls[1] - turn)[:, 1].abs().mean() < 0.01


def test_position_loss_judges_speed_and_path_apart() -> None:
    speed, target = torch.full((1,), 8.0), torch.zeros(1, 20, 2)
    slow = target.clone()
    slow[..., 0] = -1.0
    slow.requires_grad_()
    turn = torch.full((1, 20, 2), 0.02) * torch.tensor([0.0, 1.0])
    assert position_loss(target, target, speed, 0.25) == 0.0
    # On a bend, who is too slow is behind, but steers right: nothing is to be learnt about the curvature.
    position_loss(torch.cat([slow[..., :1], turn[..., 1:]], dim=-1), turn, speed, 0.25).backward()
    assert slow.grad is not None
    assert slow.grad[..., 0].abs().min() > 0
    bent = turn.clone().requires_grad_()
    position_loss(bent + torch.tensor([-1.0, 0.0]), turn, speed, 0.25).backward()
    assert bent.grad is not None
    assert bent.grad[..., 1].abs().max() == 0.0
    # A metre aside is worse than a metre behind.
    aside, behind = target.clone(), target.clone()
    aside[..., 1], behind[..., 0] = 2 / (8.0 * 5.0) ** 2, -2 / 5.0**2
    assert position_loss(aside, target, speed, 0.25) > 2 * position_loss(behind, target, speed, 0.25)


def test_lane_keeping_and_turning_are_of_one_order_when_compressed() -> None:
    controls = torch.tensor([[0.0, 0.004], [0.0, 0.15], [0.0, -0.15]])
    bend = compress(controls, 0.01)[:, 1]
    assert bend[0] == pytest.approx(0.39, abs=0.01)
    assert bend[1] == pytest.approx(3.4, abs=0.01) and bend[2] == -bend[1]
