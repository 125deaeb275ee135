# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The planner's threads spin briefly, unless the environment says otherwise: libgomp itself tells what it read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vla_driver.ros.base.openmp import SPIN_COUNT

_SCRIPT = """
import vla_driver.ros.nodes.planner as node
print(node.wait_briefly())
import torch
print(node.wait_briefly())
"""


@pytest.mark.parametrize(
    ('given', 'answer', 'spinning'),
    [
        ({}, 'True', f"GOMP_SPINCOUNT = '{SPIN_COUNT}'"),
        ({'GOMP_SPINCOUNT': '77'}, 'False', "GOMP_SPINCOUNT = '77'"),
        ({'OMP_WAIT_POLICY': 'passive'}, 'False', "GOMP_SPINCOUNT = '0'"),
    ],
)
def test_what_libgomp_reads(given: dict[str, str], answer: str, spinning: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(('GOMP_', 'OMP_'))}
    environment = {**kept, **given, 'OMP_DISPLAY_ENV': 'verbose'}
    done = subprocess.run(
        [sys.executable, '-c', _SCRIPT], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    # Once torch is there it is too late, and nothing is claimed.
    assert done.stdout.split() == [answer, 'False']
    assert spinning in done.stderr
