# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""One process that makes a tick whenever it is told to, and says how long it took.

    PYTHON tick_worker.py        # a job as one line of JSON on stdin, then a line for every tick

A script of its own, which other checkouts of this package run as well, with their own Python and their own code
(`evaluate tick-time --against DIR`).  So it imports nothing but what all of them have, and passes on what only newer
ones take.  `worker_process.py` is the other end.  Whatever is heavy is imported when the job is known: the time from
the start of the process to its first plan is one of the figures.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
import time
from typing import Any

#: Between two ticks by the observation's clock: the memory is as full as on the road.
TICK_S = 0.1


def main() -> int:
    """Do the job that comes on stdin, then a tick for every line; ends with its input."""
    # What libraries print must not pass for an answer.
    answers = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)
    del sys.path[0]  # this script's folder: the modules beside it are not top-level ones

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + '\n')
        answers.flush()

    job = json.loads(sys.stdin.readline())
    import vla_driver
    from vla_driver.types import VlaDriverError

    answer({'package': os.path.dirname(os.path.abspath(vla_driver.__file__))})
    try:
        observation = read_observation(job['observation'])
        policy, note = make(job)
        if hasattr(policy, 'forecasting'):
            policy.forecasting = job['forecasts']
        seen = ticking(observation)
        policy.plan(next(seen))
        started = {'first_plan_s': time.monotonic(), 'resident_mb': resident_mb()}
        for _ in range(job['warm_up']):
            policy.plan(next(seen))
        answer({**started, **report_of(policy, note)})
        while sys.stdin.readline():
            observed = next(seen)
            began = time.perf_counter()
            plan = policy.plan(observed)
            took_ms = 1e3 * (time.perf_counter() - began)
            selection = getattr(policy, 'last_selection', None)
            tokens = None if selection is None else int(selection.kept)
            answer({'ms': took_ms, 'stages_ms': dict(plan.timing_ms), 'tokens': tokens})
    except VlaDriverError as error:
        answer({'error': str(error)})
        return 2
    return 0


def make(job: dict[str, Any]) -> tuple[Any, str]:
    """Return the policy of a job, and a note where this build cannot do what was asked.

    An older build's `make_policy` knows neither engines nor threads: torch is all it has, and it is told by hand.
    """
    from vla_driver.policies.pruning_settings import PruningSettings
    from vla_driver.policies.registry import make_policy

    taken = inspect.signature(make_policy).parameters
    more = {name: job[name] for name in ('engine', 'threads') if name in taken}
    settings = PruningSettings(job['pruner'], job['prune_ratio'])
    policy = make_policy('model', job['model'], pruning=settings, device=job['device'], **more)
    if job['threads'] and 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(job['threads'])
    alone = 'engine' not in taken and job['engine'] not in ('auto', 'torch')
    return policy, 'this build knows no engine but torch' if alone else ''


def report_of(policy: Any, note: str) -> dict[str, Any]:
    """Return which engine ran, by which provider, in which precision and with how many threads."""
    report = getattr(policy, 'engine', None)  # an older build's policies have none
    if report is None:
        import torch

        from vla_driver.model.precision import precision

        kind = policy.device.type
        names = ('engine', 'provider', 'precision', 'threads', 'note')
        return dict(zip(names, ('torch', f'torch-{kind}', precision(kind), torch.get_num_threads(), note), strict=True))
    return dataclasses.asdict(report)


def read_observation(path: str) -> Any:
    """Return the Observation in a file that `worker_process.write_observation` has written.

    Not the bag itself: its reader would be part of the start, and two builds might read it differently.
    """
    import numpy as np

    from vla_driver.types import (
        CameraFrame,
        CameraModel,
        CameraRig,
        EgoState,
        Navigation,
        Observation,
        TurnCommand,
    )

    with np.load(path, allow_pickle=False) as stored:
        about = json.loads(str(stored['about']))
        cameras = tuple(
            CameraModel(name, width, height, stored[f'intrinsics {name}'], stored[f'mount {name}'])
            for name, (width, height) in about['sizes'].items()
        )
        frames = {
            name: CameraFrame(name, stamp_s, stored[f'image {name}']) for name, stamp_s in about['stamps_s'].items()
        }
        command, distance_m = about['navigation']
        navigation = Navigation(TurnCommand(command), distance_m, stored['targets'])
    rig, ego = CameraRig(about['rig'], cameras), EgoState(**about['ego'])
    return Observation(about['stamp_s'], frames, rig, ego, navigation, tuple(about['missing']))


def ticking(observation: Any) -> Any:
    """Yield the same observation again and again, each time a tick later."""
    number = 0
    while True:
        stamp_s = observation.stamp_s + TICK_S * number
        ego = dataclasses.replace(observation.ego, stamp_s=stamp_s)
        yield dataclasses.replace(observation, stamp_s=stamp_s, ego=ego)
        number += 1


def resident_mb() -> float:
    """Return how much memory of this process is in RAM, in MB (10^6 bytes)."""
    with open('/proc/self/status', encoding='utf-8') as lines:
        for line in lines:
            if line.startswith('VmRSS:'):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


if __name__ == '__main__':
    sys.exit(main())
