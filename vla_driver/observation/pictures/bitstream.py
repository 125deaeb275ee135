# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a packet of video says of itself: whether it holds a picture, can be decoded alone, and follows the one before.

H.264 is ITU-T H.264 (clauses 7.3 and 7.4), H.265 is ITU-T H.265; both as a byte stream with start codes (Annex B).
Decoders conceal what was lost and do not tell, so that it is found out here: H.264 numbers its pictures.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CODECS: Final = ('h264', 'h265')
#: What encoders and messages call them.
_NAMES: Final = {'h264': ('h264', 'h.264', 'x264', 'avc'), 'h265': ('h265', 'h.265', 'x265', 'hevc')}

_START: Final = b'\0\0\1'
_SPS, _SEI, _IDR, _SLICES = 7, 6, 5, (1, 2, 5)
_RECOVERY_POINT: Final = 6  # a kind of SEI message (D.1.8)
#: The first two bytes of units that streams of H.265 begin with (both layer 0): parameter sets, delimiter, slices ...
_H265_FIRST: Final = (0x40, 0x42, 0x44, 0x46, 0x4E, 0x26, 0x28, 0x2A, 0x02, 0x00)
#: Profiles of H.264 whose sequence parameters tell of colours and scaling (7.3.2.1.1).
_HIGH_PROFILES: Final = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)

#: A silence of so many usual intervals is a loss where pictures have no numbers ...
_FACTOR: Final = 1.75
#: ... and where they have: numbers begin again after 16 pictures at the earliest.
_NUMBERED_FACTOR: Final = 8.0
_INTERVALS: Final = 9


def codec_named(text: str) -> str:
    """Return which of CODECS a format or encoding such as 'h264', 'libx265' or 'hevc;yuv420p' names; '' for none."""
    lower = text.lower()
    return next((codec for codec, names in _NAMES.items() if any(name in lower for name in names)), '')


def codec_of(start: bytes) -> str:
    """Return which of CODECS the first bytes of a packet look like; '' where they are no start of a byte stream."""
    at = 4 if start[:4] == b'\0' + _START else 3 if start[:3] == _START else 0
    if not at or len(start) < at + 2:
        return ''
    if start[at] in _H265_FIRST and start[at + 1] == 1:
        return 'h265'
    return 'h264' if 1 <= start[at] & 0x1F <= 13 else ''


@dataclass(frozen=True)
class PacketInfo:
    """What a packet is.

    picture: whether it holds one; key: one that needs none before it; entry: from here on the stream is refreshed bit
    by bit, so that a decoder may begin (encoders with intra refresh send no other key); lost: whether something is
    missing in front; bare: whether it has no start codes, as in MP4 files.
    """

    picture: bool
    key: bool
    entry: bool
    lost: bool
    bare: bool = False


class StreamWatch:
    """Looks at the packets of one stream, in the order they were sent."""

    def __init__(self) -> None:
        self._numbers: _Numbers | None = None
        self._last_s: float | None = None
        self._intervals_s: deque[float] = deque(maxlen=_INTERVALS)

    def look(self, codec: str, data: bytes, stamp_s: float) -> PacketInfo:
        """Return what a packet is.  A packet that cannot be read counts as a picture: the decoder says why not."""
        if (data and _START not in data) or _has_lengths(codec, data):
            return PacketInfo(True, False, False, False, bare=True)
        picture, key, entry, lost = False, False, False, False
        found = False
        for unit in _units(data):
            found = True
            if codec == 'h265':
                kind = unit[0] >> 1 & 0x3F
                if kind < 32:
                    picture, key = True, 16 <= kind <= 23
                    break
                continue
            kind = unit[0] & 0x1F
            if kind == _SPS:
                self._numbers = _Numbers.of(unit, self._numbers)
            elif kind == _SEI:
                entry = entry or unit[1] == _RECOVERY_POINT
            elif kind in _SLICES:
                picture, key = True, kind == _IDR
                lost = self._numbers is not None and not self._numbers.follows(unit)
                break
        if not found:
            return PacketInfo(True, False, False, False)
        if picture:
            lost = self._silent(stamp_s) or lost
        return PacketInfo(picture, key, entry, lost and not key)

    def _silent(self, stamp_s: float) -> bool:
        """Return whether the last picture was too long ago for none to be missing."""
        before_s, self._last_s = self._last_s, stamp_s
        if before_s is None:
            return False
        interval_s = stamp_s - before_s
        usual_s = statistics.median(self._intervals_s) if self._intervals_s else None
        if interval_s > 0.0:
            self._intervals_s.append(interval_s)
        numbered = self._numbers is not None and self._numbers.without_gaps
        return usual_s is not None and interval_s > usual_s * (_NUMBERED_FACTOR if numbered else _FACTOR)


