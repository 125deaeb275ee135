# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How long one tick takes: engines, precisions, threads, pruners and builds, the same pictures, in turn, in one run.

Times of separate runs differ by more than what is compared (clocks, neighbours), so every round lets each case make
one tick, beginning with another one each time, and ratios are taken within the round.  Precision, threads and build
belong to a process; every case has one of its own, and only one of them computes at any moment.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_driver.bag.recording import spread
from vla_driver.evaluate.cost.worker_process import (
    WorkerDied,
    WorkerProcess,
    other_python,
    own_python,
    write_observation,
)
from vla_driver.settings.pruning import NO_PRUNER
from vla_driver.statistics import median_ci
from vla_driver.types import FloatArray, InvalidInput, Observation

ENGINES: Final = ('torch', 'onnx')
#: 'auto': what models compute in here, unless VLA_DRIVER_PRECISION says otherwise.
PRECISIONS: Final = ('auto', 'float32', 'bfloat16')
THIS, AGAINST = 'this', 'against'
_WARM_UP: Final = 11
#: Before the next case: threads of the one before may still spin, waiting for work.
_PAUSE_S: Final = 0.003
#: About what a worker takes of the memory for itself, and which share of the free memory all of them may take.
_WORKER_MB: Final = 450.0
_SHARE: Final = 0.8


@dataclass(frozen=True)
class Case:
    """What one process runs.

    threads: 0 for the engine's own choice; prune_ratio: 0 without a pruner; other: of the other model, not the bench's.
    """

    build: str
    engine: str
    precision: str
    threads: int
    pruner: str = NO_PRUNER
    prune_ratio: float = 0.0
    other: bool = False

    @property
    def group(self) -> tuple[str, int]:
        """Cases of one group are compared with each other."""
        return self.precision, self.threads

    def describe(self) -> str:
        """Return a few words for errors."""
        build = ('the other build, ' if self.build == AGAINST else '') + ('the other model, ' if self.other else '')
        pruned = '' if self.pruner == NO_PRUNER else f', {self.pruner} {self.prune_ratio:.0%}'
        threads = f'{self.threads} threads' if self.threads else 'threads of its own choice'
        return f'{build}{self.engine}, {self.precision}, {threads}{pruned}'


@dataclass(frozen=True)
class Bench:
    """What all cases share.  against: another checkout; device: as in `choose_device`; other_model: a checkpoint.

    environment: of every worker, beside its precision and threads.  forecasts: whether somebody asks where others will
    be.
    """

    model: str
    observation: Observation
    rounds: int
    device: str = 'auto'
    against: Path | None = None
    environment: Mapping[str, str] | None = None
    forecasts: bool = False
    other_model: str = ''


def cases_of(
    engines: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
    prunings: Sequence[tuple[str, float]],
    *,
    against: bool,
    other: bool = False,
) -> list[Case]:
    """Return every combination, those that are compared beside each other; torch and no pruner are always there.

    prunings: (pruner, ratio); other: each combination of this build with the other model as well.
    Raises InvalidInput for an unknown engine or precision.
    """
    for what, given, known in (('engine', engines, ENGINES), ('precision', precisions, PRECISIONS)):
        for name in given:
            if name not in known:
                raise InvalidInput(f'{what} {name!r}: unknown, expected one of: {", ".join(known)}')
    builds = [(AGAINST, 'torch')] if against else []
    builds += [(THIS, engine) for engine in dict.fromkeys(('torch', *engines))]
    pruned = dict.fromkeys([(NO_PRUNER, 0.0), *((name, ratio) for name, ratio in prunings if name != NO_PRUNER)])
    return [
        Case(build, engine, precision, count, pruner, ratio, of_other)
        for precision, count in itertools.product(dict.fromkeys(precisions), dict.fromkeys(threads))
        for pruner, ratio in pruned
        for build, engine in builds
        for of_other in ((False, True) if other and build == THIS else (False,))
    ]


