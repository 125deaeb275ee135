# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a model says on the ticks of recorded drives, with its pictures and without.

Every variant goes through a whole drive from its first tick to its last, memory included, with the reasoner that runs
on a vehicle; what differs is the pictures alone:

- model: as recorded;
- black: every picture black, all else as recorded; what speed and navigation say about what to do;
- other: the pictures of another drive, at the same place in it; pictures of the kind that the model knows, which have
  nothing to do with what it is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vla_driver.data.episode_ticks import EpisodeTicks
from vla_driver.data.reasons import Reason
from vla_driver.model.words.grammar import Grammar, Statement, why_of
from vla_driver.policies.native_reasoner import NativeReasoner
from vla_driver.types import CameraFrame, HazardKind, InvalidInput, Observation

VARIANTS: Final = ('model', 'black', 'other')


@dataclass(frozen=True)
class TickWords:
    """One tick of one drive: what was to be said and what was.

    drive, tick: which; confidence, passes, words: of what was said; held: what a slow half says that thinks only where
    its gate asks (None for variants without gate), asked: whether it did here.
    """

    drive: int
    tick: int
    stamp_s: float
    truth: Statement
    said: Statement
    confidence: float
    passes: int
    words: int
    held: Statement | None = None
    asked: bool = False


def truth_of(reason: Reason, lead_speed_mps: float, speed_mps: float, seen: Sequence[str]) -> Statement:
    """Return what is to be said of a tick whose pictures are those of the cameras `seen`."""
    if reason.hazard is HazardKind.NONE or reason.camera not in seen:
        return Statement(reason.meta_action, reason.target_speed_mps)
    why = why_of(reason.hazard, speed_mps, lead_speed_mps)
    return Statement(reason.meta_action, reason.target_speed_mps, reason.hazard, reason.camera, reason.distance_m, why)


def open_drives(paths: Sequence[Path]) -> list[EpisodeTicks]:
    """Return the episodes that say what the expert reacted to; raise InvalidInput where none does."""
    drives = [drive for drive in map(EpisodeTicks, paths) if drive.has_reasons]
    if not drives:
        raise InvalidInput(
            f'none of {len(paths)} episodes says what the expert reacted to (format version 2); collect them again: '
            'vla_driver train collect'
        )
    return drives


def speak_through(
    reasoner: NativeReasoner,
    drives: Sequence[EpisodeTicks],
    variant: str = 'model',
    gated: NativeReasoner | None = None,
    on_tick: Callable[[], object] | None = None,
) -> list[TickWords]:
    """Return what is said at every tick of all drives.

    gated: a second reasoner with the same model, which thinks only where its gate asks.
    """
    spoken = []
    for number, drive in enumerate(drives):
        reasoner.reset()
        if gated is not None:
            gated.reset()
        held: Statement | None = None
        for tick, observation in enumerate(_observations(drives, number, variant)):
            reason = drive.reason(tick)
            assert reason is not None  # `open_drives` left out those without
            seen = [name for name in observation.rig.names if name not in observation.missing]
            truth = truth_of(reason, drive.lead_speed_mps(tick), observation.ego.speed_mps, seen)
            said = _statement(reasoner, observation)
            assert reasoner.said is not None
            asked = gated is not None and gated.asks(observation)
            if asked:
                assert gated is not None
                held = _statement(gated, observation)
            spoken.append(
                TickWords(
                    number,
                    tick,
                    observation.stamp_s,
                    truth,
                    said,
                    reasoner.said.confidence,
                    reasoner.said.passes,
                    len(reasoner.said.words),
                    held,
                    asked,
                )
            )
            if on_tick is not None:
                on_tick()
    return spoken


def _statement(reasoner: NativeReasoner, observation: Observation) -> Statement:
    reasoner.reason(observation)
    assert reasoner.said is not None
    return grammar_of(reasoner).understand(reasoner.said.words)


def grammar_of(reasoner: NativeReasoner) -> Grammar:
    """Return the grammar that a reasoner speaks by."""
    grammar: Grammar = reasoner.model.words.grammar
    return grammar


def _observations(drives: Sequence[EpisodeTicks], number: int, variant: str) -> Iterator[Observation]:
    drive, stranger = drives[number], drives[(number + 1) % len(drives)]
    if variant == 'other' and len(drives) < 2:
        raise InvalidInput('the pictures of another drive: there is only one; give more episodes')
    for tick in range(len(drive)):
        observation = drive.observation(tick)
        if variant == 'black':
            frames = {n: CameraFrame(n, f.stamp_s, np.zeros_like(f.image)) for n, f in observation.frames.items()}
            yield dataclasses.replace(observation, frames=frames)
        elif variant == 'other':
            there = stranger.observation(tick % len(stranger))
            frames = {
                name: CameraFrame(name, frame.stamp_s, there.frames[name].image) if name in there.frames else frame
                for name, frame in observation.frames.items()
            }
            yield dataclasses.replace(observation, frames=frames)
        else:
            yield observation
