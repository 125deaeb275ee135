# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Tests and fixtures draw the same random numbers wherever and in whatever order they run.

VLA_DRIVER_TEST_SEED=N tries others: no test may hang on its numbers.

Tests of running nodes share the machine with whatever else it does.  One that fails is run again, twice at most, and
the summary lists it (RERUN); what is broken fails each time.
"""

from __future__ import annotations

import os
import zlib
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
