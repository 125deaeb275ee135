# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The panorama: where tokens fall, whatever the rig, and that what is not there is not read."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from vla_driver.model.layers.panorama import panorama_place
from vla_driver.model.native.seeing.view import ViewReader

_EYE, _REACH = (1.5, 1.5), 60.0


def _ray_to(point: tuple[float, float], camera: torch.Tensor) -> torch.Tensor:
    return F.normalize(torch.tensor([*point, 0.0]) - camera, dim=-1)


@pytest.mark.parametrize('point', [(8.0, 0.0), (12.0, -3.0), (20.0, 9.0)])
def test_a_place_on_the_road_falls_on_one_cell_whichever_camera_sees_it(point: tuple[float, float]) -> None:
    places = []
    for camera in (torch.tensor([1.7, 0.0, 1.55]), torch.tensor([1.0, 0.6, 2.1]), torch.tensor([0.0, -0.5, 1.2])):
        places.append(torch.stack(panorama_place(_ray_to(point, camera), camera, _EYE, _REACH)))
    azimuth = math.atan2(point[1], point[0] - 1.5)
    elevation = -math.atan2(1.5, math.hypot(point[0] - 1.5, point[1]))
    for place in places:
        torch.testing.assert_close(place, torch.tensor([azimuth, elevation]), rtol=0.0, atol=1e-4)


def test_what_is_above_the_horizon_keeps_its_direction() -> None:
    ray = F.normalize(torch.tensor([1.0, 1.0, 0.3]), dim=-1)
    azimuth, elevation = panorama_place(ray, torch.tensor([1.7, 0.0, 1.55]), _EYE, _REACH)
    assert azimuth.item() == pytest.approx(math.pi / 4, abs=1e-5)
    assert elevation.item() == pytest.approx(math.atan2(0.3, math.sqrt(2.0)), abs=1e-5)


def _tokens(rows: int, count: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    rays = torch.stack(
        [torch.ones(rows, count), torch.randn(rows, count) / 2, (torch.rand(rows, count) - 0.7) / 2], dim=-1
    )
    origins = torch.tensor([1.7, 0.0, 1.55]).expand(rows, count, 3)
    return (
        torch.randn(rows, count, width),
        F.normalize(rays, dim=-1),
        origins,
        torch.ones(rows, count, dtype=torch.bool),
    )


def test_every_token_ahead_is_spread_whole_and_none_behind(small_config: Callable) -> None:
    reader = ViewReader(small_config())
    _, rays, origins, _ = _tokens(2, 30, 32)
    weights = reader.spread(rays, origins)
    assert weights.shape == (2, 30, reader.spread.rows * reader.spread.columns)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 30))
    backward = reader.spread(rays * torch.tensor([-1.0, 1.0, 1.0]), origins - torch.tensor([1.7, 0.0, 0.0]))
    assert backward.sum() < 0.05 * weights.sum()


def test_dropped_and_missing_tokens_are_not_there(small_config: Callable) -> None:
    torch.manual_seed(1)
    reader = ViewReader(small_config()).eval()
    features, rays, origins, valid = _tokens(2, 30, 32)
    kept = torch.arange(0, 30, 3)
    spread = reader.spread(rays, origins)
    few = reader(features[:, kept], reader.spread(rays[:, kept], origins[:, kept]), valid[:, kept])[1]
    masked = torch.zeros_like(valid)
    masked[:, kept] = True
    torch.testing.assert_close(reader(features, spread, masked)[1], few)
    order = torch.randperm(30)
    shuffled = reader(features[:, order], spread[:, order], valid[:, order])[1]
    whole = reader(features, spread, valid)[1]
    torch.testing.assert_close(shuffled, whole, rtol=1e-4, atol=1e-5)
    assert (whole - few).abs().max() > 1e-3


def test_places_are_told_apart(small_config: Callable) -> None:
    """Two tokens that change places are read differently: unlike a sum over tokens, or attention without positions."""
    torch.manual_seed(2)
    reader = ViewReader(small_config()).eval()
    features, rays, origins, valid = _tokens(1, 2, 32)
    spread = reader.spread(rays, origins)
    swapped, _ = reader(features.flip(1), spread, valid)
    assert (swapped - reader(features, spread, valid)[0]).abs().max() > 1e-3


def test_where_tokens_were_dropped_the_usual_stands(small_config: Callable) -> None:
    config = small_config(view_config={'reads': 'usual'})
    torch.manual_seed(1)
    reader = ViewReader(config).eval()
    features, rays, origins, valid = _tokens(2, 30, 32)
    spread = reader.spread(rays, origins)
    whole = spread.sum(dim=1)
    kept = torch.arange(0, 30, 3)
    # Where every token is the same, the usual is that one, and dropping it changes nothing.
    same = features[:1, :1].expand_as(features)
    reader.usual.copy_(reader.squeeze(same[0, 0]).detach().expand_as(reader.usual))
    everything, _ = reader(same, spread, valid)
    pruned, _ = reader(same[:, kept], spread[:, kept], valid[:, kept], whole)
    torch.testing.assert_close(pruned, everything)
    holes, _ = reader(same[:, kept], spread[:, kept], valid[:, kept])
    assert (holes - everything).abs().max() > 1e-2
    # Elsewhere: token by token, as if each dropped one were the usual of the places on which it falls.
    torch.nn.init.normal_(reader.usual)
    falls = torch.where(torch.isin(torch.arange(30), kept)[None, :, None], 0.0, spread)
    panorama = spread[:, kept].mT @ reader.squeeze(features[:, kept]) + falls.sum(dim=1).unsqueeze(-1) * reader.usual
    expected = F.gelu(reader.read(panorama.flatten(1)))
    got, _ = reader(features[:, kept], spread[:, kept], valid[:, kept], whole)
    torch.testing.assert_close(got, expected)
