# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Video: one camera's stream of H.264 or H.265 packets, one message a picture, decoded in order when one is wanted.

| message                                        | topic by convention   |
|------------------------------------------------|-----------------------|
| foxglove_msgs/CompressedVideo                  | <image>/foxglove      |
| ffmpeg_image_transport_msgs/FFMPEGPacket       | <image>/ffmpeg        |
| sensor_msgs/CompressedImage, format h264, h265 | <image>/compressed    |

A picture needs those before it, back to a key frame.  What follows a loss would look right and be wrong, so that the
stream waits for a key frame at its beginning, after a loss, after damage and after a jump of time, and says so.

Streams must not reorder pictures (B-frames): each picture comes out with its own packet, without delay.  Foxglove's
message demands that; others are refused by name.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vla_driver.observation.pictures.bitstream import CODECS, PacketInfo, StreamWatch, codec_named, codec_of
from vla_driver.observation.pictures.compressed import kind_of
from vla_driver.observation.pictures.shared import halved
from vla_driver.types import Image, InvalidInput

#: Packets kept undecoded: 10 s at 30 Hz.  What lies before the newest key frame is given up first.
MAX_PACKETS: Final = 300
_MAX_BYTES: Final = 64 << 20
#: Packets of parameters alone that are kept.
_PARAMETERS: Final = 8
#: Decoded pictures kept: a camera slower than the front one is asked for the same picture again.
_KEPT: Final = 8
#: Stamps that fall back farther are a jump of time, not a packet that was overtaken.
_JUMP_NS: Final = 500_000_000
_REORDERED: Final = (
    'its pictures are reordered (B-frames) and would come late; encode without: bframes=0 or tune=zerolatency (x264, '
    'x265), -bf 0 (nvenc)'
)
_NO_START_CODES: Final = {
    'h264': 'no start codes (AVCC or MP4?): send Annex B (h264_mp4toannexb)',
    'h265': 'no start codes (HVCC or MP4?): send Annex B (hevc_mp4toannexb)',
}


def _awaited(why: str) -> str:
    return f'waiting for a key frame ({why})'


_FIRST: Final = _awaited('none has come yet')


def is_video_message(message: Any) -> bool:
    """Whether it is a message that holds video only (CompressedVideo, FFMPEGPacket), whatever the codec."""
    return hasattr(message, 'pts') or (hasattr(message, 'timestamp') and hasattr(message, 'format'))


def video_codec(message: Any) -> str:
    """Return which of CODECS a message's packet is in; '' of a picture's message, and of video in other codecs."""
    text = str(getattr(message, 'format', None) or getattr(message, 'encoding', ''))
    if hasattr(message, 'step'):
        return ''
    try:
        content: Any = getattr(message, 'data', None)
        start = bytes(memoryview(content)[:12])
    except TypeError:
        return ''  # no bytes: the picture's decoder says so
    if not hasattr(message, 'pts') and kind_of(memoryview(start)):
        return ''  # a file, whatever the format says
    return codec_named(text) or codec_of(start)


def refuse_video(message: Any) -> None:
    """Raise InvalidInput for a message of video: by itself it is no picture."""
    if is_video_message(message) and not video_codec(message):
        name = getattr(message, 'format', None) or getattr(message, 'encoding', '')
        raise InvalidInput(f'video in {name!r}, allowed: {", ".join(CODECS)}')
    if video_codec(message):
        raise InvalidInput('a packet of video is no picture without the packets before it: give the whole stream')


@dataclass(frozen=True)
class _Packet:
    codec: str
    data: bytes
    stamp_ns: int
    info: PacketInfo
    lost: bool
    epoch: int


class VideoStream:
    """One camera's packets in, its pictures out.  `push` never decodes, and never waits for a decoder."""

    def __init__(self) -> None:
        self._pending: deque[_Packet] = deque()
        self._bytes = 0
        self._watch = StreamWatch()
        self._newest_ns: int | None = None  # stamp of the newest picture
        self._dropped = False  # packets were given up since the last one
        self._epoch = 0
        self._lock = threading.Lock()  # of the above
        self._decoder = _Decoder()
        self._decoding = threading.Lock()  # of the decoder

    def push(self, codec: str, data: Any, stamp_ns: int) -> bool:
        """Add a packet; return whether it holds a picture (parameter sets may come by themselves)."""
        content, stamp_s = bytes(data), stamp_ns * 1e-9
        with self._lock:
            if self._newest_ns is not None and stamp_ns < self._newest_ns - _JUMP_NS:
                self._restart()
            if stamp_ns == self._newest_ns:
                return True  # the same packet again
            info = self._watch.look(codec, content, stamp_s)
            lost = (info.lost or self._dropped) and not info.key
            if info.picture:
                self._newest_ns, self._dropped = stamp_ns, False
            self._pending.append(_Packet(codec, content, stamp_ns, info, lost, self._epoch))
            self._bytes += len(content)
            if len(self._pending) > MAX_PACKETS or self._bytes > _MAX_BYTES:
                self._give_up()
            return info.picture

    def rewind(self, limit_s: float) -> None:
        """Time has jumped back to `limit_s`: forget the packets, if any is later."""
        with self._lock:
            if self._newest_ns is not None and self._newest_ns * 1e-9 > limit_s:
                self._restart()

    def _restart(self) -> None:
        self._pending.clear()
        self._bytes = 0
        self._watch = StreamWatch()
        self._newest_ns, self._dropped = None, False
        self._epoch += 1

    def _give_up(self) -> None:
        """Drop what lies before the newest key frame; everything, where that is not enough."""
        keys = [k for k, packet in enumerate(self._pending) if packet.info.key]
        self._drop(keys[-1] if keys and keys[-1] > 0 else len(self._pending))
        self._dropped = not any(packet.info.picture for packet in self._pending)

    def _drop(self, count: int) -> None:
        """Drop the oldest packets; parameter sets stay, which may have been sent only once."""
        first = [self._pending.popleft() for _ in range(count)]
        kept = [packet for packet in first if not packet.info.picture][-_PARAMETERS:]
        self._pending.extendleft(reversed(kept))
        self._bytes = sum(len(packet.data) for packet in self._pending)

    def picture(self, stamp_ns: int, at_least: tuple[int, int] | None = None) -> Image:
        """Return the picture with this stamp, RGB [H, W, 3]; at_least: see `shared.halved`.

        Decodes what comes before it, from the newest key frame on.  Raises InvalidInput where no picture is right, and
        says what is waited for.
        """
        with self._decoding:
            with self._lock:
                epoch = self._epoch
            self._decoder.begin(epoch)
            while not self._decoder.knows(stamp_ns):
                with self._lock:
                    packet = self._next(stamp_ns)
                if packet is None:
                    break
                self._decoder.take(packet)
            return halved(self._decoder.picture(stamp_ns), at_least)

    def _next(self, stamp_ns: int) -> _Packet | None:
        """Take the next packet that the picture needs, if any: nothing before the newest key frame does."""
        keys = [k for k, packet in enumerate(self._pending) if packet.info.key and packet.stamp_ns <= stamp_ns]
        if keys and keys[-1]:
            self._drop(keys[-1])
        if not self._pending:
            return None
        packet = self._pending.popleft()
        self._bytes -= len(packet.data)
        return packet


