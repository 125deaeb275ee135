# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.acting.agent_losses import match, state_losses, targets_of
from vla_driver.model.native.acting.agent_motion import drive
from vla_driver.model.native.acting.flow import FlowDecoder
from vla_driver.model.native.training import LOSS_WEIGHTS
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import AgentLabels, ClipBatch
from vla_driver.types import InvalidInput


@pytest.fixture
def with_agents(small_config: Callable[..., VlaConfig]) -> Callable[..., VlaConfig]:
    """Return a maker of small configs that forecast others: (num_agents=6, **action)."""

    def make(num_agents: int = 6, **action: object) -> VlaConfig:
        plain = small_config().action_config.to_dict()
        config = small_config()
        return VlaConfig(
            vision_config=config.vision_config.to_dict(),
            language_config=config.language_config.to_dict(),
            image_sizes=config.image_sizes,
            action_config={**plain, 'num_agents': num_agents, **action},
        )

    return make


@pytest.fixture
def model(with_agents: Callable[..., VlaConfig]) -> VlaModel:
    """A small model of six others, with random weights far from the initial ones."""
    torch.manual_seed(0)
    made = VlaModel(with_agents()).eval()
    with torch.no_grad():
        made.flow.anchors.normal_()
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def _hidden(labels: AgentLabels, width: int) -> torch.Tensor:
    """Return hidden states [B, 20 + N, width] that say of each other what there is to know."""
    facts = torch.cat(
        [
            labels.pose[..., :2] / 20.0,
            labels.pose[..., 2:].cos(),
            labels.pose[..., 2:].sin(),
            labels.speed_mps.unsqueeze(-1) / 10.0,
            labels.person.unsqueeze(-1).float(),
            labels.present.unsqueeze(-1).float(),
            (labels.future[..., -1, :2] - labels.pose[..., :2]) / 20.0,
        ],
        dim=-1,
    )
    others = torch.nn.functional.pad(facts, (0, width - facts.shape[-1]))
    return torch.cat([torch.zeros(len(facts), 20, width), others], dim=1)


def test_without_others_nothing_is_there(small_config: Callable[..., VlaConfig]) -> None:
    names = VlaModel(small_config()).state_dict()
    assert not [name for name in names if 'agent' in name or 'others' in name]


def test_one_pass_gives_a_plan_and_the_others(
    model: VlaModel, clip_batch: Callable[..., ClipBatch], agent_labels: Callable[..., AgentLabels]
) -> None:
    batch = clip_batch(model.config)
    batch = dataclasses.replace(batch, labels=dataclasses.replace(batch.labels, agents=agent_labels(8)))
    with torch.no_grad():
        out = model(batch)
        decoded = model.decode_all(out.hidden, out.reflex)
        alone = model.decode(out.hidden, out.reflex)
    assert out.hidden.shape == (8, 26, 24)
    of_others = {name for name in LOSS_WEIGHTS if name.startswith('agent_')}
    assert of_others == {name for name in out.losses if name.startswith('agent_')}
    assert all(torch.isfinite(loss) for loss in out.losses.values())
    assert torch.equal(decoded.controls, alone)
    assert decoded.agents is not None
    assert decoded.agent_controls is not None
    assert decoded.agents.table().shape == (8, 6, 8)
    assert decoded.agent_controls.shape == (8, 6, 20, 2)
    # Deterministic without noise.
    again = model.decode_all(out.hidden, out.reflex)
    assert torch.equal(again.agent_controls, decoded.agent_controls)


