# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The temperature that makes confidence mean something."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch
from vla_driver.model.words import losses
from vla_driver.train import words
from vla_driver.train.words import fit_temperature


@pytest.mark.parametrize('factor', [0.5, 1.0, 3.0])
def test_a_temperature_makes_up_for_logits_that_are_too_large(
    speaking_model: Callable[..., VlaModel],
    reasoned_batch: Callable[..., ClipBatch],
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
) -> None:
    """Labels are drawn from the model's own chances; then its logits are multiplied."""
    model = speaking_model(1, words={'drafts': 0})
    weights = losses.word_weights(model.words)
    drawn = torch.Generator().manual_seed(0)

    def drawn_score(*args: object) -> losses.WordScores:
        scores = losses.score(*args)  # type: ignore[arg-type]
        what = scores.spoken
        plain = (scores.logits - weights.log()).masked_fill(~what.allowed, -torch.inf)
        said = torch.multinomial(plain.softmax(-1).flatten(0, 1), 1, generator=drawn).view(what.said.shape)
        logits = factor * plain + weights.log()
        return losses.WordScores(losses.Spoken(**{**vars(what), 'said': said}), logits, scores.hidden)

    monkeypatch.setattr(words, 'score', drawn_score)
    batches = [reasoned_batch(model.config, clips=8, ticks=5, seed=seed) for seed in range(4)]
    with torch.no_grad():
        model.words.embedding.weight.mul_(8.0)  # far from even chances
    found = fit_temperature(model, batches)
    assert found == pytest.approx(factor, rel=0.25)


def test_too_few_words_give_no_temperature(
    speaking_model: Callable[..., VlaModel],
    reasoned_batch: Callable[..., ClipBatch],
    clip_batch: Callable[..., ClipBatch],
) -> None:
    model = speaking_model()
    assert fit_temperature(model, [clip_batch(model.config)]) is None
    assert fit_temperature(model, [reasoned_batch(model.config, clips=1, ticks=2)]) is None
    assert model.training is False
