# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of frames for what is trained on a frozen encoder: the pruner, and heads inside the encoder.

Batch number s is a function of (seed, s) alone, so a run resumes exactly by asking for the next number.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_driver.data.foreground.frames import JoinedFrames
from vla_driver.data.prefetch import prepared_ahead
from vla_driver.train.pruning.reconstruction import Targets, make_targets
from vla_driver.train.pruning.token_encoder import TokenEncoder


@dataclass(frozen=True)
class ReconBatch:
    """inputs: of the encoder (`TokenEncoder.prepare`); targets: what the masks say about the same frames."""

    inputs: Any
    targets: Targets


def make_batch(frames: JoinedFrames, numbers: Iterable[int], encoder: TokenEncoder, cell: int) -> ReconBatch:
    """Read frames by number and prepare them; cell: pixels a side of a token's area in the targets."""
    chosen = [frames.frame(int(number)) for number in numbers]
    return ReconBatch(encoder.prepare(chosen), make_targets(chosen, encoder.groups, cell))


def training_batches(
    frames: JoinedFrames, encoder: TokenEncoder, *, seed: int, batch: int, cell: int, first: int = 0
) -> Generator[ReconBatch, None, None]:
    """Yield batches number first, first + 1, ... of the endless sequence `seed`, each of `batch` frames."""

    def make(number: int) -> ReconBatch:
        rng = np.random.default_rng([seed, number])
        return make_batch(frames, rng.integers(0, len(frames), batch), encoder, cell)

    return prepared_ahead(make, first)


def held_out_batches(
    frames: JoinedFrames, encoder: TokenEncoder, *, limit: int, batch: int, cell: int
) -> Iterator[ReconBatch]:
    """Yield at most `limit` frames, evenly spread, in batches."""
    count = min(limit, len(frames))
    numbers = [round(k * (len(frames) - 1) / max(1, count - 1)) for k in range(count)]
    for first in range(0, count, batch):
        yield make_batch(frames, numbers[first : first + batch], encoder, cell)
