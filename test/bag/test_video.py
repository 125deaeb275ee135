# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Bags whose cameras send video, in any of its messages, are read like others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures import found
from fixtures.found import HEIGHT, START_NS, WIDTH, FoundBag
from fixtures.video import encode_video, moving_picture

from vla_driver.bag import schema
from vla_driver.bag.read import BagReader
from vla_driver.bag.topics import find_inputs
from vla_driver.geometry.rig import load_rig
from vla_driver.types import InvalidInput

packets = cache(encode_video)


def _content(codec: str, k: int) -> Any:
    return np.frombuffer(packets(10, codec, gop=5, width=WIDTH, height=HEIGHT)[k], np.uint8)


def foxglove(codec: str) -> Callable[[str, int, int], Any]:
    return lambda camera, at_ns, k: found.new(
        schema.VIDEO,
        timestamp=found.header(at_ns, '').stamp,
        frame_id=camera,
        data=_content(codec, k),
        format=codec,
    )


def ffmpeg(encoding: str, codec: str) -> Callable[[str, int, int], Any]:
    return lambda camera, at_ns, k: found.new(
        schema.FFMPEG,
        header=found.header(at_ns, camera),
        width=WIDTH,
        height=HEIGHT,
        encoding=encoding,
        pts=k,
        flags=int(k % 5 == 0),
        is_bigendian=False,
        data=_content(codec, k),
    )


def compressed(form: str, codec: str) -> Callable[[str, int, int], Any]:
    return lambda camera, at_ns, k: found.compressed(camera, at_ns, form, _content(codec, k).tobytes())


@pytest.mark.parametrize(
    ('topic', 'picture'),
    [
        ('/camera/{}/image/foxglove', foxglove('h264')),
        ('/cam_{}/image_raw/foxglove', foxglove('h265')),
        ('/camera/{}/image/ffmpeg', ffmpeg('libx264', 'h264')),
        ('/sensing/camera/{}/image_raw/ffmpeg', ffmpeg('hevc;yuv420p;bgr8;bgr8', 'h265')),
        ('/camera/{}/image/compressed', compressed('h264', 'h264')),
        ('/camera/{}/image_raw/compressed', compressed('', 'h265')),
    ],
)
def test_every_message_of_video(tmp_path: Path, topic: str, picture: Callable[[str, int, int], Any]):
    path = FoundBag(seconds=1.0, topic=topic, picture=picture).write(tmp_path / 'bag')
    with BagReader(path, rig=load_rig('nuscenes')) as bag:
        seen = list(bag.observations())
        assert [round((got.stamp_s - START_NS * 1e-9) * 10) for got in seen] == list(range(10))
        for k, got in enumerate(seen):
            for frame in got.frames.values():
                assert np.abs(frame.image.astype(int) - moving_picture(k, WIDTH, HEIGHT)).mean() < 3.0


def test_a_bag_without_a_key_frame_says_so(tmp_path: Path):
    late = lambda camera, k: k in (0, 5)  # noqa: E731
    path = FoundBag(seconds=1.0, picture=compressed('h264', 'h264'), lost=late).write(tmp_path / 'bag')
    with (
        BagReader(path, rig=load_rig('nuscenes')) as bag,
        pytest.raises(InvalidInput, match=r'front.*: h264: waiting for a key frame \(none has come yet\)'),
    ):
        list(bag.observations())


def test_of_several_topics_of_a_camera_video_is_taken_last():
    """It has no picture before its first key frame."""
    kinds = {
        '/cam/front/image_raw': schema.IMAGE,
        '/cam/front/image_raw/compressed': schema.COMPRESSED_IMAGE,
        '/cam/front/image_raw/ffmpeg': schema.FFMPEG,
    }
    order = ('/cam/front/image_raw/compressed', '/cam/front/image_raw', '/cam/front/image_raw/ffmpeg')
    for topic in order:
        assert find_inputs(kinds, ('front',)).cameras == {'front': topic}
        del kinds[topic]
