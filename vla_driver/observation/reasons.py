# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Why nothing was planned, counted: reasons that differ in their figures alone are one, and so are those of cameras."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

#: Reasons of a kind are few; should somebody put a text without end into one, no memory is lost.
_MOST: Final = 100
_FIGURE: Final = re.compile(r'(?<!\w)-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)')
_OF_CAMERA: Final = re.compile(r'cameras? (?P<names>[\w, ]+): (?P<what>.*)', re.DOTALL)


def without_figures(text: str) -> str:
    """Return the text with every number as `#`: what is the same but for its figures becomes equal."""
    return _FIGURE.sub('#', text)


class ReasonCounter:
    """Counts reasons; the latest wording stands for all that say the same with other figures."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self._counts: dict[str, tuple[int, str]] = {}
        for reason, count in (counts or {}).items():
            self.add(reason, count)

    def add(self, reason: str, count: int = 1) -> None:
        """Count a reason."""
        key = without_figures(reason)
        if key in self._counts or len(self._counts) < _MOST:
            self._counts[key] = self._counts.get(key, (0, ''))[0] + count, reason

    def update(self, reasons: Iterable[str]) -> None:
        """Count each of some reasons once."""
        for reason in reasons:
            self.add(reason)

    def counts(self) -> dict[str, int]:
        """Return reason -> how often, the most frequent first; another thread may be counting."""
        ordered = sorted(self._counts.values(), key=lambda item: -item[0])
        return {reason: count for count, reason in ordered}


def grouped(counts: Mapping[str, int]) -> dict[str, int]:
    """Return reasons with those of several cameras as one, the most frequent first.

    {'camera back: no frame': 3, 'camera front: no frame': 3} -> {'cameras back, front: no frame': 3}
    """
    # Cameras that say the same equally often: each set counts once.
    groups: dict[tuple[str, int], tuple[list[str], str]] = {}
    for reason, count in ReasonCounter(counts).counts().items():
        match = _OF_CAMERA.fullmatch(reason)
        what = match['what'] if match else reason
        key = (without_figures(what) if match else f'\n{what}'), count
        names, _ = groups.setdefault(key, ([], what))
        if match:
            names += [name.strip() for name in match['names'].split(',')]
    found = {}
    for (_, count), (names, what) in groups.items():
        found[f'camera{"s" if len(names) > 1 else ""} {", ".join(names)}: {what}' if names else what] = count
    return found


def in_words(counts: Mapping[str, int], most: int = 5) -> str:
    """Return the most frequent reasons on one line: 'route: none received (40 times); ...'; empty without any."""
    reasons = grouped(counts)
    told = [f'{reason} ({count} time{"s" if count > 1 else ""})' for reason, count in list(reasons.items())[:most]]
    if len(reasons) > most:
        told.append(f'{len(reasons) - most} more reasons')
    return '; '.join(told)


def beside(counts: Mapping[str, int], standing: Iterable[str]) -> list[str]:
    """Return what of the problems that stand says more than the reasons of the sets do; all where these say nothing.

    Most of it has been said by the sets; not so why an input's messages were refused, if it is no picture.
    """
    if not counts:
        return list(standing)
    found = []
    for problem in standing:
        what, refused, why = problem.partition(' refused ')
        if refused and not what.startswith(('camera ', 'cameras ')):
            # "(2 so far): the reason": the sets may have told the same.
            reason = why.partition(': ')[2]
            found += [problem] if not any(reason in told for told in counts) else []
    return found
