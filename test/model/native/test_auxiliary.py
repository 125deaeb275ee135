# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.training import LOSS_WEIGHTS
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch


def test_labels_are_cut_into_the_cells_of_their_patch(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model()
    labels = clip_batch(model.config).labels
    cut = model.dense_head.labels_to_patches(labels.semantic)
    # Front 128x64: 8 x 4 patches of 16 pixels, labels at a quarter: 4 x 4 per patch.
    assert cut.shape == (8, 32 + 5 * 8, 16)
    assert torch.equal(cut[3, 8 * 2 + 5], labels.semantic[0][3, 0, 8:12, 20:24].flatten())
    assert torch.equal(cut[3, 32 + 2 * 8 + 4 + 1], labels.semantic[1][3, 2, 4:8, 4:8].flatten())


def test_unknown_depth_teaches_nothing(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model()
    batch = clip_batch(model.config)
    labels = batch.labels
    blank = dataclasses.replace(labels, depth_m=tuple(torch.zeros_like(depth) for depth in labels.depth_m))
    patches = torch.randn(8, 72, 32, requires_grad=True)
    losses = model.dense_head.losses(patches, blank)
    assert {name: loss.item() for name, loss in losses.items()} == {'depth': 0.0, 'semantic': 0.0}
    known = model.dense_head.losses(patches, labels)
    assert known['depth'] > 0.1
    assert known['semantic'] > 1.0


def test_scene_distances_count_only_where_something_is(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model()
    labels = clip_batch(model.config).labels
    nothing = dataclasses.replace(
        labels,
        red_light_distance_m=torch.full((8,), torch.inf),
        lead_gap_m=torch.full((8,), torch.inf),
        lead_speed_mps=torch.full((8,), torch.inf),
    )
    scene, trunk = torch.randn(8, 3, 32), torch.zeros(8, model.config.view_config.hidden_size)
    head = model.scene_head
    with torch.no_grad():
        head.trunk.bias.zero_()
        head.light.weight.zero_()
        head.light.bias.copy_(torch.tensor([-20.0, 7.0]))  # "no light", at an absurd distance
        head.lead.weight.zero_()
        head.lead.bias.copy_(torch.tensor([-20.0, 7.0, 7.0]))
        losses = head.losses(scene, trunk, nothing)
    assert losses['light'] == pytest.approx(0.0, abs=1e-6)
    assert losses['lead'] == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        assert head.losses(scene, trunk, labels)['light'] > 1.0


def test_stages_choose_their_losses(small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]) -> None:
    model = small_model()
    batch = clip_batch(model.config)
    agents = {'agent_tokens', 'agent_found', 'agent_state', 'agent_flow', 'agent_position'}
    others = agents | {'itself', 'words', 'drafts', 'gate'}
    scene, dense = {'light', 'lead', 'hazard'}, {'depth', 'semantic'}
    plan = {'flow', 'anchor', 'steer', 'position', 'speed', 'direct'}
    with torch.no_grad():
        assert set(model(batch).losses) == scene | plan | dense == set(LOSS_WEIGHTS) - others
        assert set(model(batch, stage='vision').losses) == scene | dense
        assert set(model(batch, stage='policy').losses) == scene | plan
        assert set(model(batch, stage='reflex').losses) == scene | plan - {'direct'}
        blind = small_model(blind=True)
        assert set(blind(batch).losses) == scene | plan
        assert set(blind(batch, stage='reflex').losses) == scene | plan - {'direct'}


def test_every_weight_learns(small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]) -> None:
    model = small_model()
    model.train()
    torch.manual_seed(3)
    batch = clip_batch(model.config, clips=4, ticks=4)
    present = batch.inputs.present.clone()
    present[0, 3] = False
    batch = dataclasses.replace(batch, inputs=dataclasses.replace(batch.inputs, present=present))
    model(batch).loss.backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []
