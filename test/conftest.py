# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Tests and fixtures draw the same random numbers wherever and in whatever order they run.

VLA_DRIVER_TEST_SEED=N tries others: no test may hang on its numbers.

Tests of running nodes share the machine with whatever else it does.  One that fails is run again, twice at most, and
the summary lists it (RERUN); what is broken fails each time.
"""

from __future__ import annotations

import copy
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

#: Nodes in processes of their own, real DDS, real time.
REAL_TIME = ('test/ros/', 'test/package/test_messages.py', 'test/package/test_transport.py', 'test/test_demo.py')
SEED = int(os.environ.get('VLA_DRIVER_TEST_SEED', '0'))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any) -> None:
    """Give every fixture numbers of its own."""
    torch.manual_seed(SEED + zlib.crc32(fixturedef.argname.encode()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Start every test from the seed."""
    torch.manual_seed(SEED)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let tests in real time run again, where pytest-rerunfailures is installed."""
    if config.pluginmanager.hasplugin('rerunfailures'):
        for item in items:
            if item.nodeid.startswith(REAL_TIME):
                item.add_marker(pytest.mark.flaky(reruns=2))


_TINY = {
    'vision_config': {
        'stem_channels': [8, 8, 16],
        'hidden_size': 32,
        'num_hidden_layers': 1,
        'num_attention_heads': 2,
        'intermediate_size': 64,
    },
    'language_config': {
        'hidden_size': 32,
        'num_hidden_layers': 2,
        'num_attention_heads': 2,
        'num_key_value_heads': 2,
        'intermediate_size': 64,
    },
    'action_config': {
        'hidden_size': 32,
        'intermediate_size': 64,
        'flow_hidden_size': 32,
        'flow_num_heads': 2,
        'num_anchors': 4,
    },
}


@pytest.fixture(scope='session')
def tiny_config() -> Callable[..., Any]:
    """Return a maker of the configs of models of the real kind, so small that they need no time: (**changes)."""

    def make(**changes: Any) -> Any:
        from vla_driver.model.config import VlaConfig

        return VlaConfig(**copy.deepcopy(_TINY), **changes)

    return make
