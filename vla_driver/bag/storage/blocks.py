# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A storage file that is made of blocks (chunks, or runs of messages): read block by block, by log time.

mcap files and ROS 1 bags are.  Only blocks that overlap in time are in memory together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from vla_driver.bag.storage.entries import FOREVER_NS, Channel, Entry, Opener, in_order, lazy_merge
from vla_driver.bag.storage.notes import Notes
from vla_driver.bag.storage.source import Source
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Block:
    """A piece of the file.

    offset, length: where it lies.  channels: of its messages, None where nobody knows.  counts: messages by channel.
    chunk: one record with messages inside, or (False) a run of message records.  torn: the file ends within it.
    """

    offset: int
    length: int
    start_ns: int
    end_ns: int
    channels: frozenset[int] | None = None
    counts: dict[int, int] = field(default_factory=dict)
    chunk: bool = True
    torn: bool = False


class DamagedError(Exception):
    """A block is not what it should be.  entries: what could be read of it all the same."""

    def __init__(self, why: str, entries: list[Entry] | None = None) -> None:
        super().__init__(why)
        self.entries = entries or []


class BlockFile(ABC):
    """What mcap files and ROS 1 bags share: an index of blocks, and reading by it.

    A subclass fills `blocks` and `channels`, and reads one block in `load`.
    """

    def __init__(self, source: Source, notes: Notes) -> None:
        self.source, self.notes = source, notes
        self.name = source.name
        self.cut = False
        self.blocks: list[Block] = []
        self.by_id: dict[int, Channel] = {}
        self.start_ns: int | None = None
        self.end_ns: int | None = None

    @property
    def channels(self) -> list[Channel]:
        """The file's topics."""
        return list(self.by_id.values())

    @property
    def metadata(self) -> str:
        """The text of a metadata.yaml inside the file."""
        return ''

    @abstractmethod
    def load(self, block: Block) -> list[Entry]:
        """Return the messages of a block as they lie; raise DamagedError."""

    def close(self) -> None:
        """Let go of the file."""
        self.source.close()

    def span(self, blocks: Iterable[Block]) -> None:
        """Take the recording's begin and end from the blocks that hold messages."""
        filled = [block for block in blocks if block.end_ns >= block.start_ns]
        self.start_ns = min((block.start_ns for block in filled), default=None)
        self.end_ns = max((block.end_ns for block in filled), default=None)

    def entries(self, channels: frozenset[int], start_ns: int = 0, stop_ns: int = FOREVER_NS) -> Iterator[Entry]:
        """Yield the messages of some channels with start_ns <= log time < stop_ns, by log time."""
        openers: list[Opener] = [
            (block.start_ns, partial(self._read, block, channels, start_ns, stop_ns))
            for block in self.blocks
            if block.start_ns < stop_ns
            and block.end_ns >= start_ns
            and (block.channels is None or block.channels & channels)
        ]
        for _, entry in lazy_merge(openers):
            yield entry

    def _read(self, block: Block, channels: frozenset[int], start_ns: int, stop_ns: int) -> list[Entry]:
        try:
            entries = self.load(block)
        except DamagedError as error:
            entries = error.entries
            if not block.torn:
                self.notes.damage(self.name, f'{self._when(block)}: {error}')
        except OSError as error:
            raise InvalidInput(f'{self.name}: reading failed at byte {block.offset}: {error.strerror}') from error
        return in_order([e for e in entries if e.channel in channels and start_ns <= e.log_ns < stop_ns])

    def _when(self, block: Block) -> str:
        if self.start_ns is None or block.end_ns < block.start_ns:
            return f'at byte {block.offset}'
        begin, end = ((at - self.start_ns) * 1e-9 for at in (block.start_ns, block.end_ns))
        return f'from {begin:.1f} s to {end:.1f} s the file is damaged'