def tick_times(
    bench: Bench,
    cases: Sequence[Case],
    on_tick: Callable[[], object] | None = None,
    tell: Callable[[str], object] = print,
) -> list[dict[str, Any]]:
    """Return a row for each case, as `rows_of` makes them.

    Where the memory does not hold all processes at once, each group (`Case.group`) has its rounds after the other one;
    no ratio is taken across groups.  tell: takes a sentence about what was done differently.
    Raises InvalidInput for fewer than two rounds, a case that cannot run, and another checkout that does not start.
    """
    if bench.rounds < 2:
        raise InvalidInput(f'{bench.rounds} rounds, expected at least 2')
    python = None if bench.against is None else other_python(bench.against)
    parts = [list(cases)]
    if len(cases) * _WORKER_MB > _SHARE * _available_mb():
        keyed: dict[tuple[str, int], list[Case]] = {}
        for case in cases:
            keyed.setdefault(case.group, []).append(case)
        parts = list(keyed.values())
    if len(parts) > 1:
        tell(f'{len(cases)} processes do not fit into the free memory at once: measured in {len(parts)} parts')
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'observation.npz'
        write_observation(file, bench.observation)
        for part in parts:
            with ExitStack() as stack:
                workers, reports = [], []
                for case, first in _with_first(part):
                    if first and case.engine != 'torch':
                        # What is made at first use (graphs, compiled kernels) is not part of every start.
                        with closing(_start(bench, case, file, python)) as once:
                            _started(once, case, bench)
                    workers.append(stack.enter_context(closing(_start(bench, case, file, python))))
                    reports.append(_started(workers[-1], case, bench))
                ticks, answers = _rounds(workers, bench.rounds, on_tick)
            rows += rows_of(part, reports, ticks, answers)
    return rows


def _with_first(cases: Sequence[Case]) -> Iterator[tuple[Case, bool]]:
    """Yield each case, and whether it is the first one of its build, engine and precision."""
    seen = set()
    for case in cases:
        kind = (case.build, case.engine, case.precision, case.other)
        yield case, kind not in seen
        seen.add(kind)


def _start(bench: Bench, case: Case, observation: Path, other: Path | None) -> WorkerProcess:
    job = {
        'observation': str(observation),
        'model': bench.other_model if case.other else bench.model,
        'device': bench.device,
        'engine': case.engine,
        'threads': case.threads,
        'pruner': case.pruner,
        'prune_ratio': case.prune_ratio,
        'warm_up': _WARM_UP,
        'forecasts': bench.forecasts,
    }
    environment: dict[str, str | None] = dict(bench.environment or {})
    if case.precision != 'auto':
        environment['VLA_DRIVER_PRECISION'] = case.precision
    if case.threads:
        environment['OMP_NUM_THREADS'] = str(case.threads)
    if case.build == THIS:
        return WorkerProcess(case.describe(), own_python(), job, environment)
    assert other is not None
    environment['PYTHONPATH'] = None  # it may lead to this build's package
    return WorkerProcess(case.describe(), other, job, environment)


def _started(worker: WorkerProcess, case: Case, bench: Bench) -> dict[str, Any]:
    """Return a worker's report; raise InvalidInput where it does not start, or does not run the build it should."""
    try:
        package = worker.package()
        if case.build == AGAINST and bench.against is not None:
            wanted = bench.against.absolute() / 'vla_driver'
            if not (wanted.exists() and package.samefile(wanted)):
                raise InvalidInput(
                    f'--against {bench.against}: its Python runs the package in {package}, expected {wanted}; run '
                    '`make setup` in that checkout'
                )
        return worker.started()
    except WorkerDied as error:
        if case.build == AGAINST:
            raise InvalidInput(f'--against {bench.against}: it does not start: {error}') from error
        raise


def _rounds(
    workers: Sequence[WorkerProcess], rounds: int, on_tick: Callable[[], object] | None
) -> tuple[FloatArray, list[list[dict[str, Any]]]]:
    """Return milliseconds [rounds, workers], and each worker's answers."""
    ticks = np.zeros((rounds, len(workers)))
    answers: list[list[dict[str, Any]]] = [[] for _ in workers]
    for number in range(rounds):
        for place in range(len(workers)):
            index = (place + number) % len(workers)
            time.sleep(_PAUSE_S)
            answer = workers[index].tick()
            ticks[number, index] = answer['ms']
            answers[index].append(answer)
            if on_tick is not None:
                on_tick()
    return ticks, answers


