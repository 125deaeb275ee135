# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How long threads of arithmetic wait awake for each other.

A tick is some two thousand small operations, and after each of them two threads meet.  By default libgomp lets the one
that comes first spin for a long time before it sleeps.  On a machine of its own that is quickest; beside other
processes that want the same cores, the spinning thread keeps the other one from running, at every operation anew.
"""

from __future__ import annotations

import os
import sys

#: Rounds of spinning before a thread sleeps; docs/benchmarks.md has what other numbers do.
SPIN_COUNT = 5000
_VARIABLES = ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')


def wait_briefly() -> bool:
    """Set the spinning of this process, unless its environment says something; return whether that was done.

    Works before torch, and with it libgomp, is loaded: libgomp reads its environment once.
    """
    if 'torch' in sys.modules or any(name in os.environ for name in _VARIABLES):
        return False
    os.environ['GOMP_SPINCOUNT'] = str(SPIN_COUNT)
    return True
