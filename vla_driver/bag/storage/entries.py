# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What storage files hold, and how their messages are merged by log time without being held in memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Qos

#: Nothing is logged at or after this time (a signed 64-bit clock in nanoseconds).
FOREVER_NS = 2**63 - 1

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')


@dataclass
class Channel:
    """One topic of one storage file.

    id: of the file.  encoding: 'cdr', 'ros1' or what cannot be read ('json', 'protobuf').  definition: of the type,
    as in the file.  digest: the type's hash as recorded, '' where there is none.  count: messages, as far as known.
    """

    id: int
    topic: str
    msgtype: str
    encoding: str = 'cdr'
    definition: MessageDefinition = NO_DEFINITION
    digest: str = ''
    qos: list[Qos] = field(default_factory=list)
    count: int = 0


class Entry(NamedTuple):
    """One message as it lies in a file: when it was logged, on which channel of the file, its bytes."""

    log_ns: int
    channel: int
    data: bytes


class StorageFile(Protocol):
    """An opened storage file.

    start_ns, end_ns: log times of its first and last message, None without any.  cut: it ends before its time.
    """

    name: str
    start_ns: int | None
    end_ns: int | None
    cut: bool

    @property
    def channels(self) -> Sequence[Channel]:
        """The topics of the file."""

    @property
    def metadata(self) -> str:
        """The text of a metadata.yaml inside the file."""

    def entries(self, channels: frozenset[int], start_ns: int, stop_ns: int) -> Iterator[Entry]:
        """Yield the messages of some channels with start_ns <= log time < stop_ns, by log time."""

    def close(self) -> None:
        """Let go of the file."""


#: Where a run of entries begins in time, and what opens it.
Opener = tuple[int, Callable[[], Iterable[Entry]]]


def lazy_merge(openers: Iterable[Opener]) -> Iterator[tuple[int, Entry]]:
    """Yield (number of the opener, entry) of many time-ordered runs by log time.

    A run is opened when the time reaches its beginning, not before, so that only runs that overlap are held.  Equal
    times come in the order of the openers, then of the run.
    """
    runs = list(openers)
    heap: list[tuple[int, int, int, Entry | None, Iterator[Entry]]] = [
        (start_ns, number, -1, None, iter(())) for number, (start_ns, _) in enumerate(runs)
    ]
    heapq.heapify(heap)
    while heap:
        _, number, step, entry, run = heap[0]
        if entry is None:
            run = iter(runs[number][1]())
        else:
            yield number, entry
        following = next(run, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following.log_ns, number, step + 1, following, run))


def in_order(entries: list[Entry]) -> list[Entry]:
    """Return the entries by log time, equal ones as they lay."""
    return sorted(entries, key=lambda entry: entry.log_ns)
