# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Routes that were driven already, on disk: an evaluation of many hours goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vla_driver import __version__
from vla_driver.evaluate.closed_loop import run_scenarios
from vla_driver.policies.pruning_settings import PruningSettings

Row = dict[str, Any]


def fingerprint(model: str, settings: PruningSettings, engine: str = 'auto') -> str:
    """Return a hash of all that a drive depends on beside the scenario.

    Weights, pruner, budget, engine, precision, version.
    """
    from vla_driver.model.checkpoint import PRUNER_FOLDER, resolve_checkpoint
    from vla_driver.model.device import choose_device
    from vla_driver.model.precision import precision
    from vla_driver.model.pruning.registry import PLAN_FOLDER, early_folder

    digest = hashlib.sha256()
    checkpoint = resolve_checkpoint(model)
    folders = [checkpoint]
    if settings.pruner.partition(':')[0] == 'recon':
        folders.append(checkpoint / PRUNER_FOLDER)
    elif settings.pruner == PLAN_FOLDER:
        folders.append(checkpoint / PLAN_FOLDER)
    elif settings.active and Path(settings.pruner).is_dir():
        folders.append(Path(settings.pruner))
    elif (block := settings.pruner.removeprefix('early:').removesuffix('-head')).isdigit():
        folders.append(checkpoint / early_folder(int(block)))
    for folder in folders:
        for file in sorted((*folder.glob('*.safetensors'), *folder.glob('config.json'))):
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    budget = [settings.ratio, settings.count, settings.scope, settings.floor, sorted(settings.weights.items())]
    computed = precision(choose_device('auto'))  # as the workers choose it
    about = [__version__, engine, computed, settings.pruner, budget if settings.active else None]
    digest.update(json.dumps(about).encode())
    return digest.hexdigest()[:20]


class RouteCache:
    """Rows of `evaluate closed-loop` by scenario, one file of lines for each fingerprint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def drive(
        self,
        scenarios: Sequence[Any],
        settings: PruningSettings,
        *,
        model: str,
        plan_hz: float,
        jobs: int,
        engine: str = 'auto',
        on_row: Callable[[Row], None] | None = None,
    ) -> list[Row]:
        """Return the rows of all scenarios in order, driving only those that are not there yet."""
        path = self._folder / f'{fingerprint(model, settings, engine)}.jsonl'
        there = {line['key']: line['row'] for line in _lines(path)}
        keys = [json.dumps([repr(scenario), plan_hz]) for scenario in scenarios]
        todo = [k for k, key in enumerate(keys) if key not in there]
        if on_row is not None:
            for key in keys:
                if key in there:
                    on_row(there[key])
        self._folder.mkdir(parents=True, exist_ok=True)

        def store(row: Row) -> None:
            key = keys[todo[row['index']]]
            there[key] = row
            with path.open('a', encoding='utf-8') as stream:
                stream.write(json.dumps({'key': key, 'settings': settings.describe(), 'row': row}) + '\n')
            if on_row is not None:
                on_row(row)

        if todo:
            run_scenarios(
                [scenarios[k] for k in todo],
                'model',
                model=model,
                plan_hz=plan_hz,
                jobs=jobs,
                pruning=settings,
                engine=engine,
                on_row=store,
            )
        return [there[key] for key in keys]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of the file; a last one that was cut off by an interruption is removed from it."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b'\n') + 1]
    if len(whole) != len(data):
        path.write_bytes(whole)
    return [json.loads(line) for line in whole.splitlines()]
