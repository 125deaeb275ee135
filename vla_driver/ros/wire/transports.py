# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How a camera's pictures travel, by image_transport's names: the topic's end, and the message where it is installed.

| transport    | topic            | message                                                          |
|--------------|------------------|------------------------------------------------------------------|
| `raw`        | IMAGE            | sensor_msgs/Image                                                |
| `compressed` | IMAGE/compressed | sensor_msgs/CompressedImage: files, or packets of video          |
| `ffmpeg`     | IMAGE/ffmpeg     | ffmpeg_image_transport_msgs/FFMPEGPacket: packets of video       |
| `foxglove`   | IMAGE/foxglove   | foxglove_msgs/CompressedVideo: packets of video                  |
"""

from __future__ import annotations

import importlib
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from vla_driver.types import InvalidInput


def picture_topic(camera: str, transport: str) -> str:
    """Return the topic of a camera's pictures."""
    return f'camera/{camera}/image' + ('' if transport == 'raw' else f'/{transport}')


def picture_class(transport: str) -> Any:
    """Return the message of a transport; raise InvalidInput where its package is not installed, naming it."""
    if transport in ('raw', 'compressed'):
        return Image if transport == 'raw' else CompressedImage
    package = {'ffmpeg': 'ffmpeg_image_transport_msgs', 'foxglove': 'foxglove_msgs'}[transport]
    try:
        if transport == 'ffmpeg':
            return importlib.import_module('ffmpeg_image_transport_msgs.msg').FFMPEGPacket
        return importlib.import_module('foxglove_msgs.msg').CompressedVideo
    except (ImportError, AttributeError) as error:
        name = package.replace('_', '-')
        raise InvalidInput(
            f'pictures by {transport} need the messages of {package}, which is not installed: '
            f'apt install ros-$ROS_DISTRO-{name}, or source a workspace that has it ({error})'
        ) from error
