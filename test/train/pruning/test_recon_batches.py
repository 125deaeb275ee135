# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of frames: functions of their number, and held-out ones that are spread evenly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vla_driver.data.foreground.frames import JoinedFrames, open_frames
from vla_driver.train.pruning import recon_batches as module
from vla_driver.train.pruning.recon_batches import held_out_batches, training_batches
from vla_driver.train.pruning.token_encoder import NativeEncoder


@pytest.fixture
def frames(episodes: Path) -> JoinedFrames:
    """Forty of them."""
    return open_frames([episodes])


def test_a_batch_is_a_function_of_seed_and_number(frames: JoinedFrames, native_encoder: NativeEncoder) -> None:
    def pictures(first: int, seed: int = 3) -> torch.Tensor:
        batches = training_batches(frames, native_encoder, seed=seed, batch=2, cell=4, first=first)
        if first == 0:
            next(batches)
        batch = next(batches)
        batches.close()
        assert batch.targets.pictures[0].shape[:2] == (2, 1)
        return batch.targets.pictures[1].float()

    second = pictures(0)
    assert torch.equal(second, pictures(1))  # where a resumed run goes on
    assert not torch.equal(second, pictures(2)) and not torch.equal(second, pictures(1, seed=4))


@pytest.mark.parametrize(
    ('limit', 'expected'),
    [(5, [[0, 10], [20, 29], [39]]), (2, [[0, 39]]), (1, [[0]])],
)
def test_held_out_frames_are_spread_evenly(
    frames: JoinedFrames,
    native_encoder: NativeEncoder,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    expected: list[list[int]],
) -> None:
    monkeypatch.setattr(module, 'make_batch', lambda frames, numbers, encoder, cell: list(numbers))
    assert list(held_out_batches(frames, native_encoder, limit=limit, batch=2, cell=4)) == expected
