# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.acting.sight import AgentSight, compress_places, spread_places
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.tokens import AgentLabels, ClipBatch, Sight


@pytest.fixture
def config(tiny_settings: Callable[[], dict[str, Any]]) -> VlaConfig:
    """A small model of three others."""
    settings = tiny_settings()
    settings['action_config']['num_agents'] = 3
    return VlaConfig(**settings)


def _looking(config: VlaConfig, azimuths_deg: list[float]) -> tuple[AgentSight, Sight]:
    """Return a sight that knows nothing yet, 15 m away in every direction, and tokens with rays at some azimuths."""
    torch.manual_seed(0)
    looking = AgentSight(config).eval()
    with torch.no_grad():
        for part in (looking.query, looking.key, looking.shows[2]):
            part.weight.zero_()
            part.bias.zero_()
    angles = torch.deg2rad(torch.tensor(azimuths_deg))
    rays = torch.stack([angles.cos(), angles.sin(), torch.full_like(angles, -0.1)], dim=-1).unsqueeze(0)
    count = len(azimuths_deg)
    origins = torch.tensor([1.5, 0.0, 1.5]).expand(1, count, 3)
    return looking, Sight(torch.randn(1, count, 32), rays, origins, torch.ones(1, count, dtype=torch.bool))


def test_queries_look_at_what_is_near_their_own_place(config: VlaConfig) -> None:
    looking, sight = _looking(config, [0.0, 90.0, -90.0])
    with torch.no_grad():
        looking.places.copy_(compress_places(torch.tensor([[14.0, 1.0], [2.0, 12.0], [0.0, -14.0]])))
        looking.nearness.fill_(math.log(20.0))
        out = looking(torch.randn(1, 3, 32), sight)
    expected = compress_places(torch.tensor([[16.5, 0.0], [1.5, 15.0], [1.5, -15.0]]))
    torch.testing.assert_close(out[0, :, :2], expected, atol=0.02, rtol=0.0)


def test_distance_and_side_are_the_tokens_to_say(config: VlaConfig) -> None:
    looking, sight = _looking(config, [0.0])
    with torch.no_grad():
        looking.shows[2].bias.copy_(torch.tensor([0.0, math.log(2.0), 10.0]))
        place = looking(torch.randn(1, 3, 32), sight)[0, 0, :2]
    torch.testing.assert_close(10 * torch.sinh(place), torch.tensor([1.5 + 29.9, 2.4]), atol=0.03, rtol=0.0)


def _others(places: list[tuple[float, float]], pixels: float = 400.0) -> AgentLabels:
    """Return cars that stand at places of base_link, in front of one camera."""
    count = len(places)
    pose = torch.tensor([[(x, y, 0.0) for x, y in places]])
    return AgentLabels(
        known=torch.tensor([True]),
        present=torch.ones(1, count, dtype=torch.bool),
        person=torch.zeros(1, count, dtype=torch.bool),
        pose=pose,
        speed_mps=torch.zeros(1, count),
        size_m=torch.tensor([4.5, 1.8]).expand(1, count, 2),
        future=pose.unsqueeze(2).expand(-1, -1, 20, -1),
        future_valid=torch.ones(1, count, 20, dtype=torch.bool),
        pixels=torch.full((1, count), pixels),
    )


def test_tokens_are_taught_whom_they_show(config: VlaConfig) -> None:
    """Of three rays, the first meets a near car in front of a far one, the second a car, the third nobody."""
    looking, sight = _looking(config, [0.0, 40.0, -60.0])
    torch.manual_seed(1)
    looking = AgentSight(config)
    labels = _others([(13.5, 0.2), (41.5, 0.0), (1.5 + 20 * math.cos(0.7), 20 * math.sin(0.7))])
    optimizer = torch.optim.AdamW(looking.parameters(), lr=1e-2)
    for _ in range(150):
        loss = looking.losses(sight, labels, 48.0)['agent_tokens']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        somebody, far, aside = looking.read(sight)
    assert (somebody[0] > 0).tolist() == [True, True, False]
    assert far[0, :2].tolist() == pytest.approx([12.0, 20.0], rel=0.1)
    assert aside[0, :2].tolist() == pytest.approx([math.atan2(0.2, 12.0), 0.7 - math.radians(40.0)], abs=0.02)


def test_tokens_are_not_judged_by_whom_nobody_can_see(config: VlaConfig) -> None:
    looking, sight = _looking(config, [0.0, 40.0])
    hidden = looking.losses(sight, _others([(13.5, 0.0)], pixels=3.0), 48.0)['agent_tokens']
    with torch.no_grad():
        looking.shows[2].bias[0] = 5.0  # all say that they show somebody
    guessed = looking.losses(sight, _others([(13.5, 0.0)], pixels=3.0), 48.0)['agent_tokens']
    nobody = looking.losses(sight, _others([(-13.5, 0.0)]), 48.0)['agent_tokens']
    assert hidden < guessed, 'the second shows nobody'
    assert guessed < nobody, 'the first may show the one whom nobody can see'
    unknown = dataclasses.replace(_others([(13.5, 0.0)]), known=torch.tensor([False]))
    assert looking.losses(sight, unknown, 48.0)['agent_tokens'] == 0.0
    assert looking.losses(sight, None, 48.0)['agent_tokens'] == 0.0


def test_tokens_of_missing_cameras_are_not_looked_at(config: VlaConfig) -> None:
    looking, sight = _looking(config, [0.0, 90.0])
    blank = Sight(sight.tokens.clone(), sight.rays, sight.origins, torch.tensor([[True, False]]))
    h = torch.randn(1, 3, 32)
    with torch.no_grad():
        one = looking(h, blank)
        blank.tokens[:, 1] += 5.0
        assert torch.equal(looking(h, blank), one)
        assert not torch.equal(looking(h, sight), one)


def test_what_is_pruned_is_not_looked_at(config: VlaConfig, clip_batch: Callable[..., ClipBatch]) -> None:
    torch.manual_seed(0)
    model = VlaModel(config).eval()
    batch = clip_batch(config, clips=1, ticks=2)
    with torch.no_grad():
        seen, ego = model.encode(batch.inputs).tokens, model.ego(batch.inputs)
        whole = model.prefill(ego, seen, None).sight
        kept = model.prefill(ego, seen, None, KeptTokens(torch.tensor([[2, 5], [0, 7]]))).sight
    assert whole is not None
    assert kept is not None
    assert whole.tokens.shape[1] == seen.features.shape[1]
    assert kept.tokens.shape == (2, 2, config.language_config.hidden_size)
    torch.testing.assert_close(kept.tokens[1], whole.tokens[1][[0, 7]])
    torch.testing.assert_close(kept.rays[0], seen.rays[0][[2, 5]])


def test_the_blind_have_only_their_places(config: VlaConfig) -> None:
    config.blind = True
    looking = AgentSight(config)
    h = torch.randn(2, 3, 32)
    out = looking(h, None)
    torch.testing.assert_close(out[1, :, :2], looking.places)
    assert torch.equal(out[..., 2:], h[..., 2:])


def test_places_of_reference_lie_apart_and_mostly_ahead() -> None:
    places = 10 * torch.sinh(spread_places(16))
    assert torch.pdist(places).min() > 3.0
    assert (places[:, 0] > 0).float().mean() > 0.6
    assert places.norm(dim=1).max() < 60.0
