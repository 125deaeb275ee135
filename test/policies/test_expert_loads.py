# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A policy says which experts read its last tick."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vla_driver.model.config import LanguageConfig, VlaConfig
from vla_driver.model.native.vla import VlaModel
from vla_driver.policies.native import NativePolicy
from vla_driver.types import Observation


@pytest.mark.parametrize('experts', [0, 4])
def test_the_load_of_the_last_tick(
    experts: int, small_config: Callable[..., VlaConfig], observe: Callable[..., Observation]
) -> None:
    config = small_config()
    changes = {'num_experts': experts, 'expert_size': 16, 'shared_size': 16, 'expert_layers': [0] if experts else None}
    config.language_config = LanguageConfig(**config.language_config.to_dict() | changes)
    policy = NativePolicy(VlaModel(config))
    assert policy.last_load == {}
    policy.plan(observe(0))
    first = policy.last_load
    assert list(first) == ([0] if experts else [])
    if experts:
        assert first[0].shape == (4,)
        assert first[0].mean() == pytest.approx(1.0)
        assert first[0].max() <= 4 / 2
        policy.plan(observe(1))
        assert policy.last_load[0].tolist() != first[0].tolist()
