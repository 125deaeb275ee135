# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.grid import windows
from vla_driver.model.layers.rays import RayEmbedding
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch
from vla_driver.types import InvalidInput


def test_windows_gather_neighbours_in_order() -> None:
    grid = torch.arange(24).reshape(1, 4, 6, 1)
    cells = windows(grid, (2, 3))
    assert cells.shape == (1, 2, 2, 6)
    assert cells[0, 0, 1].tolist() == [3, 4, 5, 9, 10, 11]
    assert cells[0, 1, 0].tolist() == [12, 13, 14, 18, 19, 20]


def test_windows_repeat_the_last_column() -> None:
    cells = windows(torch.arange(5).reshape(1, 1, 5, 1), (1, 2))
    assert cells[0, 0].tolist() == [[0, 1], [2, 3], [4, 4]]


def test_tokens_know_where_they_lie(small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]) -> None:
    model = small_model()
    with torch.no_grad():
        tokens = model.encode(clip_batch(model.config).inputs).tokens
    # Front 128x64: 4 x 2 tokens; five others 64x32: 2 x 1 tokens each.
    assert tokens.features.shape == (8, 18, 32)
    assert tokens.camera.tolist() == [0] * 8 + [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert tokens.row[:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert tokens.column[:8].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    torch.testing.assert_close(tokens.rays.norm(dim=-1), torch.ones(8, 18))
    # x forward, y left, z up: the upper left token of the front camera looks ahead, left and up.
    assert (tokens.rays[0, 0] * torch.tensor([1.0, 1.0, 1.0]) > 0).all()
    assert tokens.rays[0, 7, 1] < 0
    assert tokens.rays[0, 7, 2] < 0
    back = model.config.camera_names.index('back')
    assert (tokens.rays[0, tokens.camera == back, 0] < -0.5).all()
    torch.testing.assert_close(tokens.origins[0, 0], torch.tensor([1.5, 0.0, 1.5]))


def test_missing_camera_is_not_looked_at(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model()
    inputs = clip_batch(model.config).inputs
    present = inputs.present.clone()
    present[:, 2] = False
    without = dataclasses.replace(inputs, present=present)
    images = (inputs.images[0], inputs.images[1].clone())
    images[1][:, 1] = 255 - images[1][:, 1]  # camera 2 is the second of the second group
    with torch.no_grad():
        full = model.encode(inputs).tokens
        one = model.encode(without).tokens
        other = model.encode(dataclasses.replace(without, images=images)).tokens
        changed = model.encode(dataclasses.replace(inputs, images=images)).tokens
    lost = full.camera == 2
    assert torch.equal(one.features, other.features)
    assert torch.equal(one.features[:, ~lost], full.features[:, ~lost])
    torch.testing.assert_close(one.features[0, lost], model.vision.missing.expand(2, -1))
    assert one.valid.sum(dim=1).tolist() == [16] * 8
    assert not torch.allclose(changed.features[:, lost], full.features[:, lost])
    assert torch.equal(changed.features[:, ~lost], full.features[:, ~lost])


def test_another_mounting_gives_other_tokens(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model()
    inputs = clip_batch(model.config).inputs
    higher = dataclasses.replace(inputs, origins=inputs.origins + torch.tensor([0.0, 0.0, 1.0]))
    with torch.no_grad():
        change = (model.encode(inputs).patches - model.encode(higher).patches).abs()
    assert (change.amax(dim=-1) > 1e-4).all()


def test_camera_order_survives_json(small_config: Callable[..., VlaConfig], tmp_path) -> None:
    config = small_config()
    config.save_pretrained(tmp_path)
    again = VlaConfig.from_pretrained(tmp_path)
    assert again.camera_groups == config.camera_groups
    assert again.camera_names == ('front', 'front_left', 'front_right', 'back_left', 'back', 'back_right')
    assert again.vision_config.hidden_size == 32


def test_sizes_that_do_not_fit_are_refused(small_config: Callable[..., VlaConfig]) -> None:
    with pytest.raises(InvalidInput, match='multiples of 32'):
        VlaConfig(image_sizes={'front': [320, 180]})
    with pytest.raises(InvalidInput, match="no 'front'"):
        VlaConfig(image_sizes={'left': [320, 192]})
    with pytest.raises(InvalidInput, match='solver'):
        VlaConfig(action_config={'solver': 'dopri5'})
    with pytest.raises(InvalidInput, match=r"view_config\.reads is 'some', expected 'all', 'kept' or 'usual'"):
        VlaConfig(view_config={'reads': 'some'})


def test_remembered_rays_are_embedded_once_and_other_rays_anew() -> None:
    torch.manual_seed(0)
    embedding = RayEmbedding(8, 2)
    rays, origins = torch.randn(1, 5, 3), torch.randn(1, 5, 3)
    with torch.no_grad():
        expected, other = embedding(rays, origins), embedding(-rays, origins)
        embedding.remember()
        assert torch.equal(embedding(rays, origins), expected)
        assert embedding(rays.clone(), origins) is embedding(rays, origins)
        assert torch.equal(embedding(-rays, origins), other)
        assert torch.equal(embedding(rays, origins + 1.0), embedding.compute(rays, origins + 1.0))
        assert torch.equal(embedding(rays, origins), expected)
