# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Drives of a split to measure words on: the expert's, disturbed as in collection; kept, and never trained on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vla_driver import __version__
from vla_driver.workers import run_isolated, share_cores

if TYPE_CHECKING:  # needs SUMO and GL
    from vla_driver.data.collection import Recipe
    from vla_driver.sim.world.scenario import Scenario


def record_episodes(
    drives: Sequence[Scenario],
    folder: Path,
    *,
    seconds: float,
    jobs: int,
    on_done: Callable[[], object] | None = None,
) -> list[Path]:
    """Return the episodes of all drives in order, recording in `jobs` processes those that are not in `folder` yet.

    An episode's name says all that it depends on beside the version of the simulator.
    """
    from vla_driver.data.collection import Recipe, town_name

    paths = [folder / f'{town_name(s)}_{s.seed}_{s.length_m:g}m_{seconds:g}s_v{__version__}.npz' for s in drives]
    todo = [Recipe(s, path, seconds=seconds) for s, path in zip(drives, paths, strict=True) if not path.exists()]
    for _ in range(len(paths) - len(todo)):
        if on_done is not None:
            on_done()
    for _ in run_isolated(_record, todo, jobs=jobs, environment=share_cores(jobs)):
        if on_done is not None:
            on_done()
    return paths


def _record(recipe: Recipe) -> None:
    """Record one episode, whole or not at all.  For a process of its own: SUMO allows one simulation in each."""
    import dataclasses

    from vla_driver.data.collection import collect_episode

    partial = recipe.out.with_name(f'.{recipe.out.stem}.{os.getpid()}.npz')
    try:
        collect_episode(dataclasses.replace(recipe, out=partial))
        partial.replace(recipe.out)
    finally:
        partial.unlink(missing_ok=True)
