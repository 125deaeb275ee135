# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How long six cameras of video take to decode, beside JPEG: the table of docs/how-to/pictures.md.

Makes the streams itself, with the encoders of PyAV.  delay: how many pictures later one comes out; ms: a tick's, of
which every tenth has key frames.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from vla_driver.observation.pictures.compressed import decode_compressed
from vla_driver.observation.pictures.encode import encode_jpeg
from vla_driver.observation.pictures.video import VideoStream
from vla_driver.types import Image

CAMERAS, TICKS, GOP, STEP_NS = 6, 60, 10, 100_000_000
ENCODERS = {'h264': 'libx264', 'h265': 'libx265'}


def pictures(width: int, height: int) -> list[Image]:
    """Return a texture, about as fine as a street, that moves 6 pixels a tick."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20 + TICKS, 3), dtype=np.uint8)
    texture = cv2.resize(coarse, (width + 6 * TICKS, height), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(texture[:, 6 * k : 6 * k + width]) for k in range(TICKS)]


def encoded(codec: str, frames: list[Image]) -> list[bytes]:
    """Return one packet a picture, as an encoder of a camera makes them."""
    context: Any = av.CodecContext.create(ENCODERS[codec], 'w')
    context.height, context.width = frames[0].shape[:2]
    context.pix_fmt, context.time_base, context.framerate, context.gop_size = 'yuv420p', Fraction(1, 10), 10, GOP
    context.options = {'preset': 'veryfast', 'tune': 'zerolatency', 'x265-params': f'log-level=none:keyint={GOP}'}
    if codec == 'h264':
        del context.options['x265-params']
    packets: list[bytes] = []
    for k, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(image, format='rgb24')
        frame.pts = k
        packets += map(bytes, context.encode(frame))
    return packets + [bytes(packet) for packet in context.encode(None)]


def main() -> None:
    """Print the table."""
    print('| size | codec | kB a packet | delay in pictures | queueing, us | six cameras, ms | 95 % |')
    print('|---|---|---|---|---|---|---|')
    with ThreadPoolExecutor(2) as pool:
        for width, height in ((320, 180), (1600, 900)):
            frames = pictures(width, height)
            for codec in ENCODERS:
                packets, streams = encoded(codec, frames), [VideoStream() for _ in range(CAMERAS)]
                queued, decoded = [], []
                for k, packet in enumerate(packets):
                    began = time.perf_counter()
                    for stream in streams:
                        stream.push(codec, packet, k * STEP_NS)
                    pushed = time.perf_counter()
                    # Raises unless the picture of this very packet comes out.
                    list(pool.map(lambda stream, at=k * STEP_NS: stream.picture(at), streams))
                    queued.append(1e6 * (pushed - began) / CAMERAS)
                    decoded.append(1e3 * (time.perf_counter() - pushed))
                size = sum(map(len, packets)) / len(packets) / 1e3
                _print(width, height, codec, size, f'0 | {np.median(queued):.0f}', decoded)
            files, decoded = [encode_jpeg(image, 90, '420') for image in frames], []
            for file in files:
                began = time.perf_counter()
                list(pool.map(decode_compressed, [file] * CAMERAS))
                decoded.append(1e3 * (time.perf_counter() - began))
            _print(width, height, 'JPEG', sum(map(len, files)) / len(files) / 1e3, '0 | ', decoded)


def _print(width: int, height: int, codec: str, size: float, middle: str, decoded: list[float]) -> None:
    print(
        f'| {width}x{height} | {codec} | {size:.0f} | {middle} | {np.median(decoded):.1f} | '
        f'{np.percentile(decoded, 95):.1f} |'
    )


if __name__ == '__main__':
    main()
