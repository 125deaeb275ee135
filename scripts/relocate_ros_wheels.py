# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Point the cmake files of the ROS 2 wheels at this environment.

The wheels' cmake configurations carry the paths of the machine that built them
(/opt/python/cpXY-cpXY/...).  Run this with the environment's own Python after installing them; a
second run changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

# e.g. /opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include
BUILD_ROOT = r'/opt/python/cp3\d+-cp3\d+'


def relocate(prefix: Path) -> int:
    """Rewrite the cmake files below `prefix`/share and return how many changed."""
    paths = sysconfig.get_paths()
    rules = (
        (re.compile(BUILD_ROOT + r'/include/python3\.\d+'), paths['include']),
        (re.compile(BUILD_ROOT + r'/lib/python3\.\d+/site-packages'), paths['purelib']),
    )
    changed = 0
    for path in sorted((prefix / 'share').rglob('*.cmake')):
        before = text = path.read_text()
        for pattern, replacement in rules:
            text = pattern.sub(lambda _: replacement, text)  # noqa: B023 (used at once)
        if text != before:
            path.write_text(text)
            changed += 1
    return changed


def main() -> int:
    """Relocate the environment of the running Python."""
    prefix = Path(sys.prefix)
    if not (prefix / 'share' / 'ament_cmake').is_dir():
        print(f'error: {prefix} holds no ROS 2 wheels; run make setup where no ROS 2 is sourced', file=sys.stderr)
        return 1
    print(f'relocated {relocate(prefix)} cmake files of the ROS 2 wheels to {prefix}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
