# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of `train` share: options made from the fields of settings, and settings made from the options."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.types import InvalidInput

_Settings = TypeVar('_Settings')


def add_data_argument(parser: argparse.ArgumentParser, kinds: str = 'episodes or of foreground pairs') -> None:
    """Add --data."""
    parser.add_argument('--data', type=Path, nargs='+', required=True, metavar='DIR', help=f'folders of {kinds}')


def add_setting(
    parser: argparse.ArgumentParser,
    settings: type[Any],
    name: str,
    metavar: str | None,
    words: str = '',
    *,
    form: str = 's',
) -> None:
    """Add the option of a field of a settings dataclass, whose default and type it takes from there.

    metavar: None for the option's name in capitals; words: what the option means; form: of the default in the help.
    """
    default = getattr(settings, name)
    said = f'(default: %(default){form})' if words else f'default: %(default){form}'
    parser.add_argument(
        f'--{name.replace("_", "-")}',
        type=type(default),
        default=default,
        metavar=metavar,
        help=f'{words} {said}'.lstrip(),
    )


def add_machine_arguments(parser: argparse.ArgumentParser, threads: str = "CPU threads (default: torch's)") -> None:
    """Add --threads and --device."""
    parser.add_argument('--threads', type=int, metavar='N', help=threads)
    add_options(parser, PolicyParameters, 'device')


def settings_of(kind: type[_Settings], args: argparse.Namespace, **given: Any) -> _Settings:
    """Return settings whose fields are `given` or, by their names, in the arguments, else as they are by default."""
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(args).items() if name in fields} | given)


def picture_size(text: str | None) -> tuple[int, int] | None:
    """Return (width, height) of --picture-size, None for None; raise `InvalidInput` for what is no size."""
    if text is None:
        return None
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InvalidInput(f'--picture-size {text!r}, expected WIDTHxHEIGHT such as 672x392')
    return int(width), int(height)


def print_figures(figures: dict[str, float]) -> None:
    """Print the figures of a validation, one a line, in the order of their names."""
    for name, value in sorted(figures.items()):
        print(f'{name}: {value:.4f}')
