# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The grammar: which word may follow, and what a sentence means.  Pure Python.

    nothing in view matters, so hold, target 30 km/h.
    light in front at 20 m is red, so stop, target 0 km/h.
    vehicle in front-left at 10 m is crossing, so slow, target 10 km/h.

A sentence says what matters, in which camera, how far away, why, what to do, and at which speed to aim.  Most of its
words follow from the others: two to six are chosen, all else is forced.  Only cameras that show something can be named,
and without any, nothing can be said to matter.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from vla_driver.model.words.vocabulary import (
    ACTIONS,
    CROSSING,
    DISTANCES_M,
    END,
    LIGHT,
    MOVING,
    NOTHING,
    NOUNS,
    PERSON,
    RED,
    SLOWER,
    SPEEDS_KMH,
    START,
    STOPPED,
    VEHICLE,
    join,
    make_vocabulary,
    place_word,
    split,
)
from vla_driver.types import FloatArray, HazardKind, Intent, InvalidInput, MalformedAnswer, MetaAction

_KMH: Final = 3.6
#: What can be said of each thing.  People matter where they cross the way.
_WHY: Final = {LIGHT: (RED,), VEHICLE: (STOPPED, SLOWER, MOVING, CROSSING), PERSON: (CROSSING,)}
_NOUN: Final = {
    HazardKind.NONE: NOTHING,
    HazardKind.RED_LIGHT: LIGHT,
    HazardKind.VEHICLE_AHEAD: VEHICLE,
    HazardKind.VEHICLE_CROSSING: VEHICLE,
    HazardKind.PERSON: PERSON,
}
_MEANT: Final = {word: action for action, word in ACTIONS.items()}
#: Below this speed a vehicle ahead is said to have stopped; this much below one's own, to be slower.
_STOPPED_MPS: Final = 0.5
_SLOWER_MPS: Final = 1.0


class WordFault(str, enum.Enum):
    """What is wrong with a sentence."""

    EMPTY = 'empty'
    UNKNOWN_WORD = 'unknown_word'
    FORBIDDEN_WORD = 'forbidden_word'
    UNSEEN_CAMERA = 'unseen_camera'
    UNFINISHED = 'unfinished'
    STRAY_TEXT = 'stray_text'

    __str__ = str.__str__


@dataclass(frozen=True)
class Statement:
    """What a sentence says.  camera: '' for no hazard; why: one of `vocabulary.REASONS`, '' for no hazard."""

    meta_action: MetaAction
    target_speed_mps: float
    hazard: HazardKind = HazardKind.NONE
    camera: str = ''
    distance_m: float = math.nan
    why: str = ''

    @property
    def meaning(self) -> tuple[MetaAction, HazardKind, str]:
        """What is judged right or wrong: what to do, for what, and which camera shows it."""
        return self.meta_action, self.hazard, self.camera

    def intent(
        self, stamp_s: float, ttl_s: float, pose: FloatArray | None = None, confidence: float = 1.0, text: str = ''
    ) -> Intent:
        """Return it as the intent of the pictures of stamp_s."""
        return Intent(
            stamp_s=stamp_s,
            meta_action=self.meta_action,
            ttl_s=ttl_s,
            pose=pose,
            target_speed_mps=self.target_speed_mps,
            hazard=self.hazard,
            hazard_camera=self.camera,
            hazard_m=self.distance_m,
            confidence=confidence,
            text=text,
        )


def why_of(hazard: HazardKind, speed_mps: float, their_speed_mps: float = math.nan) -> str:
    """Return why a hazard matters to a vehicle at speed_mps; their_speed_mps: of a vehicle ahead, along the route.

    Where nobody knows how fast it is, a vehicle ahead that is reacted to passes for slower.
    """
    if hazard is HazardKind.VEHICLE_AHEAD:
        if not math.isfinite(their_speed_mps):
            return SLOWER
        if their_speed_mps < _STOPPED_MPS:
            return STOPPED
        return SLOWER if their_speed_mps < speed_mps - _SLOWER_MPS else MOVING
    if hazard is HazardKind.VEHICLE_CROSSING:
        return CROSSING
    return {HazardKind.RED_LIGHT: RED, HazardKind.PERSON: CROSSING}.get(hazard, '')


