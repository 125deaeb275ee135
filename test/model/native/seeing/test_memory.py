# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vla_driver.geometry.se2 import relative
from vla_driver.model.config import MemoryConfig
from vla_driver.model.native.seeing.memory import MemoryState, PooledTokens, _rotate, clip_memory
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import ClipBatch
from vla_driver.types import EgoState


def _tokens(value: float) -> PooledTokens:
    return PooledTokens(torch.full((1, 3, 4), value), torch.zeros(1, 3, 3), torch.zeros(1, 3, 3))


def _ego(stamp: float) -> EgoState:
    return EgoState(stamp, 5.0 * stamp, 0.3 * stamp, 3.0 + 0.2 * stamp, 5.0)


@pytest.mark.parametrize('rate_hz', [2.0, 4.0, 5.0, 7.3, 10.0, 30.0])
def test_reads_the_ticks_nearest_to_the_ages_at_any_rate(rate_hz: float) -> None:
    memory = MemoryState(MemoryConfig())
    last = int(3 * rate_hz)
    for index in range(last):
        memory.write(_tokens(float(index)), _ego(index / rate_hz), index / rate_hz)
    now = last / rate_hz
    remembered = memory.read(_ego(now), now, _tokens(-1.0))
    assert remembered.valid.all()
    for slot, age in enumerate((0.5, 1.0)):
        assert float(remembered.age_s[0, slot]) == pytest.approx(age, abs=0.5 / rate_hz + 1e-6)
        index = int(remembered.features[0, slot, 0, 0])
        assert index / rate_hz == pytest.approx(now - float(remembered.age_s[0, slot]), abs=1e-4)
        want = relative(_ego(now).pose, _ego(index / rate_hz).pose)
        np.testing.assert_allclose(remembered.motion[0, slot], want, atol=1e-4)
    assert len(memory) <= 1.3 * rate_hz + 2  # bounded


def test_young_memory_is_marked() -> None:
    memory = MemoryState(MemoryConfig())
    assert memory.read(_ego(0.0), 0.0, _tokens(-1.0)).valid.tolist() == [[False, False]]
    memory.write(_tokens(0.0), _ego(0.0), 0.0)
    assert memory.read(_ego(0.1), 0.1, _tokens(-1.0)).valid.tolist() == [[False, False]]
    assert memory.read(_ego(0.5), 0.5, _tokens(-1.0)).valid.tolist() == [[True, False]]
    assert memory.read(_ego(1.1), 1.1, _tokens(-1.0)).valid.tolist() == [[False, True]]


def test_clock_jumps_empty_it() -> None:
    memory = MemoryState(MemoryConfig())
    memory.write(_tokens(0.0), _ego(10.0), 10.0)
    assert not memory.observe_clock(10.5)
    assert len(memory) == 1
    assert memory.observe_clock(9.0)  # a looped bag
    assert len(memory) == 0
    memory.write(_tokens(0.0), _ego(10.0), 10.0)
    assert memory.observe_clock(100.0)
    assert len(memory) == 0


def test_training_and_driving_remember_the_same(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model()
    batch = clip_batch(model.config, clips=2, ticks=5)
    with torch.no_grad():
        pooled = model.pool(model.encode(batch.inputs).tokens)
    trained = clip_memory(pooled, batch.pose, batch.stamp_s, 5, model.config.memory_config)
    for clip in range(2):
        memory = MemoryState(model.config.memory_config)
        for tick in range(5):
            row = 5 * clip + tick
            own = PooledTokens(pooled.features[row : row + 1], pooled.rays[:1], pooled.origins[:1])
            ego = EgoState(float(batch.stamp_s[row]), *batch.pose[row].tolist(), speed_mps=1.0)
            driven = memory.read(ego, ego.stamp_s, own)
            memory.write(own, ego, ego.stamp_s)
            assert driven.valid[0].tolist() == trained.valid[row].tolist() == [tick >= 1, tick >= 2]
            for slot in range(2):
                if driven.valid[0, slot]:
                    assert torch.equal(driven.features[0, slot], trained.features[row, slot])
                    torch.testing.assert_close(driven.motion[0, slot], trained.motion[row, slot])
                    assert driven.age_s[0, slot] == trained.age_s[row, slot]


def test_uneven_ticks_are_matched_by_time(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    """A collector may skip ticks while the vehicle stands; ages come from the stamps, not from counting."""
    model = small_model()
    batch = clip_batch(model.config, clips=1, ticks=4)
    with torch.no_grad():
        pooled = model.pool(model.encode(batch.inputs).tokens)
    stamps = torch.tensor([0.0, 1.0, 4.0, 4.5], dtype=torch.float64)
    remembered = clip_memory(pooled, batch.pose, stamps, 4, model.config.memory_config)
    assert remembered.valid.tolist() == [[False, False], [False, True], [False, False], [True, False]]
    assert torch.equal(remembered.features[3, 0], pooled.features[2])
    assert torch.equal(remembered.features[1, 1], pooled.features[0])


def test_reader_moves_rays_with_the_vehicle(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    # A ray to the left, seen from a vehicle that has since turned left by 90 degrees, points ahead.
    turned = _rotate(torch.tensor([[[[0.0, 1.0, 0.2]]]]), torch.tensor([[0.0]]), torch.tensor([[-1.0]]))
    torch.testing.assert_close(turned[0, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    model = small_model()
    batch = clip_batch(model.config, clips=1, ticks=3)
    with torch.no_grad():
        pooled = model.pool(model.encode(batch.inputs).tokens)
        here = clip_memory(pooled, batch.pose, batch.stamp_s, 3, model.config.memory_config)
        there = clip_memory(pooled, 2 * batch.pose, batch.stamp_s, 3, model.config.memory_config)
        first, second = (model.memory(remembered, model.position) for remembered in (here, there))
    per_tick = pooled.features.shape[1]
    assert first.shape == (3, 2 * per_tick, 32)
    assert torch.equal(first[0], second[0])  # nothing remembered: the same "absent" tokens
    assert (first[2] - second[2]).abs().amax(dim=-1).min() > 1e-5


def test_dropped_ticks_are_as_if_absent(
    small_model: Callable[..., VlaModel], clip_batch: Callable[..., ClipBatch]
) -> None:
    model = small_model()
    batch = clip_batch(model.config, clips=4, ticks=4)
    with torch.no_grad():
        pooled = model.pool(model.encode(batch.inputs).tokens)
        remembered = clip_memory(pooled, batch.pose, batch.stamp_s, 4, model.config.memory_config, drop=1.0)
    assert not remembered.valid.any()
