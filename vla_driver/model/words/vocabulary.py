# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The closed vocabulary: every word that the native model can say, one token each.

Which words there are follows from the version of the grammar and from the cameras of the model.  A checkpoint carries
them in `vocabulary.json` as well, so that a reader sees them, and so that a checkpoint whose words are in another order
than this program's is refused instead of misread.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vla_driver.types import InvalidInput, MetaAction

#: The file in a checkpoint's folder.
VOCABULARY_FILE: Final = 'vocabulary.json'
#: Versions of the grammar that this program speaks.
VERSIONS: Final = (1,)

#: Stands before the first word, and is never said.
START: Final = '<start>'
END: Final = '.'
NOTHING, LIGHT, VEHICLE, PERSON = 'nothing', 'light', 'vehicle', 'person'
#: What matters.
NOUNS: Final = (NOTHING, LIGHT, VEHICLE, PERSON)
RED, STOPPED, SLOWER, MOVING, CROSSING = 'red', 'stopped', 'slower', 'moving', 'crossing'
#: Why it does.
REASONS: Final = (RED, STOPPED, SLOWER, MOVING, CROSSING)
#: What to do.
ACTIONS: Final = {
    MetaAction.KEEP: 'hold',
    MetaAction.SPEED_UP: 'accelerate',
    MetaAction.SLOW_DOWN: 'slow',
    MetaAction.STOP: 'stop',
    MetaAction.WAIT: 'wait',
    MetaAction.START: 'start',
}
#: Distances in m and speeds in km/h are said in the nearest of these.
DISTANCES_M: Final = (3, 5, 10, 15, 20, 30, 40, 60)
SPEEDS_KMH: Final = (0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120)
#: Words that the grammar puts between those that are chosen.
GLUE: Final = ('in', 'view', 'matters', 'at', 'm', 'is', ',', 'so', 'target', 'km/h', END)
#: Set without a space before them.
_TIGHT: Final = (',', END)


@dataclass(frozen=True)
class Vocabulary:
    """words: by their numbers; version: of the grammar that they belong to."""

    words: tuple[str, ...]
    version: int

    def __post_init__(self) -> None:
        object.__setattr__(self, '_ids', {word: number for number, word in enumerate(self.words)})
        if len(self._ids) != len(self.words):  # type: ignore[attr-defined]
            raise InvalidInput(f'vocabulary: words repeat: {sorted(w for w in self.words if self.words.count(w) > 1)}')

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids  # type: ignore[attr-defined]

    def id(self, word: str) -> int:
        """Return a word's number; raise InvalidInput for one that is none."""
        number: int | None = self._ids.get(word)  # type: ignore[attr-defined]
        if number is None:
            raise InvalidInput(f'word {word!r} is not in the vocabulary of {len(self.words)} words')
        return number

    def ids(self, words: Iterable[str]) -> list[int]:
        """Return the numbers of words."""
        return [self.id(word) for word in words]

    def save(self, folder: Path) -> None:
        """Write vocabulary.json."""
        content = {'version': self.version, 'words': list(self.words)}
        (folder / VOCABULARY_FILE).write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8'
        )

    def check(self, folder: Path) -> None:
        """Raise InvalidInput where a checkpoint's vocabulary.json is absent, unreadable, or has other words."""
        path = folder / VOCABULARY_FILE
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            words, version = list(content['words']), int(content['version'])
        except FileNotFoundError:
            raise InvalidInput(
                f'checkpoint {folder} speaks (words_config.grammar {self.version}) but has no {VOCABULARY_FILE}: '
                'copy or download that file, too'
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f'{path} is no vocabulary, expected {{"version": 1, "words": [...]}}: {error}'
            ) from error
        if version != self.version or words != list(self.words):
            at = next((k for k, (a, b) in enumerate(zip(words, self.words, strict=False)) if a != b), None)
            differs = f'word {at} is {words[at]!r}, here {self.words[at]!r}' if at is not None else 'other lengths'
            raise InvalidInput(
                f'{path}: version {version} with {len(words)} words; grammar {self.version} of this program has '
                f'{len(self.words)} ({differs}): use the version of vla_driver that the checkpoint was made with'
            )


def make_vocabulary(version: int, cameras: Sequence[str]) -> Vocabulary:
    """Return the words of a version of the grammar for a model with these cameras; raise InvalidInput for another."""
    if version not in VERSIONS:
        raise InvalidInput(f'words_config.grammar is {version}, allowed: 0 (no words), {", ".join(map(str, VERSIONS))}')
    numbers = sorted({*DISTANCES_M, *SPEEDS_KMH})
    places = [place_word(name) for name in cameras]
    return Vocabulary((START, *GLUE, *NOUNS, *REASONS, *ACTIONS.values(), *places, *map(str, numbers)), version)


def place_word(camera: str) -> str:
    """Return the word for what a camera shows: 'front-left' for 'front_left'."""
    return camera.replace('_', '-')


def join(words: Sequence[str]) -> str:
    """Return words as a line of text: no space before comma and full stop."""
    return ''.join(word if word in _TIGHT or k == 0 else f' {word}' for k, word in enumerate(words))


def split(text: str) -> list[str]:
    """Return the words of a line of text, comma and full stop being words."""
    for mark in _TIGHT:
        text = text.replace(mark, f' {mark} ')
    return text.split()