class Grammar:
    """Version 1.  cameras: those of the model, in their order."""

    def __init__(self, version: int, cameras: Sequence[str]) -> None:
        self.vocabulary = make_vocabulary(version, cameras)
        self.cameras = tuple(cameras)
        self.start, self.end = self.vocabulary.id(START), self.vocabulary.id(END)
        self._camera_of = {self.vocabulary.id(place_word(name)): name for name in cameras}
        actions, speeds = tuple(ACTIONS.values()), tuple(map(str, SPEEDS_KMH))
        ending = (',', 'so', actions, ',', 'target', speeds, 'km/h', END)
        shapes: dict[str, tuple[str | tuple[str, ...], ...]] = {NOTHING: ('in', 'view', 'matters', *ending)}
        distances, places = tuple(map(str, DISTANCES_M)), tuple(place_word(name) for name in cameras)
        for noun, reasons in _WHY.items():
            shapes[noun] = ('in', places, 'at', distances, 'm', 'is', reasons, *ending)
        #: By the number of the first word: what may stand at each later place.
        self._shapes = {
            self.vocabulary.id(noun): [
                self.vocabulary.ids((place,) if isinstance(place, str) else place) for place in shape
            ]
            for noun, shape in shapes.items()
        }
        self._numbers = frozenset(self.vocabulary.ids(map(str, (*DISTANCES_M, *SPEEDS_KMH))))
        self._ahead = frozenset(self.vocabulary.ids((STOPPED, SLOWER, MOVING)))
        self._nouns = self.vocabulary.ids(NOUNS)
        self._nothing = self.vocabulary.id(NOTHING)
        #: The longest sentence, `START` not counted, and the most words of one that are chosen.
        self.longest = 1 + max(len(shape) for shape in self._shapes.values())
        self.choices = 1 + max(sum(len(place) > 1 for place in shape) for shape in self._shapes.values())

    def allowed(self, said: Sequence[int], seen: Collection[str]) -> list[int]:
        """Return the words that may follow those said (numbers, without START); none after the end.

        seen: the cameras that show something.
        """
        if not said:
            return self._nouns if any(name in seen for name in self.cameras) else [self._nothing]
        shape = self._shapes[said[0]]
        if len(said) > len(shape):
            return []
        place = shape[len(said) - 1]
        if place[0] not in self._camera_of:
            return place
        return [word for word in place if self._camera_of[word] in seen]

    def synonyms(self, allowed: Sequence[int], word: int) -> list[int]:
        """Return which of the allowed words leave action, hazard and camera as `word` does.

        Distances and speeds leave them whatever they are; whether a vehicle ahead has stopped or is slow, does, too.
        """
        for alike in (self._numbers, self._ahead):
            if word in alike:
                return [other for other in allowed if other in alike]
        return [word]

    # --- sentences from statements, and back -----------------------------------------------------------------

    def say(self, statement: Statement) -> list[int]:
        """Return the words of a statement, distance and speed in the nearest word there is.

        Raises InvalidInput for a hazard without a camera of the model, and for a target speed that is no number.
        """
        if not math.isfinite(statement.target_speed_mps):
            raise InvalidInput(f'statement: target speed {statement.target_speed_mps}, expected a finite number of m/s')
        speed = _nearest(_KMH * statement.target_speed_mps, SPEEDS_KMH)
        words = ['in', 'view', 'matters']
        if statement.hazard is not HazardKind.NONE:
            if statement.camera not in self.cameras:
                raise InvalidInput(
                    f'statement: {statement.hazard} in camera {statement.camera!r}, allowed: {", ".join(self.cameras)}'
                )
            distance = _nearest(statement.distance_m, DISTANCES_M)
            why = statement.why or why_of(statement.hazard, 0.0)
            words = ['in', place_word(statement.camera), 'at', distance, 'm', 'is', why]
        ending = [',', 'so', ACTIONS[statement.meta_action], ',', 'target', speed, 'km/h', END]
        ids = self.vocabulary.ids([_NOUN[statement.hazard], *words, *ending])
        self.check(ids)
        return ids

    def check(self, ids: Sequence[int], seen: Collection[str] | None = None) -> None:
        """Raise MalformedAnswer unless the words are one whole sentence; seen: as in `allowed`, None: all cameras."""
        cameras = self.cameras if seen is None else seen
        if not ids:
            raise MalformedAnswer(WordFault.EMPTY, 'no word was said')
        said: list[int] = []
        for number in ids:
            if not 0 <= number < len(self.vocabulary):
                raise MalformedAnswer(
                    WordFault.UNKNOWN_WORD, f'word number {number}, there are {len(self.vocabulary)} words'
                )
            before, word = self.text(said), self.vocabulary.words[number]
            allowed = self.allowed(said, cameras)
            if not allowed:
                raise MalformedAnswer(WordFault.STRAY_TEXT, f'{word!r} after the end of {before!r}')
            if number not in allowed:
                unseen = number in self.allowed(said, self.cameras)
                expected = ', '.join(self.vocabulary.words[k] for k in allowed) or 'no camera shows anything'
                raise MalformedAnswer(
                    WordFault.UNSEEN_CAMERA if unseen else WordFault.FORBIDDEN_WORD,
                    f'{word!r} after {before!r}, allowed there: {expected}',
                )
            said.append(number)
        if said[-1] != self.end:
            raise MalformedAnswer(WordFault.UNFINISHED, f'{self.text(said)!r} breaks off, expected an end with {END!r}')

    def understand(self, ids: Sequence[int], seen: Collection[str] | None = None) -> Statement:
        """Return what words say; raises as `check` does."""
        self.check(ids, seen)
        words = [self.vocabulary.words[number] for number in ids]
        action, speed = _MEANT[words[-6]], float(words[-3]) / _KMH
        if words[0] == NOTHING:
            return Statement(action, speed)
        why = words[7]
        hazard = {LIGHT: HazardKind.RED_LIGHT, PERSON: HazardKind.PERSON}.get(
            words[0], HazardKind.VEHICLE_CROSSING if why == CROSSING else HazardKind.VEHICLE_AHEAD
        )
        return Statement(action, speed, hazard, self._camera_of[ids[2]], float(words[4]), why)

    def text(self, ids: Sequence[int]) -> str:
        """Return words as a line of text."""
        return join([self.vocabulary.words[number] for number in ids])

    def read(self, text: str) -> list[int]:
        """Return the words of a line of text; raise MalformedAnswer for a word that is none and for no sentence."""
        words = split(text)
        for word in words:
            if word not in self.vocabulary or word == START:
                raise MalformedAnswer(WordFault.UNKNOWN_WORD, f'{word!r} in {text!r} is not in the vocabulary')
        ids = self.vocabulary.ids(words)
        self.check(ids)
        return ids


def _nearest(value: float, words: Sequence[int]) -> str:
    """Return the number among `words` that is nearest, the last one for infinity and for what nobody knows."""
    if not math.isfinite(value):
        return str(words[-1])
    return str(min(words, key=lambda word: abs(word - value)))
