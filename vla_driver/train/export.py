# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A training run to a checkpoint that ships, small, with a model card that is read from the run's log.

Training heads are dropped and weights stored in bfloat16 (they compute in float32 under autocast).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.sim.world.towns import TOWNS
from vla_driver.train.checks import check_output
from vla_driver.train.record import LOG, read_log
from vla_driver.types import InvalidInput

#: More towns are counted, not named.
_MOST_TOWNS = 6
_TABLE = ('| figure | value |', '|---|---|')
_HEAD = """---
license: apache-2.0
library_name: vla_driver
tags: [autonomous-driving, vla, ros2]
---

# {name}

{what}

- Parameters: {parameters:,}, stored in bfloat16; training heads dropped.
- Trained from {origin} on drives in the embedded simulator, by imitation of its privileged expert{towns}.
- Intended use: measuring this package. Not for a car; it has not seen one photograph.

## Training

| run | seed | episodes | ticks | steps | minutes | batch | learning rate | from |
|---|---|---|---|---|---|---|---|---|"""


def export_run(source: Path, out: Path, scores: Sequence[Path] = (), *, replace: bool = False) -> tuple[int, int]:
    """Write config.json, model.safetensors and README.md (the model card) to `out`.

    source: the folder of a run; scores: files of `evaluate ... --json` for the card; replace: whether a checkpoint that
    lies in `out` may be written over.  Return the number of parameters and the bytes of the weights' file; raise
    `InvalidInput` for a folder without model or log, and for `out` where something would be lost.
    """
    if out.resolve() == source.resolve():
        raise InvalidInput(f'--out {out} is the run itself, whose weights it needs to go on: choose another folder')
    if not replace:
        check_output(out)
    model = load_model(source, auxiliary=False).to(torch.bfloat16)
    card = model_card(source, out.name, model, scores)
    model.save_pretrained(out)
    (out / 'README.md').write_text(card, encoding='utf-8')
    return sum(p.numel() for p in model.parameters()), (out / 'model.safetensors').stat().st_size


def _lineage(folder: Path) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Return (folder, log) of a run and of the runs it started from, the first one first."""
    runs: list[tuple[Path, list[dict[str, Any]]]] = []
    seen: set[Path] = set()
    current: Path | None = folder
    while current is not None and current not in seen:
        seen.add(current)
        if not (current / LOG).is_file():
            if current == folder:
                raise InvalidInput(f'{folder} holds no {LOG}: give the folder of a `vla_driver train policy` run')
            break
        log = read_log(current)
        runs.insert(0, (current, log))
        init = next((entry.get('init', '') for entry in log if entry['kind'] == 'start'), '')
        current = Path(init) if init else None
    return runs


def _in_words(towns: Sequence[Sequence[str] | None]) -> str:
    """Return the towns of all runs' episodes, in words; '' where some run's log does not name them."""
    if any(of_run is None for of_run in towns):
        return ''
    found = sorted({town for of_run in towns for town in of_run or ()})
    shown = ', '.join(found[:_MOST_TOWNS]) + (f' and {len(found) - _MOST_TOWNS} more' if found[_MOST_TOWNS:] else '')
    kept = sorted({*TOWNS['val'], *TOWNS['test']})
    seen = [town for town in kept if town in found]
    never = f'; of the validation and test towns: {", ".join(seen)}' if seen else '; none of validation and test'
    return f' ({len(found)} towns: {shown}{never})'


def model_card(source: Path, name: str, model: VlaModel, scores: Sequence[Path]) -> str:
    """Return the card's text: what it is, data, seeds, time and scores, all read from the logs."""
    seeing = 'The small native model of vla_driver: six cameras, ego speed and sparse navigation to a 5 s trajectory.'
    unseeing = 'The blind control: the architecture of `nano` without images and memory, trained the same way.'
    parameters = sum(p.numel() for p in model.parameters())
    runs = _lineage(source)
    starts = [next((entry for entry in log if entry['kind'] == 'start'), None) for _, log in runs]
    for (folder, log), start in zip(runs, starts, strict=True):
        if start is None or not any(entry['kind'] == 'train' for entry in log):
            raise InvalidInput(
                f'{folder}: its {LOG} holds no step yet, and the card would say nothing; train it longer'
            )
    first = (starts[0] or {}).get('init', '')
    lines = _HEAD.format(
        name=name,
        what=unseeing if model.config.blind else seeing,
        parameters=parameters,
        origin=f'`{Path(first).name}`' if first else 'random weights',
        towns=_in_words([start.get('towns') for start in starts if start is not None]),
    ).splitlines()
    for (folder, log), start in zip(runs, starts, strict=True):
        assert start is not None
        last = [entry for entry in log if entry['kind'] == 'train'][-1]
        settings = start['settings']
        init = start.get('init', '')
        lines.append(
            f'| {folder.name} | {settings["seed"]} | {start["episodes"]} | {start["ticks"]} | {last["step"]} | '
            f'{last["seconds"] / 60:.0f} | {settings["clips"]} clips of {settings["ticks"]} ticks | '
            f'{settings["learning_rate"]} | {Path(init).name if init else "random"} |'
        )
    rewarded = [folder.name for folder, log in runs if 'samples' in log[0]['settings']]
    if rewarded:
        lines += [
            '',
            f'Then by rewards of its own plans, with imitation beside (`train reinforce`): {", ".join(rewarded)}.',
        ]
    _, log = runs[-1]
    validation = [entry for entry in log if entry['kind'] == 'validation']
    lines += ['', f'Device: {log[0].get("device")}, {log[0].get("threads")} threads.', '']
    if validation:
        lines += ['## Held-out episodes of the training towns (open loop, against the expert)', '', *_TABLE]
        shown: tuple[str, ...] = ('reward', 'no_collision', 'on_road', 'no_red', 'progress')
        shown += ('ade_1s', 'ade_2s', 'ade_3s', 'anchor_accuracy', 'go_accuracy', 'light_accuracy', 'light_error_m')
        lines += [f'| {key} | {validation[-1][key]:.3f} |' for key in shown if key in validation[-1]]
    for path in scores:
        figures = json.loads(path.read_text(encoding='utf-8'))
        lines += ['', f'## {path.stem}', '', *_TABLE]
        lines += [f'| {key} | {value:.4g} |' for key, value in figures.items() if isinstance(value, int | float)]
    return '\n'.join([*lines, ''])
