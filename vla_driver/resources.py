# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Find the files that are installed beside the code: config/, msg/, launch/, models/."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vla_driver.types import InvalidInput


def _roots() -> Iterator[Path]:
    """Yield where the files may lie, best first: a source tree, then the share/ folders of installations."""
    here = Path(__file__).resolve()
    yield here.parents[1]
    for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep):
        if prefix:
            yield Path(prefix) / 'share' / 'vla_driver'
    # PREFIX/lib/pythonX.Y/site-packages/vla_driver/resources.py, and Ubuntu's PREFIX/local/lib/...
    for parent in here.parents[3:6]:
        yield parent / 'share' / 'vla_driver'


def resource(*parts: str) -> Path:
    """Return the path of an installed file or folder by its parts, such as 'config', 'rigs', 'sim.yaml'.

    Raises InvalidInput naming every place that was searched.
    """
    searched = [root.joinpath(*parts) for root in dict.fromkeys(_roots())]
    for path in searched:
        if path.exists():
            return path
    raise InvalidInput(
        f'{Path(*parts)} was not found; searched: {", ".join(map(str, searched))}; run from a source tree, or build '
        'the package with colcon and source install/setup.bash'
    )


def find_cache() -> Path:
    """Return the user's own folder for what can be made again (XDG_CACHE_HOME, else ~/.cache); it may not exist yet."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(base) if base else Path.home() / '.cache') / 'vla_driver'
