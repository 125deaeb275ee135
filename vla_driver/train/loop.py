# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The loop of every training run: steps until the run is done, means in the log, checkpoints, the last figures.

A run is resumed where it was saved: its trainer knows the step and the time, its batches begin with the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from vla_driver.train.distributed.crew import ALONE, Crew, told_to_stop
from vla_driver.train.record import append_log, mean_of

_Batch = TypeVar('_Batch')
_Given = TypeVar('_Given', contravariant=True)


class Trainer(Protocol[_Given]):
    """What can be trained.  step: optimiser steps so far; elapsed_s: seconds so far, when the last step began."""

    step: int
    elapsed_s: float

    @property
    def progress(self) -> float:
        """How much of the run is done, 0 to 1."""
        ...

    def train_step(self, on_cpu: _Given, /) -> dict[str, float]:
        """Take one optimiser step and return its figures, 'loss' among them."""
        ...


class KeptTrainer(Trainer[_Given], Protocol[_Given]):
    """One whose run can be resumed."""

    def save(self, folder: Path, /) -> None:
        """Write what drives or prunes to `folder`, and the run's state below it."""
        ...


@dataclass(frozen=True)
class Counting:
    """How a run is counted and shown.

    total, unit: its length, in optimiser steps ('step') or in seconds ('s'); row, rows: what a step takes, such as
    8 'moments'; log_every: steps between two means; shown: figures of a step in the progress bar, and their formats.
    """

    total: int
    row: str
    rows: int
    unit: str = 'step'
    log_every: int = 50
    shown: Mapping[str, str] = field(default_factory=lambda: {'loss': '.4f'})


@dataclass(frozen=True)
class Taken:
    """What is known after a step.

    seconds: time of the whole run so far; rows_per_s: pace since it was started or resumed; means: of the figures of
    all steps since the last means, every so many steps and at the end, else None.
    """

    seconds: float
    rows_per_s: float
    means: dict[str, float] | None


def progress_bar(trainer: Trainer[Any], counting: Counting, crew: Crew = ALONE) -> Any:
    """Return a bar that stands where the run does, and is seen where the crew's leading process shows it."""
    return tqdm(
        disable=not crew.leads,
        total=counting.total,
        initial=trainer.progress * counting.total,
        unit=counting.unit,
        dynamic_ncols=True,
        bar_format='{l_bar}{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}]{postfix}',
    )


def take_steps(trainer: Trainer[_Batch], batches: Iterator[_Batch], counting: Counting, bar: Any) -> Iterator[Taken]:
    """Take steps until the run is done, and yield after each; nothing where it is done already."""
    started = time.monotonic()
    base_s, first = trainer.elapsed_s, trainer.step
    window: list[dict[str, float]] = []
    while trainer.progress < 1.0:
        # Before the step: the learning rate of a run of minutes goes by it, and processes take the mean of theirs.
        trainer.elapsed_s = base_s + time.monotonic() - started
        window.append(trainer.train_step(next(batches)))
        seconds = time.monotonic() - started
        pace = (trainer.step - first) * counting.rows / max(seconds, 1e-9)
        figures = {name: format(window[-1][name], form) for name, form in counting.shown.items()}
        bar.n = trainer.progress * counting.total
        bar.set_postfix({'step': trainer.step, **figures, f'{counting.row}/s': f'{pace:.1f}'})
        means = None
        if len(window) == counting.log_every or trainer.progress >= 1.0:
            means = mean_of(window)
            window.clear()
        yield Taken(base_s + seconds, pace, means)


@contextmanager
def _asked_to_stop(crew: Crew) -> Iterator[threading.Event]:
    """Yield what a signal to stop sets meanwhile, so that a step is finished: half a step could not be resumed.

    A crew of several sees to that itself (`crew.meeting`).
    """
    asked = threading.Event()
    with told_to_stop(asked.set) if crew.size == 1 else nullcontext():
        yield asked


def train(
    trainer: KeptTrainer[_Batch],
    batches: Generator[_Batch, None, None],
    counting: Counting,
    out: Path,
    *,
    save_minutes: float,
    validate: Callable[[], dict[str, float]],
    shown: Sequence[str],
    crew: Crew = ALONE,
) -> dict[str, float]:
    """Train to the end, saving to `out`; return the last validation's figures, {} where there was none.

    save_minutes: between two saves; validate: called after each, returns {} where nothing is held out; shown: those of
    its figures that are printed; crew: all of its processes take every step and part in every save, and the leading one
    does the rest.  SIGINT and SIGTERM let the step be finished and save the run, too; KeyboardInterrupt goes on up.
    """
    figures: dict[str, float] = {}
    # Several processes save together: by the trainer's clock, on which they agree.
    clock = time.monotonic if crew.size == 1 else lambda: trainer.elapsed_s
    saved = clock()
    with closing(batches), progress_bar(trainer, counting, crew) as bar, _asked_to_stop(crew) as asked:
        try:
            for taken in take_steps(trainer, batches, counting, bar):
                now = {'step': trainer.step, 'seconds': taken.seconds}
                if taken.means is not None and crew.leads:
                    pace = {f'{counting.row}_per_s': taken.rows_per_s}
                    append_log(out, kind='train', **now, **pace, **taken.means)
                if crew.stopping or asked.is_set():
                    raise KeyboardInterrupt
                if clock() - saved > 60 * save_minutes or trainer.progress >= 1.0:
                    trainer.save(out)
                    figures = validate() if crew.leads else {}
                    if figures:
                        append_log(out, kind='validation', **now, **figures)
                        words = [f'{name} {figures[name]:.3f}' for name in shown if name in figures]
                        bar.write(f'step {trainer.step}: ' + ', '.join(words))
                    saved = clock()
        except KeyboardInterrupt:
            trainer.save(out)
            if crew.leads:
                bar.write(f'interrupted at step {trainer.step}; continue with --resume')
            raise
    return figures
