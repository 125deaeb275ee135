# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m vla_driver.model.export CHECKPOINT FOLDER`: what `making.find_or_make` runs in a process of its own."""

from __future__ import annotations

import sys

from vla_driver.model.export.export import export_checkpoint
from vla_driver.model.export.following import usual_jobs
from vla_driver.types import InvalidInput


def main(arguments: list[str]) -> int:
    """Export; say what is being made."""
    try:
        checkpoint, folder = arguments
        export_checkpoint(
            checkpoint, folder, lambda name, count: print(f'{name} (of {count})', flush=True), usual_jobs()
        )
    except InvalidInput as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