def test_others_read_the_ego_and_it_plans_the_same_whoever_asks_for_them(model: VlaModel) -> None:
    flow, h, anchor = model.flow, torch.randn(1, 26, 24), torch.tensor([0])
    moved_ego, moved_other = h.clone(), h.clone()
    moved_ego[:, :20] += 1.0
    moved_other[:, 25] += 1.0
    with torch.no_grad():
        own, _, others = flow.sample_all(h, anchor)
        same, _, moved = flow.sample_all(moved_other, anchor)
        torch.testing.assert_close(same, own)
        assert not torch.allclose(moved, others, atol=1e-5)
        assert not torch.allclose(flow.sample_all(moved_ego, anchor)[2], others, atol=1e-5)
        flow.others = None
        torch.testing.assert_close(flow.sample(h[:, :20], anchor), own)


def test_every_sample_can_be_driven(model: VlaModel) -> None:
    flow = model.flow
    h, noise = 5.0 * torch.randn(16, 26, 24), 30.0 * torch.randn(16, 7, 20, 2)
    with torch.no_grad():
        decoded = flow.decode(h, torch.zeros(16, dtype=torch.int64), noise, None)
    assert decoded.agents is not None
    assert decoded.agent_controls is not None
    people = decoded.agents.person > 0
    assert people.any()
    assert (~people).any()
    acceleration, curvature = decoded.agent_controls.unbind(dim=-1)
    assert acceleration.min() >= -8.0
    assert acceleration.max() <= 3.0
    assert curvature[~people].abs().max() <= 0.25 + 1e-6
    assert 0.25 < curvature[people].abs().max() <= 2.0 + 1e-5


def test_order_of_the_labels_does_not_matter(model: VlaModel, agent_labels: Callable[..., AgentLabels]) -> None:
    labels, others = agent_labels(8), model.flow.others
    order = torch.tensor([3, 0, 4, 1, 2])
    each = {f.name: getattr(labels, f.name) for f in dataclasses.fields(labels)}
    turned = AgentLabels(**{name: value[:, order] if value.dim() > 1 else value for name, value in each.items()})
    with torch.no_grad():
        states = others.states(torch.randn(8, 6, 24))
        one, other = (targets_of(others, states, each) for each in (labels, turned))
    assert torch.equal(one.matched, other.matched)
    torch.testing.assert_close(one.pose, other.pose)
    torch.testing.assert_close(one.controls, other.controls)


def test_matching_is_one_to_one_and_the_cheapest(model: VlaModel, agent_labels: Callable[..., AgentLabels]) -> None:
    labels = agent_labels(4, count=9)
    with torch.no_grad():
        states = model.flow.others.states(torch.randn(4, 6, 24))
        index = match(states, labels, labels.present)
        for row in index:
            assert sorted(row.tolist()) == list(range(6)), 'of more than there are queries, the nearest'
        # Queries that stand where somebody is answer for that one.
        order = torch.tensor([5, 2, 0, 4, 1, 3])
        there = dataclasses.replace(states, place=torch.asinh(labels.pose[:, order, :2] / 10.0))
        assert torch.equal(match(there, labels, labels.present), order.expand(4, -1))


def test_the_unseen_are_neither_asked_for_nor_forbidden(
    model: VlaModel, agent_labels: Callable[..., AgentLabels]
) -> None:
    labels, others = agent_labels(4), model.flow.others
    hidden = dataclasses.replace(labels, pixels=torch.zeros_like(labels.pixels))
    with torch.no_grad():
        states = others.states(torch.randn(4, 6, 24))
        place = states.place.clone()
        place[:, 2] = torch.asinh(labels.pose[:, 0, :2] / 10.0)  # a guess at somebody whom nobody can see
        states = dataclasses.replace(states, place=place)
        targets = targets_of(others, states, hidden)
        assert not targets.matched.any()
        assert targets.ignored[:, 2].all()
        sure = states.existence.clone()
        sure[:, 2] = 5.0
        same = state_losses(dataclasses.replace(states, existence=sure), targets)
        assert torch.equal(same['agent_found'], state_losses(states, targets)['agent_found'])
        # Whom nobody guesses near, though, is a false alarm.
        empty = dataclasses.replace(labels, present=torch.zeros_like(labels.present))
        alone = targets_of(others, states, empty)
        assert not alone.ignored.any()
        assert state_losses(dataclasses.replace(states, existence=sure), alone)['agent_found'] > same['agent_found']


