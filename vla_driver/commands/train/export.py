# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver train export`: make a small checkpoint with a model card from a training run.

The heads that only training needs are dropped, and the weights are stored in bfloat16.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from vla_driver.model.native.loading import load_model
from vla_driver.types import InvalidInput

_TABLE = ('| figure | value |', '|---|---|')
_HEAD = """---
license: apache-2.0
library_name: vla_driver
tags: [autonomous-driving, vla, ros2]
---

# {name}

{what}

- Parameters: {parameters:,}, stored in bfloat16; training heads dropped.
- Trained from random weights on the embedded simulator only (towns `train_*`), by imitation of its privileged
  expert. Never trained on: the validation town and the test towns.
- Intended use: measuring this package. Not for a car; it has not seen one photograph.
- Made by `scripts/train_nano.sh`, whose runs are:

## Training

| run | seed | episodes | ticks | steps | minutes | batch | learning rate | from |
|---|---|---|---|---|---|---|---|---|"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `vla_driver train export`."""
    parser.add_argument('--run', dest='source', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the checkpoint')
    parser.add_argument('--scores', type=Path, nargs='*', default=[], metavar='FILE',
                        help='files of `evaluate ... --json` to put into the model card')  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write config.json, model.safetensors and README.md (the model card) to `--out`."""
    model = load_model(args.source, auxiliary=False).to(torch.bfloat16)
    model.save_pretrained(args.out)
    (args.out / 'README.md').write_text(model_card(args.source, args.out.name, model, args.scores), encoding='utf-8')
    size = (args.out / 'model.safetensors').stat().st_size
    print(f'{args.out}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {size / 1e6:.1f} MB')
    return 0


def _lineage(folder: Path) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Return (folder, log) of a run and of the runs it started from, the first one first."""
    runs: list[tuple[Path, list[dict[str, Any]]]] = []
    seen: set[Path] = set()
    current: Path | None = folder
    while current is not None and current not in seen:
        seen.add(current)
        path = current / 'log.jsonl'
        if not path.is_file():
            if current == folder:
                raise InvalidInput(f'{folder} holds no log.jsonl: give the folder of a `vla_driver train policy` run')
            break
        log = [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
        runs.insert(0, (current, log))
        init = next((entry.get('init', '') for entry in log if entry['kind'] == 'start'), '')
        current = Path(init) if init else None
    return runs


def model_card(source: Path, name: str, model: torch.nn.Module, scores: list[Path]) -> str:
    """Return the card's text: what it is, data, seeds, time and scores, all read from the logs."""
    blind = bool(getattr(model.config, 'blind', False))
    seeing = 'The small native model of vla_driver: six cameras, ego speed and sparse navigation to a 5 s trajectory.'
    unseeing = 'The blind control: the architecture of `nano` without images and memory, trained the same way.'
    parameters = sum(p.numel() for p in model.parameters())
    lines = _HEAD.format(name=name, what=unseeing if blind else seeing, parameters=parameters).splitlines()
    for folder, log in _lineage(source):
        start = next(entry for entry in log if entry['kind'] == 'start')
        last = [entry for entry in log if entry['kind'] == 'train'][-1]
        settings = start['settings']
        init = start.get('init', '')
        lines.append(
            f'| {folder.name} | {settings["seed"]} | {start["episodes"]} | {start["ticks"]} | {last["step"]} | '
            f'{last["seconds"] / 60:.0f} | {settings["clips"]} clips of {settings["ticks"]} ticks | '
            f'{settings["learning_rate"]} | {Path(init).name if init else "random"} |'
        )
    log = _lineage(source)[-1][1]
    validation = [entry for entry in log if entry['kind'] == 'validation']
    lines += ['', f'Device: {log[0].get("device")}, {log[0].get("threads")} threads.', '']
    if validation:
        lines += ['## Held-out episodes of the training towns (open loop, against the expert)', '', *_TABLE]
        shown = ('ade_1s', 'ade_2s', 'ade_3s', 'anchor_accuracy', 'go_accuracy', 'light_accuracy', 'light_error_m')
        lines += [f'| {key} | {validation[-1][key]:.3f} |' for key in shown if key in validation[-1]]
    for path in scores:
        figures = json.loads(path.read_text(encoding='utf-8'))
        lines += ['', f'## {path.stem}', '', *_TABLE]
        lines += [f'| {key} | {value:.4g} |' for key, value in figures.items() if isinstance(value, int | float)]
    return '\n'.join([*lines, ''])
