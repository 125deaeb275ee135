# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What several training runs refuse before they begin; the messages name the options of the command line."""

from __future__ import annotations

from pathlib import Path

from vla_driver.train.state import STATE_FOLDER
from vla_driver.types import InvalidInput


def check_positive(**settings: float | None) -> None:
    """Raise `InvalidInput` for the first setting that is not above zero; None is none."""
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise InvalidInput(f'--{name.replace("_", "-")} is {value}, expected a positive number')


def check_new_run(out: Path, resume: bool) -> None:
    """Raise `InvalidInput` for a folder that holds a run which is not to be continued, or other weights."""
    if not resume and (out / STATE_FOLDER).exists():
        raise InvalidInput(f'{out} already holds a run: continue it with --resume, or choose another --out')
    if not resume:
        check_output(out)


def check_output(folder: Path) -> None:
    """Raise `InvalidInput` for a folder in which weights lie already; they would be overwritten."""
    there = [name for name in ('config.json', 'model.safetensors') if (folder / name).exists()]
    if there:
        raise InvalidInput(f'--out {folder} already holds {" and ".join(there)}: choose another folder, or remove them')
