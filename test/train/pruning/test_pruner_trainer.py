# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A pruner's training: scores that begin undecided, losses that fall, an encoder that stays as it is."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_driver.data.foreground.frames import open_frames
from vla_driver.train.pruning.pruner_trainer import PrunerConfig, PrunerTrainer
from vla_driver.train.pruning.recon_batches import make_batch
from vla_driver.train.pruning.token_encoder import NativeEncoder


def test_training_lowers_the_loss_and_starts_undecided(native_encoder: NativeEncoder, episodes: Path) -> None:
    config = PrunerConfig(steps=12, batch=2, decoder_layers=1, cell=4, learning_rate=5e-3, warmup=1, decoder_steps=0)
    trainer = PrunerTrainer(native_encoder, config)
    before = {name: value.clone() for name, value in native_encoder.model.state_dict().items()}
    batch = make_batch(open_frames([episodes]), [3, 17], native_encoder, cell=4)
    steps = [trainer.train_step(batch) for _ in range(12)]
    assert 0.4 < steps[0]['kept'] < 0.6  # neither all nor nothing, where no token could be told from another
    assert steps[-1]['loss'] < 0.8 * steps[0]['loss']
    assert 0.0 < steps[-1]['kept'] < 1.0
    assert all(torch.equal(value, before[name]) for name, value in native_encoder.model.state_dict().items())
    assert {'fore', 'back', 'lr', 'grad_norm'} <= steps[0].keys()


def test_centred_scores_keep_and_drop_whatever_the_bias(native_encoder: NativeEncoder, episodes: Path) -> None:
    """A bias that would keep nothing changes neither which tokens are kept in training nor what is learned."""
    kept = {}
    for centre, bias in ((True, 0.0), (True, -50.0), (False, -50.0)):
        config = PrunerConfig(steps=4, batch=2, decoder_layers=1, cell=4, decoder_steps=0, centre=centre)
        trainer = PrunerTrainer(native_encoder, config)
        tokens = native_encoder.encode(make_batch(open_frames([episodes]), [3, 17], native_encoder, cell=4).inputs)
        with torch.no_grad():
            trainer.pruner.scorer.bias += bias
            kept[centre, bias] = trainer._centred(trainer.pruner.score(tokens), tokens) > 0
    assert torch.equal(kept[True, 0.0], kept[True, -50.0])
    assert 0.1 < kept[True, 0.0].float().mean() < 0.9
    assert not kept[False, -50.0].any()


def test_guidance_is_learned_beside_the_reconstruction(native_encoder: NativeEncoder, episodes: Path) -> None:
    """With guidance both losses fall; without it there is no such loss."""
    batch = make_batch(open_frames([episodes]), [3, 17, 25, 33], native_encoder, cell=4)
    for guide in (0.0, 1.0):
        config = PrunerConfig(
            steps=30, batch=4, decoder_layers=1, cell=4, learning_rate=5e-3, warmup=1, decoder_steps=0, guide=guide
        )
        trainer = PrunerTrainer(native_encoder, config)
        values = [trainer.train_step(batch) for _ in range(30)]
        assert all(('guide' in row) is (guide > 0) for row in values)
        assert values[-1]['loss'] < 0.8 * values[0]['loss']
    assert values[-1]['guide'] < 0.8 * values[0]['guide']