def test_drives_that_did_not_record_others_teach_nothing_of_them(
    model: VlaModel, clip_batch: Callable[..., ClipBatch]
) -> None:
    out = model(clip_batch(model.config))
    assert {name: float(out.losses[name]) for name in LOSS_WEIGHTS if name.startswith('agent_')} == {
        'agent_tokens': 0.0,
        'agent_found': 0.0,
        'agent_state': 0.0,
        'agent_flow': 0.0,
        'agent_position': 0.0,
    }
    out.loss.backward()
    assert all(parameter.grad is not None for parameter in model.flow.others.parameters()), 'ranks would wait'


def test_places_that_are_not_known_are_not_judged(model: VlaModel, agent_labels: Callable[..., AgentLabels]) -> None:
    labels, controls = agent_labels(4), torch.zeros(4, 20, 2)
    labels.future_valid[..., 10:] = False
    wrong = dataclasses.replace(labels, future=labels.future.clone())
    wrong.future[..., 10:, :] += 1e3
    h, speed = torch.randn(4, 26, 24), torch.full((4,), 5.0)
    losses = []
    for each in (labels, wrong):
        torch.manual_seed(1)
        losses.append(model.flow.losses(h, controls, speed, None, each))
    for name, value in losses[0].items():
        assert torch.equal(value, losses[1][name]), name


def test_learns_who_is_there_and_where_they_go(
    with_agents: Callable[..., VlaConfig], agent_labels: Callable[..., AgentLabels]
) -> None:
    torch.manual_seed(0)
    flow: FlowDecoder = VlaModel(with_agents(5, flow_repeats=1)).flow
    labels = agent_labels(4)
    labels.present[:, 4] = False
    h, controls, speed = _hidden(labels, 24), torch.zeros(4, 20, 2), torch.full((4,), 8.0)

    def off() -> tuple[float, float, float]:
        with torch.no_grad():
            decoded = flow.decode(h, torch.zeros(4, dtype=torch.int64), None, None)
            targets = targets_of(flow.others, decoded.agents, labels)
            path = drive(targets.pose, targets.speed_mps, decoded.agent_controls, 0.25)
        place = (decoded.agents.pose[..., :2] - targets.pose[..., :2]).norm(dim=-1)[targets.matched].mean()
        end = (path.positions_m - targets.future[..., :2]).norm(dim=-1)[targets.valid].mean()
        right = ((decoded.agents.existence > 0) == targets.matched).float().mean()
        return float(right), float(place), float(end)

    before = off()
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-2)
    for _ in range(100):
        losses = flow.losses(h, controls, speed, None, labels)
        optimizer.zero_grad()
        torch.stack([LOSS_WEIGHTS[name] * value for name, value in losses.items()]).sum().backward()
        optimizer.step()
    after = off()
    assert after[0] > 0.9
    assert after[1] < 0.4 * before[1]
    assert after[2] < 0.5 * before[2]


def test_rows_of_drives_that_did_not_record_others_are_not_judged(
    model: VlaModel, agent_labels: Callable[..., AgentLabels]
) -> None:
    labels = agent_labels(4)
    labels.known[1], labels.present[1] = False, False
    with torch.no_grad():
        targets = targets_of(model.flow.others, model.flow.others.states(torch.randn(4, 6, 24)), labels)
    assert targets.ignored.all(dim=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize('wrong', [{'num_agents': 17}, {'num_agents': -1}, {'agent_stride': 3}, {'agent_stride': 0}])
def test_sizes_that_do_not_fit_are_named(with_agents: Callable[..., VlaConfig], wrong: dict[str, int]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(InvalidInput, match=f'{name} is {value}'):
        with_agents(**wrong)
