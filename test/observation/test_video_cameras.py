# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras that send video are cameras like others: in sets, with their own stamps, missing by their policy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from fixtures.messages import T0_NS, command, drain, header, image, odometry, play, push, route
from fixtures.video import encode_video, moving_picture, video_message

from vla_driver.geometry.rig import load_rig
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.decode import decode_message
from vla_driver.observation.messages import stamp_of, stamp_seconds
from vla_driver.observation.ready import NotReady
from vla_driver.observation.sync import CameraSync
from vla_driver.types import CAMERA_NAMES, InputNeeds, InvalidInput, Observation

W, H, GOP = 160, 96, 5
KINDS = ('CompressedVideo', 'FFMPEGPacket', 'CompressedImage')
packets = cache(encode_video)


def video(index: int, at_index: int | None = None, kind: str = 'CompressedVideo', codec: str = 'h264') -> Any:
    """Return packet `index` of a stream, stamped as of tick `at_index`."""
    data = packets(20, codec, gop=GOP, width=W, height=H)[index]
    stamp = header(100_000_000 * (index if at_index is None else at_index)).stamp
    return video_message(kind, stamp, data, codec)


def ticks(count: int, cameras: Any, first: int = 0) -> list[tuple[str, Any]]:
    """Messages at 10 Hz; cameras: tick -> camera -> message."""
    out: list[tuple[str, Any]] = [('route', route())]
    for k in range(first, first + count):
        at_ns = k * 100_000_000
        out += [('odom', odometry(at_ns)), ('command', command(at_ns, 50.0)), *cameras(k).items()]
    return out


def shows(seen: Observation, camera: str, index: int) -> bool:
    return float(np.abs(seen.frames[camera].image.astype(int) - moving_picture(index, W, H)).mean()) < 3.0


@pytest.mark.parametrize('codec', ['h264', 'h265'])
@pytest.mark.parametrize('kind', KINDS)
def test_six_cameras_of_video(kind: str, codec: str):
    seen = play(
        ObservationAssembler(load_rig('sim')),
        ticks(12, lambda k: {name: video(k, kind=kind, codec=codec) for name in CAMERA_NAMES}),
    )
    assert len(seen) == 12
    for k, got in enumerate(seen):
        assert isinstance(got, Observation), got
        assert got.stamp_s == pytest.approx(T0_NS * 1e-9 + 0.1 * k, abs=1e-6)
        assert all(shows(got, name, k) for name in CAMERA_NAMES)


def test_video_beside_pictures_and_at_another_size():
    needs = InputNeeds(image_sizes={'front': (40, 24)})
    seen = play(
        ObservationAssembler(load_rig('sim'), needs=needs),
        ticks(6, lambda k: {n: video(k) if n == 'front' else image(k * 100_000_000, 40) for n in CAMERA_NAMES}),
    )
    assert [type(got) for got in seen] == [Observation] * 6
    assert {got.frames['front'].image.shape for got in seen} == {(24, 40, 3)}


@pytest.mark.parametrize('policy', ['require', 'skip', 'black'])
def test_before_the_first_key_frame_a_camera_is_missing(policy: str):
    rig = load_rig('sim')
    assembler = ObservationAssembler(rig, CameraSync(rig.names, policies={'back': policy}))
    send = lambda k: {n: video(k) if n == 'back' else image(k * 100_000_000) for n in CAMERA_NAMES}  # noqa: E731
    seen = play(assembler, ticks(6, send, first=2))
    for k, got in enumerate(seen, start=2):
        if k >= GOP:
            assert shows(got, 'back', k)
        elif policy == 'require':
            assert got.problems == ('camera back: h264: waiting for a key frame (none has come yet)',)
        elif policy == 'skip':
            assert got.missing == ('back',)
        else:
            assert got.frames['back'].blank
    assert assembler.rejected['camera back'] == GOP - 2
    assert not assembler.problems()


def test_a_set_that_is_not_built_costs_no_picture():
    """A node plans from the newest set only; the packets of those between are decoded all the same."""
    assembler, built = ObservationAssembler(load_rig('sim')), []
    for kind, message in ticks(9, lambda k: {name: video(k) for name in CAMERA_NAMES}):
        push(assembler, kind, message)
        while (ready := assembler.take()) is not None:
            if len(built) == 0 or ready.stamp_s > built[-1].stamp_s + 0.35:
                built.append(assembler.build(ready))
    assert len(built) >= 2
    for got in built:
        assert shows(got, 'front', round((got.stamp_s - T0_NS * 1e-9) / 0.1))


def test_a_looped_bag_waits_for_its_key_frame():
    assembler = ObservationAssembler(load_rig('sim'))
    send = lambda k: {name: video(k) for name in CAMERA_NAMES}  # noqa: E731
    first = play(assembler, ticks(12, send))
    again = play(assembler, ticks(8, send, first=2))
    assert all(isinstance(got, Observation) for got in first)
    assert [isinstance(got, Observation) for got in again] == [k >= GOP for k in range(2, 10)]
    assert all('waiting for a key frame' in str(got) for got in again[: GOP - 2])
    assert all(shows(got, 'front', k) for k, got in enumerate(again[GOP - 2 :], start=GOP))


def test_parameter_sets_alone_are_no_frame():
    assembler = ObservationAssembler(load_rig('sim'))
    data = packets(20, 'h264', gop=GOP, width=W, height=H)[0]
    parameters = data[: data.index(b'\0\0\1\x06')]
    push(assembler, 'front', video_message('CompressedImage', header(-10_000_000).stamp, parameters))
    assert assembler.sync.status().cameras['front'].frames == 0
    assert drain(assembler) == []


def test_other_codecs_are_refused_by_name():
    rig = load_rig('sim')
    send = lambda k: {n: video(k, codec='h264') for n in CAMERA_NAMES}  # noqa: E731
    messages = ticks(2, send)
    for kind, message in messages:
        if kind == 'back':
            message.format, message.data = 'vp9', b'\x82\x49\x83\x42'
    seen = play(ObservationAssembler(rig), messages)
    assert all(isinstance(got, NotReady) for got in seen)
    assert all("camera back: video in 'vp9', allowed: h264, h265" in got.problems for got in seen)


@pytest.mark.parametrize('kind', KINDS)
def test_a_packet_by_itself_is_no_picture(kind: str):
    with pytest.raises(InvalidInput, match='the packets before it'):
        decode_message(video(0, kind=kind))


def test_format_empty_or_wrong():
    """The first bytes tell video from pictures and the codecs apart."""
    for codec in ('h264', 'h265'):
        message = video(0, kind='CompressedImage', codec=codec)
        message.format = ''
        assembler = ObservationAssembler(load_rig('sim'))
        send = lambda k, m=message: {n: m if n == 'front' else image(0) for n in CAMERA_NAMES}  # noqa: E731
        (got,) = play(assembler, ticks(1, send))
        assert shows(got, 'front', 0)
    picture = image(0)
    picture.format = 'h264'
    assert decode_message(picture).shape == (48, 80, 3)


@pytest.mark.parametrize('kind', KINDS)
def test_stamps_of_either_kind(kind: str):
    message = video(3, kind=kind)
    assert stamp_seconds(message) == pytest.approx(T0_NS * 1e-9 + 0.3)
    assert (stamp_of(message).sec, stamp_of(message).nanosec) == divmod(T0_NS + 300_000_000, 1_000_000_000)