def rows_of(
    cases: Sequence[Case],
    reports: Sequence[Mapping[str, Any]],
    ticks: FloatArray,
    answers: Sequence[Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Return a row for each case.

    ticks: milliseconds [rounds, cases].  engine, provider, precision, threads: what ran; `asked` and `note` say what
    was asked for and why something else ran.  All ratios are medians of ratios within a round, above 1 where this case
    is faster: `ratio_to_torch` to torch of the same build with the same precision, threads and pruner; `ratio_to_build`
    to torch of the other build, likewise; `ratio_to_unpruned` to the same case without a pruner; `ratio_to_other` to
    the other model in the same engine, likewise.  other_model: whether this row is of that one.  Each ratio has a 95 %
    interval (`..._ci`); None where there is nothing to compare with.  tokens: that the language model reads.
    """
    places = {case: index for index, case in enumerate(cases)}
    rows = []
    for index, (case, report) in enumerate(zip(cases, reports, strict=True)):
        of = (case.precision, case.threads)
        pruning = (case.pruner, case.prune_ratio)
        others = {
            'torch': Case(case.build, 'torch', *of, *pruning, case.other),
            'build': Case(AGAINST, 'torch', *of, *pruning) if case.build == THIS and not case.other else None,
            'unpruned': Case(case.build, case.engine, *of, other=case.other),
            'other': None if case.other else dataclasses.replace(case, other=True),
        }
        stages: dict[str, list[float]] = {}
        for answer in answers[index]:
            for stage, ms in answer['stages_ms'].items():
                stages.setdefault(stage, []).append(ms)
        times = spread(list(ticks[:, index]))
        row = {
            'build': case.build,
            'other_model': case.other,
            'engine': report['engine'],
            'provider': report['provider'],
            'precision': report['precision'],
            'threads': report['threads'],
            'asked': {'engine': case.engine, 'precision': case.precision, 'threads': case.threads},
            'note': note_of(case, report),
            'pruner': case.pruner,
            'prune_ratio': case.prune_ratio,
            'tokens': answers[index][-1]['tokens'],
            'median_ms': times['p50'],
            'p99_ms': times['p99'],
            'tick_ms': times,
            'stages_ms': {stage: spread(values) for stage, values in stages.items()},
            'start_to_first_plan_s': report['start_to_first_plan_s'],
            'resident_mb': report['resident_mb'],
        }
        for name, other in others.items():
            place = None if other is None else places.get(other)
            ratios = None if place is None or place == index else ticks[:, place] / ticks[:, index]
            row[f'ratio_to_{name}'] = None if ratios is None else float(np.median(ratios))
            row[f'ratio_to_{name}_ci'] = None if ratios is None else median_ci(ratios)
        rows.append(row)
    return rows


def note_of(case: Case, report: Mapping[str, Any]) -> str:
    """Return in what the process ran otherwise than it was asked to, and why; empty where it did as asked."""
    notes = []
    if report['engine'] != case.engine:
        notes.append(f'{report["engine"]} ran, not {case.engine}')
    if case.precision not in ('auto', report['precision']):
        notes.append(f'{report["precision"]}, not {case.precision}')
    if case.threads not in (0, report['threads']):
        notes.append(f'{report["threads"]} threads, not {case.threads}')
    return '; '.join([*notes, report['note']] if report['note'] else notes)


def commit_of(checkout: Path) -> str:
    """Return the commit of a checkout, with a + where files differ from it; empty where git knows none."""
    command = ['git', '-C', str(checkout), 'describe', '--always', '--abbrev=12', '--exclude=*', '--dirty=+']
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return found.stdout.strip() if found.returncode == 0 else ''


def _available_mb() -> float:
    """Return how much memory could be had at once, in MB."""
    try:
        for line in Path('/proc/meminfo').read_text(encoding='utf-8').splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e6
