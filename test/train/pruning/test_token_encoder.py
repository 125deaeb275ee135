# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruner and early head are trained on the real encoders of Qwen2.5-VL and Qwen3-VL, from a checkpoint folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_driver.data.foreground.frames import JoinedFrames
from vla_driver.data.foreground.masks import Frame, View
from vla_driver.geometry.rig import load_rig
from vla_driver.train.pruning.pruner_trainer import PrunerConfig, PrunerTrainer
from vla_driver.train.pruning.recon_batches import make_batch
from vla_driver.train.pruning.token_encoder import QwenEncoder, open_encoder
from vla_driver.types import InvalidInput


class RandomFrames:
    """Two scenes of moments with random pictures and masks; the last moment lacks its back camera."""

    scenes = ('one', 'one', 'two')

    def __len__(self) -> int:
        return 3

    def frame(self, index: int) -> Frame:
        rng = np.random.default_rng(index)
        views = {
            camera.name: View(
                camera,
                rng.integers(0, 255, (90, 160, 3), dtype=np.uint8),
                rng.integers(0, 6, (45, 80), dtype=np.uint8),
            )
            for camera in load_rig('sim')
        }
        if index == 2:
            del views['back']
        return Frame(str(index), self.scenes[index], views)


@pytest.fixture(params=['qwen2.5', 'qwen3'])
def encoder(request: pytest.FixtureRequest, checkpoint: Callable[..., Path]) -> QwenEncoder:
    found = open_encoder(str(checkpoint(request.param, ())), (112, 112))
    assert isinstance(found, QwenEncoder)
    return found


def test_states_before_a_block_come_with_the_same_tokens(encoder: QwenEncoder) -> None:
    batch = make_batch(JoinedFrames([RandomFrames()]), [0, 2], encoder, cell=8)
    tokens = encoder.encode(batch.inputs)
    states, again = encoder.encode_at(batch.inputs, 1)
    torch.testing.assert_close(again.features, tokens.features, rtol=1e-4, atol=1e-5)
    assert states.shape == (*tokens.features.shape[:2], 4, encoder.states_width(1))
    assert not again.valid[1].all() and again.valid[0].all()
    # The second picture of the first row is told apart from the first one, in the states as in the tokens.
    other, _ = encoder.encode_at(make_batch(JoinedFrames([RandomFrames()]), [2, 0], encoder, cell=8).inputs, 1)
    torch.testing.assert_close(other.flip(0), states, rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidInput, match='allowed: 1 to'):
        encoder.states_width(9)


def test_a_pruner_learns_on_its_tokens(encoder: QwenEncoder) -> None:
    config = PrunerConfig(
        steps=12, batch=2, decoder_layers=1, cell=8, learning_rate=2e-3, warmup=1, decoder_steps=0, guide=1.0
    )
    trainer = PrunerTrainer(encoder, config)
    batch = make_batch(JoinedFrames([RandomFrames()]), [0, 2], encoder, cell=8)
    losses = [trainer.train_step(batch) for _ in range(12)]
    assert losses[-1]['loss'] < 0.9 * losses[0]['loss']
    assert 0.0 <= trainer.validate([batch])['foreground_recall_50'] <= 1.0
