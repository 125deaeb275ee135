# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Training steps without the cameras behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from vla_driver.data.clips import ClipDataset, find_episodes
from vla_driver.model.native.training import Dropouts, perceive
from vla_driver.model.native.vla import VlaModel

MakeModel = Callable[..., VlaModel]


def test_steps_without_the_cameras_behind(episodes: Path, episode_model: MakeModel) -> None:
    model = episode_model()
    batch = ClipDataset(find_episodes([episodes]), model.config, ticks=3, augment=False).batch([(0, 0)], None)
    ego = model.ego(batch.inputs)
    whole, memory, _ = perceive(model, model.dropouts, batch, ego)
    model.train()
    model.dropouts = Dropouts(camera=0.0, memory=0.0, rear=1.0)
    ahead, less, _ = perceive(model, model.dropouts, batch, ego)
    assert whole is not None and memory is not None and ahead is not None and less is not None
    names = model.config.camera_names
    assert {names[c] for c in ahead.tokens.camera.tolist()} == {'front', 'front_left', 'front_right'}
    kept = torch.tensor(['back' not in names[c] for c in whole.tokens.camera.tolist()])
    torch.testing.assert_close(ahead.tokens.features, whole.tokens.features[:, kept])
    pooled = torch.tensor(['back' not in names[c] for c in model.memory_pool.camera])
    torch.testing.assert_close(less.features, memory.features[:, :, pooled])
    model.eval()
    again, _, _ = perceive(model, model.dropouts, batch, ego)
    assert again is not None and torch.equal(again.tokens.camera, whole.tokens.camera)
