# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One process of a training run that `launch` started: `python -m vla_driver.train.distributed.worker FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vla_driver.train.distributed.launch import reason
from vla_driver.train.policy import run_of, train_policy
from vla_driver.types import VlaDriverError


def main() -> int:
    """Train; return the exit status."""
    run = run_of(json.loads(Path(sys.argv[1]).read_text(encoding='utf-8')))
    try:
        train_policy(run)
    except VlaDriverError as error:
        reason(error)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
