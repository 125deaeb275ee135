#!/usr/bin/env python3
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Time a served driver's answers, asked by carla-driver-interface's own loop: a straight road, six 640x360 cameras.

usage: .venv/bin/vla_driver serve egodriver --address 127.0.0.1:50051
       .venv/bin/python scripts/time_egodriver.py 127.0.0.1:50051 600
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

import numpy as np
from carla_driver_interface.testing import FakeCamera, FakeLoop

#: Name, field of view and heading in degrees, place ahead and to the left in metres.
CAMERAS = (
    ('front', 70, 0, 1.7, 0.0),
    ('front_left', 70, 55, 1.5, 0.5),
    ('front_right', 70, -55, 1.5, -0.5),
    ('back_left', 70, 110, 1.0, 0.5),
    ('back_right', 70, -110, 1.0, -0.5),
    ('back', 110, 180, 0.0, 0.0),
)


def main(address: str, steps: int) -> None:
    """Drive so many steps of 0.1 s, and print how the server answered and how long it took."""
    six = [FakeCamera(name, 640, 360, fov, x, y, 1.55, yaw_left_deg=yaw) for name, fov, yaw, x, y in CAMERAS]
    took_ms: list[float] = []
    with FakeLoop(address, six, initial_speed_mps=5.0) as loop:
        ask = loop._stub.drive

        def timed(*arguments: Any, **named: Any) -> Any:
            began_s = time.perf_counter()
            answer = ask(*arguments, **named)
            took_ms.append(1e3 * (time.perf_counter() - began_s))
            return answer

        loop._stub.drive = timed
        result = loop.run(steps)
    said = Counter(
        name.removeprefix('answered_')
        for debug in result.debug
        if debug is not None
        for name, value in debug.scalars.items()
        if name.startswith('answered_') and value
    )
    median, p99 = np.percentile(took_ms, [50, 99])
    print(f'{result.steps} steps: {dict(said)}; median {median:.1f} ms, 99 % {p99:.1f} ms, most {max(took_ms):.1f} ms')


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
