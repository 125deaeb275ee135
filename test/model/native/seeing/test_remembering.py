# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which ticks are remembered, whatever is kept of them; test_memory.py has the same in tensors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vla_driver.geometry.se2 import relative
from vla_driver.model.config import MemoryConfig
from vla_driver.model.native.seeing.memory import MemoryState as TensorMemory
from vla_driver.model.native.seeing.memory import PooledTokens
from vla_driver.model.native.seeing.remembering import MemoryState
from vla_driver.types import EgoState, InvalidInput


def _memory() -> MemoryState[str]:
    return MemoryState(ages_s=(0.5, 1.0), tolerance_s=0.3, reset_gap_s=5.0)


def _ego(stamp: float) -> EgoState:
    return EgoState(stamp, 5.0 * stamp, 0.3 * stamp, 3.0 + 0.2 * stamp, 5.0)


def test_what_was_kept_comes_back_with_its_age_and_its_motion() -> None:
    memory = _memory()
    for tick in range(12):
        memory.write(f'tick {tick}', _ego(0.1 * tick), 0.1 * tick)
    now = 1.2
    recalled = memory.read(_ego(now), now)
    assert recalled.items == ('tick 7', 'tick 2')
    assert recalled.valid.tolist() == [True, True]
    np.testing.assert_allclose(recalled.age_s, [0.5, 1.0], atol=1e-6)
    for slot, then in enumerate((0.7, 0.2)):
        np.testing.assert_allclose(recalled.motion[slot], relative(_ego(now).pose, _ego(then).pose), atol=1e-5)
    assert [part.dtype.name for part in (recalled.motion, recalled.age_s, recalled.valid)] == [
        'float32',
        'float32',
        'bool',
    ]


def test_an_age_that_nothing_was_kept_for_is_empty() -> None:
    memory = _memory()
    for recalled in (memory.read(_ego(3.0), 3.0), _with_one(memory).read(_ego(0.5), 0.5)):
        empty = [slot for slot, item in enumerate(recalled.items) if item is None]
        assert empty
        assert not recalled.valid[empty].any() and not recalled.motion[empty].any() and not recalled.age_s[empty].any()
    assert recalled.items == ('first', None)


def _with_one(memory: MemoryState[str]) -> MemoryState[str]:
    memory.write('first', _ego(0.0), 0.0)
    return memory


def test_only_what_may_be_read_again_is_kept() -> None:
    memory = _memory()
    for tick in range(41):
        memory.write('', _ego(0.25 * tick), 0.25 * tick)
    assert len(memory) == 6  # 1.3 s back
    assert not memory.observe_clock(15.0) and len(memory) == 6
    assert memory.observe_clock(15.1) and len(memory) == 0


@pytest.mark.parametrize(
    ('ages_s', 'tolerance_s', 'gap_s'),
    [((), 0.3, 5.0), ((0.5, -1.0), 0.3, 5.0), ((0.5,), math.nan, 5.0), ((0.5,), 0.3, -5.0)],
)
def test_a_memory_that_makes_no_sense_is_refused(ages_s: tuple[float, ...], tolerance_s: float, gap_s: float) -> None:
    with pytest.raises(InvalidInput, match='memory: ages'):
        MemoryState(ages_s, tolerance_s, gap_s)


def test_tensors_hold_the_same_numbers_bit_by_bit() -> None:
    config = MemoryConfig()
    plain: MemoryState[int] = MemoryState(config.ages_s, config.tolerance_s, config.reset_gap_s)
    tensors = TensorMemory(config)
    random, stamp = np.random.default_rng(0), 1.7e9
    for tick in range(60):
        stamp += float(random.uniform(0.02, 0.6))
        ego = EgoState(stamp, *random.uniform(-100, 100, 3).tolist(), speed_mps=3.0)
        own = PooledTokens(torch.full((1, 2, 4), float(tick)), torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
        want, got = plain.read(ego, stamp), tensors.read(ego, stamp, own)
        assert np.array_equal(got.motion[0].numpy(), want.motion)
        assert np.array_equal(got.age_s[0].numpy(), want.age_s)
        assert np.array_equal(got.valid[0].numpy(), want.valid)
        assert got.features[0, :, 0, 0].tolist() == [tick if item is None else item for item in want.items]
        plain.write(tick, ego, stamp)
        tensors.write(own, ego, stamp)