class _Decoder:
    """A decoder of one stream, and the last of its pictures by their stamps (or why there is none)."""

    def __init__(self) -> None:
        self._context: Any = None
        self._codec = ''
        self._epoch = 0
        self._waiting = _FIRST  # why there is no picture until the next key frame; '' when there is
        self._refreshing = False  # begun amid a stream that is refreshed bit by bit
        self._frames: dict[int, Any] = {}

    def knows(self, stamp_ns: int) -> bool:
        return stamp_ns in self._frames

    def picture(self, stamp_ns: int) -> Image:
        frame = self._frames.get(stamp_ns, 'its packet was given up: pictures come faster than they are decoded')
        if isinstance(frame, str):
            raise InvalidInput(f'{self._codec or "video"}: {frame}')
        return np.asarray(frame.to_ndarray(format='rgb24'))

    def begin(self, epoch: int) -> None:
        """Forget what was before a jump of time, if there was one."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._frames.clear()
            self._wait(_awaited('time has jumped'))

    def take(self, packet: _Packet) -> None:
        """Decode a packet and keep its picture, or the reason why it has none."""
        self.begin(packet.epoch)
        if packet.codec != self._codec:
            self._open(packet.codec)
        if packet.lost and not self._waiting:
            self._wait(_awaited('a packet was lost'))
        if packet.info.bare:
            if not self._waiting or self._refreshing:
                self._wait(_awaited('a packet was damaged'))
            self._keep(packet.stamp_ns, _NO_START_CODES[packet.codec])
            return
        if packet.info.key:
            self._waiting, self._refreshing = '', False
        elif self._waiting and packet.info.entry:
            self._refreshing = True
        if self._waiting and packet.info.picture and not self._refreshing:
            self._keep(packet.stamp_ns, self._waiting)
            return
        frame = self._decode(packet)
        if packet.info.picture:
            self._keep(packet.stamp_ns, frame)

    def _decode(self, packet: _Packet) -> Any:
        import av

        # Made by size it is padded with zeros, which FFmpeg reads beyond a packet's end; made of bytes it is not.
        sent = av.Packet(len(packet.data))
        sent.update(packet.data)
        sent.pts = sent.dts = packet.stamp_ns
        try:
            frames = self._context.decode(sent)
        except av.error.FFmpegError as error:
            if not packet.info.picture:
                return None  # parameter sets alone: the decoder misses a picture, and has understood them
            self._wait(_awaited('a packet was damaged'))
            return f'packet of {len(packet.data)} bytes cannot be decoded: {error.strerror}'
        if self._context.has_b_frames:
            self._wait(_REORDERED)
            return _REORDERED
        for frame in frames:
            if frame.pts == packet.stamp_ns and not frame.is_corrupt:
                self._waiting, self._refreshing = '', False
                return frame
        if self._refreshing and not frames:
            return self._waiting  # the decoder holds its pictures back until they are whole
        if not packet.info.picture:
            return None
        self._wait(_awaited('a packet was damaged'))
        return f'packet of {len(packet.data)} bytes gave no whole picture; each message must hold one'

    def _open(self, codec: str) -> None:
        try:
            import av
        except ImportError as error:
            raise InvalidInput(f'video needs PyAV: pip install av ({error})') from error
        context = av.CodecContext.create({'h264': 'h264', 'h265': 'hevc'}[codec], 'r')
        # One thread: six cameras are decoded at once, and threads by frame would hold pictures back.
        context.thread_count = 1
        context.flags |= av.codec.context.Flags.low_delay
        if codec == 'h265':
            # FFmpeg's H.264 marks what it had to conceal; its H.265 only refuses, and when it is asked to.
            context.options = {'err_detect': 'explode'}
        self._context, self._codec = context, codec
        self._waiting, self._refreshing = _FIRST, False

    def _wait(self, why: str) -> None:
        """Forget the pictures that later ones refer to; parameter sets stay, which may have been sent only once."""
        self._waiting, self._refreshing = why, False
        if self._context is not None:
            self._context.flush_buffers()

    def _keep(self, stamp_ns: int, frame: Any) -> None:
        self._frames[stamp_ns] = frame
        while len(self._frames) > _KEPT:
            del self._frames[next(iter(self._frames))]
