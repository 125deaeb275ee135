# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of a bag that is not read as it should be."""

from __future__ import annotations

import sys
from collections.abc import Callable

#: So many damaged places of a file are named one by one.
_NAMED = 5

_said: set[str] = set()


def warn_once(text: str) -> None:
    """Print a warning on stderr, the same one once per process."""
    if text not in _said:
        _said.add(text)
        # A progress bar may stand in the line.
        clear = '\r\x1b[K' if sys.stderr.isatty() else ''
        print(f'{clear}warning: {text}', file=sys.stderr, flush=True)


class Notes(list[str]):
    """Sentences about what was not read and how far; each is handed to `say` when it is new."""

    def __init__(self, bag: str, say: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self._bag, self._say = bag, say
        self._damages: dict[str, int] = {}

    def add(self, text: str) -> None:
        """Keep a sentence and say it, unless it is known."""
        if text not in self:
            self.append(text)
            if self._say is not None:
                self._say(f'bag {self._bag}: {text}')

    def damage(self, name: str, text: str) -> None:
        """Keep a sentence about a damaged place of file `name`; of many, the first ones."""
        if f'{name}: {text}' in self:
            return
        self._damages[name] = count = self._damages.get(name, 0) + 1
        if count <= _NAMED:
            self.add(f'{name}: {text}')
        elif count == _NAMED + 1:
            self.add(f'{name}: more parts of the file are damaged; they are left out, too')