def _has_lengths(codec: str, data: bytes) -> bool:
    """Return whether a packet is units behind their lengths (4 bytes, ISO/IEC 14496-15), and no byte stream.

    A length of 256 to 511 looks like a start code.  What tells them apart: the lengths lead to the packet's very end,
    there are no start codes inside the units, and a unit's header comes next, not a slice's.
    """
    header = data[4:6]
    if data[:4] == b'\0' + _START or len(header) < 2 or header[0] & 0x80:
        return False
    if codec == 'h265' and (header[0] & 1 or not 1 <= header[1] <= 7):
        return False
    at, starts = 0, []
    while at + 4 < len(data):
        length = int.from_bytes(data[at : at + 4], 'big')
        if not length:
            return False
        starts.append(at + 4)
        at += 4 + length
    if at != len(data):
        return False
    ends = [start - 4 for start in starts[1:]] + [len(data)]
    return all(data.find(_START, start, end) < 0 for start, end in zip(starts, ends, strict=True))


def _units(data: bytes) -> Iterator[bytes]:
    """Yield the units of a byte stream, without their start codes."""
    at = data.find(_START)
    while at >= 0:
        at += 3
        end = data.find(_START, at)
        unit = data[at:end] if end >= 0 else data[at:]
        if len(unit) > 1:
            yield unit
        at = end


class _Numbers:
    """The numbers of H.264's pictures (frame_num): each that others refer to counts one more, a key frame is 0."""

    def __init__(self, sps_id: int, bits: int, separate_planes: bool, without_gaps: bool) -> None:
        self._like = (sps_id, bits, separate_planes, without_gaps)
        self._bits, self._separate_planes, self.without_gaps = bits, separate_planes, without_gaps
        self._last: int | None = None

    @staticmethod
    def of(sps: bytes, before: _Numbers | None) -> _Numbers | None:
        """Return the numbers that a sequence parameter set tells of; `before`, where it says the same again."""
        try:
            found = _Numbers(*_read_sps(_Bits(sps[1:])))
        except IndexError:
            return None
        return before if before is not None and before._like == found._like else found

    def follows(self, slice_unit: bytes) -> bool:
        """Return whether this slice's picture is the next one; an unreadable one is the decoder's business."""
        bits = _Bits(slice_unit[1:64])
        try:
            for _ in range(3):
                bits.exp_golomb()  # first_mb_in_slice, slice_type, pic_parameter_set_id
            if self._separate_planes:
                bits.read(2)
            number = bits.read(self._bits)
        except IndexError:
            return True
        referred, key = bool(slice_unit[0] & 0x60), slice_unit[0] & 0x1F == _IDR
        next_one = None if self._last is None else (self._last + 1) % (1 << self._bits)
        follows = key or not self.without_gaps or next_one is None or number == next_one
        if referred:
            self._last = number
        return follows


def _read_sps(bits: _Bits) -> tuple[int, int, bool, bool]:
    """Return id, bits of frame_num, whether planes are coded apart, whether numbers have no gaps (7.3.2.1.1)."""
    profile = bits.read(8)
    bits.read(16)
    sps_id, separate = bits.exp_golomb(), False
    if profile in _HIGH_PROFILES:
        chroma = bits.exp_golomb()
        if chroma == 3:
            separate = bool(bits.read(1))
        bits.exp_golomb()
        bits.exp_golomb()
        bits.read(1)
        if bits.read(1):
            for k in range(8 if chroma != 3 else 12):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if k < 6 else 64)
    number_bits = bits.exp_golomb() + 4
    order = bits.exp_golomb()
    if order == 0:
        bits.exp_golomb()
    elif order == 1:
        bits.read(1)
        bits.exp_golomb()
        bits.exp_golomb()
        for _ in range(bits.exp_golomb()):
            bits.exp_golomb()
    bits.exp_golomb()
    return sps_id, number_bits, separate, not bits.read(1)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.exp_golomb()
            following = (last + ((code + 1) // 2 if code % 2 else -(code // 2))) % 256
        last = following or last


class _Bits:
    """Reads bits of a unit's payload; IndexError at its end."""

    def __init__(self, payload: bytes) -> None:
        # A 3 behind two zeros only keeps start codes out of the payload.
        self._data = payload.replace(b'\0\0\3', b'\0\0')
        self._at = 0

    def read(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise IndexError('no code of this length')
        return (1 << zeros) - 1 + self.read(zeros)
