# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Tests and fixtures draw the same random numbers wherever and in whatever order they run.

VLA_DRIVER_TEST_SEED=N tries others: no test may hang on its numbers.  Models compute in the precision of this machine
(the head of the report names it) or of VLA_DRIVER_PRECISION; a test of numbers that a precision changes asks for one of
the fixtures `float32`, `bfloat16` and `each_precision`.  ATEN_CPU_CAPABILITY=default or avx2 tries other processors.
"""

from __future__ import annotations

import functools
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_driver.model.precision import VARIABLE, precision

#: Fixtures that several rooms of the tests share.
pytest_plugins = [
    'fixtures.rigs',  # first: others are made of it
    'fixtures.agents',
    'fixtures.checkpoints',
    'fixtures.commands',
    'fixtures.drives',
    'fixtures.episodes',
    'fixtures.labelled',
    'fixtures.launching',
    'fixtures.models',
    'fixtures.nuscenes',
    'fixtures.nuscenes_drive',
    'fixtures.observations',
    'fixtures.qwen',
    'fixtures.scenes',
    'fixtures.segmenters',
    'fixtures.tokens',
    'fixtures.training',
    'fixtures.words',
]

#: Tests run side by side (scripts/run_tests.sh), these beside others of their kind: real nodes, several processes.
PROCESSES = (
    'commands/test_demo.py',
    'evaluate/cost/test_tick_time.py',
    'evaluate/test_closed_loop.py',
    'package/test_messages.py',
    'package/test_transport.py',
    'ros/',
    'test_cli.py',
    'test_replay_words.py',
    'test_workers.py',
    'train/distributed/',
)
#: And these beside nothing, for they look at the clock; single tests elsewhere are marked `clock` themselves.
CLOCK = (
    'evaluate/cost/test_attention.py',
    'evaluate/cost/test_busy.py',
    'evaluate/cost/test_latency.py',
    'observation/pictures/test_video.py',
    'ros/runs/test_latency_command.py',
    'test_demo.py',
)

SEED = int(os.environ.get('VLA_DRIVER_TEST_SEED', '0'))


def pytest_report_header() -> str:
    """Say in which precision models compute, and with which instructions."""
    return f'precision: {precision("cpu")}, instructions: {torch.backends.cpu.get_cpu_capability()}, seed: {SEED}'


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models compute in float32, on every machine."""
    monkeypatch.setenv(VARIABLE, 'float32')


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models compute in bfloat16, on every machine."""
    monkeypatch.setenv(VARIABLE, 'bfloat16')


@pytest.fixture(params=['float32', 'bfloat16'])
def each_precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice, in either precision; return which one it is."""
    monkeypatch.setenv(VARIABLE, request.param)
    return str(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any) -> None:
    """Give every fixture numbers of its own."""
    torch.manual_seed(SEED + zlib.crc32(fixturedef.argname.encode()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark who must not run beside whom."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here).as_posix()
        if place.startswith(CLOCK) or item.get_closest_marker('clock'):
            item.add_marker(pytest.mark.clock)
        elif place.startswith(PROCESSES):
            item.add_marker(pytest.mark.processes)


@functools.cache
def _graphics_fault() -> str:
    """Return why nothing can be drawn on this machine, '' where it can."""
    from vla_driver.sim.render.renderer import GraphicsUnavailableError, _create_context

    try:
        _create_context().release()
    except GraphicsUnavailableError as error:
        return str(error)
    return ''


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gl`, saying why, where nothing can be drawn."""
    if item.get_closest_marker('gl') and (fault := _graphics_fault()):
        pytest.skip(fault)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Start every test from the seed."""
    torch.manual_seed(SEED)
