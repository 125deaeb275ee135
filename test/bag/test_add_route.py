# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""scripts/add_route.py: a bag without a route gets the driven way as one, and can be planned from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vla_driver.bag.read import BagReader

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'add_route.py'


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=120)


def test_the_copy_has_the_driven_way_as_its_route(tmp_path: Path, sample: SimpleNamespace) -> None:
    source = sample.write_drive(tmp_path / 'bag', 60, leave_out=('route',))
    done = run(source, tmp_path / 'copy')
    assert done.returncode == 0, done.stderr
    with BagReader(source) as before, BagReader(tmp_path / 'copy') as after:
        assert after.topics == {**before.topics, '/route': 'nav_msgs/msg/Path'}
        assert after.rig().names == before.rig().names
        copied = {t: [(ns, bytes(data)) for _, ns, data in after.raw_messages([t])] for t in before.topics}
        assert copied == {t: [(ns, bytes(data)) for _, ns, data in before.raw_messages([t])] for t in before.topics}
        ((_, _, route),) = after.messages(['/route'])
        points = np.array([[pose.pose.position.x, pose.pose.position.y] for pose in route.poses])
        assert np.hypot(*(points[1] - points[0])) == pytest.approx(25.0, abs=1.0)
        np.testing.assert_allclose(points[-1], sample.ego(59).pose[:2], atol=1e-6)
        assert len(list(after.observations())) >= 55


def test_what_cannot_serve_is_named(tmp_path: Path, sample: SimpleNamespace) -> None:
    bag = sample.write_drive(tmp_path / 'bag', 3)
    for words, said in (
        ((bag, tmp_path / 'copy'), 'the bag has a topic /route already'),
        ((bag, tmp_path / 'copy', '--odometry', '/nowhere'), 'no nav_msgs/Odometry on /nowhere; the bag has: /camera'),
        ((bag, bag), 'exists already'),
        ((tmp_path / 'old.bag', tmp_path / 'copy'), 'is a ROS 1 bag'),
    ):
        done = run(*words)
        assert done.returncode == 2
        assert said in done.stderr
    assert not (tmp_path / 'copy').exists()
