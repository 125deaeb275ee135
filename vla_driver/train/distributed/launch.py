# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A command starts its own processes through torchrun, so that users type one command on one machine.

On several machines torchrun is called by hand, on each of them (docs/scaling.md).
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vla_driver.types import InvalidInput, VlaDriverError

#: What is needed beside torch.
REQUIREMENT: Final = 'deepspeed==0.19.8'
#: Where a process leaves the reason why it ended, a folder.
_REASONS: Final = 'VLA_DRIVER_REASONS'
#: Of Linux: which signal a process gets when the one that started it has ended (prctl(2)).
_DEATH_SIGNAL: Final = 1


def require_deepspeed() -> None:
    """Raise `InvalidInput` where DeepSpeed is not installed."""
    if importlib.util.find_spec('deepspeed') is None:
        raise InvalidInput(
            'several processes share a training run through DeepSpeed, which is not installed: '
            f"`pip install '{REQUIREMENT}'`, or leave --processes at 1"
        )


def launch(module: str, job: Mapping[str, Any], processes: int, threads: int) -> None:
    """Run `python -m module FILE` in so many processes on this machine, and wait for them.

    job: written to FILE as JSON; threads: of each process.  Raises `InvalidInput` with the reason that one of the
    processes gave (`reason`), else `VlaDriverError` with the status they ended with.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'job.json'
        file.write_text(json.dumps(job), encoding='utf-8')
        command = [sys.executable, '-m', __name__, '--standalone', f'--nproc-per-node={processes}']
        environment = os.environ | {'OMP_NUM_THREADS': str(threads), _REASONS: folder}
        process = subprocess.Popen([*command, '-m', module, str(file)], env=environment)
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # The terminal has told them, too; they save and end.
            process.wait()
            raise
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        reasons = sorted(Path(folder).glob('reason-*'))
        if reasons:
            raise InvalidInput(reasons[0].read_text(encoding='utf-8'))
        if status:
            raise VlaDriverError(f'a training process ended with status {status}; what it said stands above')


def torchrun() -> int:
    """Be torchrun, but for the report on a process that failed: what that one said is enough.  Return the status."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # However the one who launched this ends, its processes are not to train on by themselves.
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGTERM)
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        return next(iter(error.failures.values())).exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0


def reason(error: VlaDriverError) -> None:
    """Tell whoever launched this process why it ends."""
    folder = os.environ.get(_REASONS)
    if folder:
        (Path(folder) / f'reason-{os.environ["RANK"]}').write_text(str(error), encoding='utf-8')


if __name__ == '__main__':
    sys.exit(torchrun())
