# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The loop of every run: means in the log, saves and validations, an end, and an interruption that loses nothing."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from vla_driver.train import loop as module
from vla_driver.train.distributed.crew import Crew
from vla_driver.train.loop import Counting, progress_bar, take_steps, train
from vla_driver.train.record import read_log


class Clock:
    """A clock that goes on by a second whenever a step is taken."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Counter:
    """A trainer that sums up what it is given, and whose step takes a second."""

    def __init__(self, steps: int, clock: Clock, *, step: int = 0, elapsed_s: float = 0.0, breaks: int = -1) -> None:
        self.step, self.elapsed_s, self._steps, self._clock, self._breaks = step, elapsed_s, steps, clock, breaks
        self.taken: list[int] = []
        self.saved: list[int] = []
        self.began: list[float] = []

    @property
    def progress(self) -> float:
        return self.step / self._steps

    def train_step(self, batch: int) -> dict[str, float]:
        if self.step == self._breaks:
            raise KeyboardInterrupt
        self.began.append(self.elapsed_s)
        self.taken.append(batch)
        self._clock.now += 1.0
        self.step += 1
        return {'loss': float(batch), 'kept': 0.5}

    def save(self, folder: Path) -> None:
        self.saved.append(self.step)


class Batches:
    """0, 1, 2, ... and whether they were closed."""

    closed = False

    def __call__(self, first: int = 0) -> Generator[int, None, None]:
        try:
            yield from itertools.count(first)
        finally:
            self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, 'time', made)
    return made


def test_steps_are_logged_in_windows_and_saved_by_the_clock(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, batches, asked = Counter(7, clock), Batches(), []

    def validate() -> dict[str, float]:
        asked.append(trainer.step)
        clock.now += 10.0  # which does not count between two saves
        return {'recall': 0.25, 'other': 1.0, 'at': float(trainer.step)}

    figures = train(
        trainer,
        batches(),
        Counting(7, 'moments', 4, log_every=3, shown={'loss': '.4f', 'kept': '.2f'}),
        tmp_path,
        save_minutes=2.5 / 60,
        validate=validate,
        shown=('recall', 'missing', 'at'),
    )
    assert trainer.taken == list(range(7)) and batches.closed
    assert trainer.saved == asked == [3, 6, 7]
    assert figures == {'recall': 0.25, 'other': 1.0, 'at': 7.0}
    windows = read_log(tmp_path, 'train')
    assert [(entry['step'], entry['loss']) for entry in windows] == [(3, 1.0), (6, 4.0), (7, 6.0)]
    assert windows[0] == {
        'kind': 'train', 'step': 3, 'seconds': 3.0, 'moments_per_s': 4.0, 'loss': 1.0, 'kept': 0.5
    }  # fmt: skip
    assert [entry['step'] for entry in read_log(tmp_path, 'validation')] == [3, 6, 7]
    assert read_log(tmp_path, 'validation')[0] | {'seconds': 0} == {
        'kind': 'validation', 'step': 3, 'seconds': 0, 'recall': 0.25, 'other': 1.0, 'at': 3.0
    }  # fmt: skip
    said = capsys.readouterr().out.splitlines()
    assert said == [f'step {step}: recall 0.250, at {step}.000' for step in (3, 6, 7)]


def test_a_step_knows_when_it_began(clock: Clock, tmp_path: Path) -> None:
    """The learning rate of a run of minutes goes by it; a resumed run goes on from what it took before."""
    trainer = Counter(8, clock, step=5, elapsed_s=50.0)
    counting = Counting(8, 'ticks', 6, log_every=2)
    with progress_bar(trainer, counting) as bar:
        assert bar.n == 5
        taken = list(take_steps(trainer, Batches()(5), counting, bar))
        assert bar.n == 8
    assert trainer.began == [50.0, 51.0, 52.0] and trainer.taken == [5, 6, 7]
    assert [step.seconds for step in taken] == [51.0, 52.0, 53.0]
    assert [step.rows_per_s for step in taken] == [6.0, 6.0, 6.0]
    assert [step.means and step.means['loss'] for step in taken] == [None, 5.5, 7.0]


def test_an_interruption_saves_and_comes_through(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, batches = Counter(7, clock, breaks=4), Batches()
    with pytest.raises(KeyboardInterrupt):
        train(trainer, batches(), Counting(7, 'ticks', 1), tmp_path, save_minutes=5.0, validate=dict, shown=())
    assert trainer.saved == [4] and batches.closed
    assert capsys.readouterr().out == 'interrupted at step 4; continue with --resume\n'


@pytest.mark.parametrize('done', [True, False])
def test_nothing_is_done_twice_and_nothing_held_out_is_no_validation(clock: Clock, tmp_path: Path, done: bool) -> None:
    trainer: Any = Counter(3, clock, step=3 if done else 2)
    counting = Counting(3, 'ticks', 1)
    assert train(trainer, Batches()(), counting, tmp_path, save_minutes=5.0, validate=dict, shown=()) == {}
    assert trainer.saved == ([] if done else [3])
    if not done:
        assert [entry['kind'] for entry in read_log(tmp_path)] == ['train']


@pytest.mark.parametrize('rank', [0, 1])
def test_a_crew_that_is_asked_to_stop_saves_and_ends(clock: Clock, tmp_path: Path, rank: int) -> None:
    """All of its processes after the same step; the leading one writes the log."""
    crew = Crew(rank, 2)

    class Asked(Counter):
        def train_step(self, batch: int) -> dict[str, float]:
            self.elapsed_s = float(self.step)
            crew.stopping = self.step == 4
            return super().train_step(batch)

    trainer = Asked(7, clock)
    with pytest.raises(KeyboardInterrupt):
        train(
            trainer, Batches()(), Counting(7, 'moments', 1, log_every=1), tmp_path,
            save_minutes=2.5 / 60, validate=dict, shown=(), crew=crew,
        )  # fmt: skip
    assert trainer.saved == [4, 5]
    assert (tmp_path / 'log.jsonl').exists() is (rank == 0)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_who_is_asked_to_stop_finishes_the_step(clock: Clock, tmp_path: Path, number: signal.Signals) -> None:
    """In the middle of it weights have moved and the step has not been counted."""

    class Asked(Counter):
        def train_step(self, batch: int) -> dict[str, float]:
            if self.step == 4:
                os.kill(os.getpid(), number)
                self.began.append(-1.0)  # what comes behind the signal is done as well
            return super().train_step(batch)

    trainer, batches, before = Asked(7, clock), Batches(), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(trainer, batches(), Counting(7, 'ticks', 1), tmp_path, save_minutes=5.0, validate=dict, shown=())
    assert trainer.saved == [5] and -1.0 in trainer.began and batches.closed
    assert signal.getsignal(number) is before
