# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Messages' bytes to pictures and back: the front door of `pictures/`.  Pictures are RGB, uint8 [H, W, 3].

Errors are `InvalidInput` and say what was wrong: size, encoding, format, a file that ends too early.
"""

from __future__ import annotations

from typing import Any

from vla_driver.observation.messages import stamp_nanoseconds
from vla_driver.observation.pictures.compressed import COMPRESSED_FORMATS, decode_compressed, decode_labels
from vla_driver.observation.pictures.encode import encode_jpeg, encode_png
from vla_driver.observation.pictures.raw import RAW_ENCODINGS, decode_raw
from vla_driver.observation.pictures.received import ReceivedImage
from vla_driver.observation.pictures.video import VideoStream, refuse_video, video_codec
from vla_driver.types import Image, InvalidInput

__all__ = [
    'COMPRESSED_FORMATS',
    'RAW_ENCODINGS',
    'PictureDecoder',
    'decode_compressed',
    'decode_labels',
    'decode_message',
    'decode_raw',
    'encode_jpeg',
    'encode_png',
    'is_file',
]

#: Drivers of webcams hand JPEGs on in sensor_msgs/Image, too.
_JPEG_ENCODINGS = ('jpeg', 'jpg', 'mjpeg', 'mjpg')


def is_file(message: Any) -> bool:
    """Whether a sensor_msgs/Image holds a JPEG."""
    return str(message.encoding).lower() in _JPEG_ENCODINGS


def decode_message(message: Any, at_least: tuple[int, int] | None = None) -> Image:
    """Return the picture of a sensor_msgs/Image or sensor_msgs/CompressedImage, whoever deserialised it.

    at_least: (width, height) that suffices; a JPEG or raw picture may come out smaller than it is, but not below.
    A packet of video is refused: it is no picture without those before it (`pictures.video`).
    """
    if isinstance(message, ReceivedImage) and (picture := message.result()) is not None:
        return picture
    try:
        refuse_video(message)
        if hasattr(message, 'encoding') and hasattr(message, 'step'):
            if is_file(message):
                return decode_compressed(message.data, message.encoding, at_least)
            big_endian = bool(message.is_bigendian)
            return decode_raw(
                message.data, message.width, message.height, message.encoding, message.step, big_endian, at_least
            )
        if hasattr(message, 'format'):
            return decode_compressed(message.data, message.format, at_least)
    except InvalidInput:
        raise
    except Exception as error:
        # Bytes from outside go through other people's code: whatever trips it is this picture's fault, for which a
        # fallback is driven.  Any other exception would end the tick without one.
        raise InvalidInput(f'the picture cannot be decoded: {error!r}') from error
    raise InvalidInput(f'{type(message).__name__}, expected sensor_msgs/Image or sensor_msgs/CompressedImage')


class PictureDecoder:
    """The pictures of several cameras, video among them, which needs every message of its camera in order.

    `push` is cheap and never waits; `picture` decodes, and may run in other threads, one per camera at a time.
    """

    def __init__(self) -> None:
        self._videos: dict[str, VideoStream] = {}

    def push(self, camera: str, message: Any) -> bool:
        """Take note of a camera's message; return whether it holds a picture (parameters of video are none)."""
        codec = video_codec(message)
        if not codec:
            return True
        return self._videos.setdefault(camera, VideoStream()).push(codec, message.data, stamp_nanoseconds(message))

    def in_order(self, camera: str, message: Any) -> bool:
        """Return whether a message that was pushed is a packet of video, which needs those before it."""
        return camera in self._videos and bool(video_codec(message))

    def rewind(self, limit_s: float) -> None:
        """Time has jumped back: what is later than `limit_s` is forgotten."""
        for video in tuple(self._videos.values()):
            video.rewind(limit_s)

    def picture(self, camera: str, message: Any, at_least: tuple[int, int] | None = None) -> Image:
        """Return the picture of a message that was pushed; see `decode_message`."""
        if self.in_order(camera, message):
            return self._videos[camera].picture(stamp_nanoseconds(message), at_least)
        return decode_message(message, at_least)
