# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every packet of video gives its own picture, or the reason why none would be right (streams of libx264, libx265)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from fixtures.video import FORMATS, encode_video, moving_picture

from vla_driver.observation.pictures.bitstream import StreamWatch
from vla_driver.observation.pictures.video import MAX_PACKETS, VideoStream
from vla_driver.types import Image, InvalidInput

T0_NS, STEP_NS, GOP, COUNT = 1_700_000_000_000_000_000, 100_000_000, 10, 25
packets = cache(encode_video)


def stamp(index: int) -> int:
    return T0_NS + index * STEP_NS


def wrong_by(picture: Image, index: int) -> float:
    """Mean difference from what was encoded: 1.5 where all is well, 4 and more from a lost packet on."""
    return float(np.abs(picture.astype(int) - moving_picture(index)).mean())


def play(stream: VideoStream, sent: dict[int, bytes], codec: str, at: Callable[[int], int] = stamp) -> dict[int, str]:
    """Push packets (by their pictures' numbers) and ask for each picture; return number -> why there is none.

    Pictures that come out must be right.
    """
    missing = {}
    for index, data in sent.items():
        stream.push(codec, data, at(index))
        try:
            assert wrong_by(stream.picture(at(index)), index) < 2.0, index
        except InvalidInput as error:
            missing[index] = str(error)
    return missing


def numbered(codec: str, count: int = COUNT) -> dict[int, bytes]:
    return dict(enumerate(packets(count, codec)))


@pytest.mark.parametrize('codec', FORMATS)
def test_each_packet_gives_its_own_picture_at_once(codec: str):
    assert play(VideoStream(), numbered(codec), codec) == {}


@pytest.mark.parametrize('codec', FORMATS)
def test_pictures_between_may_be_left_out(codec: str):
    """Whoever plans slowly asks for few; the decoder goes through all the same."""
    stream = VideoStream()
    for index, data in numbered(codec).items():
        stream.push(codec, data, stamp(index))
        if index in (3, 8, 16, 24):
            assert wrong_by(stream.picture(stamp(index)), index) < 2.0
            assert wrong_by(stream.picture(stamp(index)), index) < 2.0  # asked for again


@pytest.mark.parametrize('codec', FORMATS)
def test_nothing_before_the_first_key_frame(codec: str):
    late = {index: data for index, data in numbered(codec).items() if index >= 4}
    missing = play(VideoStream(), late, codec)
    assert list(missing) == list(range(4, 10))
    assert set(missing.values()) == {f'{codec}: waiting for a key frame (none has come yet)'}


#: H.265 shows a loss by its stamps alone, and two of them have no rhythm: the packet behind the first is not missed.
LOST = [(codec, lost) for codec in FORMATS for lost in (1, 2, 5, 9, 12) if (codec, lost) != ('h265', 1)]


@pytest.mark.parametrize(('codec', 'lost'), LOST)
def test_after_a_lost_packet_nothing_until_the_next_key_frame(codec: str, lost: int):
    sent = numbered(codec)
    del sent[lost]
    missing = play(VideoStream(), sent, codec)
    assert list(missing) == list(range(lost + 1, (lost // GOP + 1) * GOP))
    assert all(why == f'{codec}: waiting for a key frame (a packet was lost)' for why in missing.values())


def test_a_lost_key_frame_is_a_loss():
    sent = numbered('h264')
    del sent[10]
    assert list(play(VideoStream(), sent, 'h264')) == list(range(11, 20))


def test_h264_numbers_its_pictures_so_that_a_camera_may_be_irregular():
    sent = numbered('h264', 12)
    at = lambda index: T0_NS + [0, 1, 2, 3, 8, 9, 10, 16, 17, 19, 24, 25][index] * STEP_NS  # noqa: E731
    assert play(VideoStream(), sent, 'h264', at) == {}
    # A silence in which the numbers may have come round is taken for a loss.
    assert list(play(VideoStream(), sent, 'h264', lambda k: stamp(k if k < 4 else k + 16))) == list(range(4, 10))


@pytest.mark.parametrize('profile', ['baseline', 'main', 'high', 'high444'])
def test_numbers_are_read_of_every_profile(profile: str):
    chroma = {'high444': 'yuv444p'}.get(profile, 'yuv420p')
    options = {'profile': profile, 'preset': 'medium', 'cqm': 'jvt'} if profile.startswith('high') else {}
    sent = dict(enumerate(encode_video(12, 'h264', pix_fmt=chroma, **(options or {'profile': profile}))))
    assert play(VideoStream(), sent, 'h264') == {}
    del sent[5]
    assert list(play(VideoStream(), sent, 'h264')) == [6, 7, 8, 9]


@pytest.mark.parametrize('damage', ['cut to a tenth', 'cut to a half', 'zeros'])
@pytest.mark.parametrize('codec', FORMATS)
def test_damage_is_noticed_and_what_follows_waits(codec: str, damage: str):
    sent = numbered(codec)
    data = bytearray(sent[4])
    middle = len(data) // 2
    if damage.startswith('cut'):
        data = data[: len(data) // (10 if 'tenth' in damage else 2)]
    else:
        data[middle : middle + 20] = bytes(20)
    sent[4] = bytes(data)
    missing = play(VideoStream(), sent, codec)
    assert list(missing) == list(range(4, 10))
    assert all('damaged' in why for index, why in missing.items() if index > 4)


def test_reordered_pictures_are_refused_by_name():
    sent = encode_video(12, 'h264', preset='medium', tune='film', bf='2')
    missing = play(VideoStream(), dict(enumerate(sent)), 'h264')
    assert list(missing) == list(range(len(sent)))
    assert all('B-frames' in why and 'bframes=0' in why for why in missing.values())


def test_parameter_sets_may_come_by_themselves_and_once():
    """As some encoders begin: they are no picture, and a stream without them goes on after a jump of time."""

    def units(data: bytes, *, parameters: bool) -> bytes:
        found = [unit.rstrip(b'\0') for unit in data.split(b'\0\0\1')[1:]]
        return b''.join(b'\0\0\0\1' + unit for unit in found if (unit[0] & 0x1F in (7, 8)) == parameters)

    stream, sent = VideoStream(), packets(COUNT, 'h264')
    bare = {index: units(data, parameters=False) for index, data in enumerate(sent)}
    assert not stream.push('h264', units(sent[0], parameters=True), stamp(0))
    assert play(stream, bare, 'h264') == {}
    stream.rewind(0.0)
    missing = play(stream, {index: data for index, data in bare.items() if index >= 7}, 'h264')
    assert list(missing) == [7, 8, 9]
    assert 'time has jumped' in missing[7]


def test_a_stream_that_is_refreshed_bit_by_bit_has_no_other_key_frames():
    """Encoders with intra refresh: half a column at a time; a decoder may begin where the stream says so."""
    options = {'preset': 'veryfast', 'x264-params': 'intra-refresh=1:keyint=12'}
    sent = dict(enumerate(encode_video(60, 'h264', **options)))
    assert play(VideoStream(), sent, 'h264') == {}
    del sent[5]
    missing = list(play(VideoStream(), sent, 'h264'))
    assert missing == list(range(6, missing[-1] + 1))
    assert missing[-1] < 24  # the refresh from 12 on is complete


def test_the_same_packet_again_is_no_loss():
    stream = VideoStream()
    for index, data in numbered('h264').items():
        for _ in range(2):
            assert stream.push('h264', data, stamp(index))
            assert wrong_by(stream.picture(stamp(index)), index) < 2.0


def test_a_loop_starts_over():
    stream, sent = VideoStream(), numbered('h264')
    assert play(stream, sent, 'h264') == {}
    from_the_middle = {index: data for index, data in sent.items() if index >= 6}
    missing = play(stream, from_the_middle, 'h264')
    assert list(missing) == [6, 7, 8, 9]
    assert 'time has jumped' in missing[6]


def test_another_codec_opens_another_decoder():
    stream = VideoStream()
    assert play(stream, numbered('h264'), 'h264') == {}
    assert play(stream, numbered('h265'), 'h265') == {}


@pytest.mark.parametrize('gop', [10, 10_000])
def test_what_nobody_asks_for_is_given_up(gop: int):
    """Memory stays bounded, and what comes after is right or waits."""
    stream, count = VideoStream(), MAX_PACKETS + 40
    sent = packets(count, 'h264', gop=gop)
    for index, data in enumerate(sent):
        stream.push('h264', data, stamp(index))
        assert len(stream._pending) <= MAX_PACKETS
    if gop == 10:
        assert wrong_by(stream.picture(stamp(count - 1)), count - 1) < 2.0
        with pytest.raises(InvalidInput, match='given up'):
            stream.picture(stamp(count - 15))
    else:
        with pytest.raises(InvalidInput, match='waiting for a key frame'):
            stream.picture(stamp(count - 1))


def test_pushing_does_not_wait_for_the_decoder():
    stream, sent = VideoStream(), packets(COUNT, 'h264')
    stream.push('h264', sent[0], stamp(0))
    with stream._decoding:  # a worker is at it
        pushing = threading.Thread(target=stream.push, args=('h264', sent[1], stamp(1)), daemon=True)
        pushing.start()
        pushing.join(timeout=2.0)
        assert not pushing.is_alive()
    assert wrong_by(stream.picture(stamp(1)), 1) < 2.0


def test_halved_while_that_suffices():
    stream = VideoStream()
    stream.push('h264', packets(COUNT, 'h264')[0], stamp(0))
    assert stream.picture(stamp(0), (160, 90)).shape == (90, 160, 3)
    assert stream.picture(stamp(0), (161, 90)).shape == (180, 320, 3)


@pytest.mark.parametrize('data', [b'', b'\0\0\0\1', bytes(100), b'\0\0\0\1\x65', b'\x00\x00\x02\x9a\x65' + bytes(50)])
@pytest.mark.parametrize('codec', FORMATS)
def test_what_is_no_byte_stream_is_refused(codec: str, data: bytes):
    """The last one is how MP4 files store H.264: lengths instead of start codes."""
    stream = VideoStream()
    assert stream.push(codec, data, stamp(0))
    with pytest.raises(InvalidInput, match=codec):
        stream.picture(stamp(0))
    assert play(stream, numbered(codec), codec, lambda index: stamp(index + 10)) == {}


def with_lengths(data: bytes) -> bytes:
    """Return a packet as MP4 files store it."""
    units = [unit.rstrip(b'\0') for unit in data.split(b'\0\0\1')[1:]]
    return b''.join(len(unit).to_bytes(4, 'big') + unit for unit in units)


@pytest.mark.parametrize(('codec', 'name'), [('h264', 'AVCC'), ('h265', 'HVCC')])
def test_lengths_instead_of_start_codes_are_named(codec: str, name: str):
    sent = {index: with_lengths(data) for index, data in numbered(codec).items()}
    missing = play(VideoStream(), sent, codec)
    assert list(missing) == list(sent)
    filt = {'h264': 'h264', 'h265': 'hevc'}[codec] + '_mp4toannexb'
    assert set(missing.values()) == {f'{codec}: no start codes ({name} or MP4?): send Annex B ({filt})'}


@pytest.mark.parametrize(('codec', 'header', 'slice_data'), [('h264', b'\x41', 0x9A), ('h265', b'\x02\x01', 0xD0)])
def test_a_length_that_looks_like_a_start_code(codec: str, header: bytes, slice_data: int):
    """It counts as a picture; a byte stream of the same size stays one."""
    for size in range(256, 512):
        unit = header + bytes([slice_data]) * (size - len(header))
        packet = size.to_bytes(4, 'big') + unit
        for data, bare in (
            (packet, True),
            (b'\0\0\0\6' + b'\x06\x01' * 3 + packet, True),
            (b'\0\0\1' + unit + b'\x80', False),  # of the very size that the header, as a length, would tell
        ):
            info = StreamWatch().look(codec, data, 0.0)
            assert info.picture and info.bare == bare


def test_the_stamp_of_a_picture_that_never_came():
    with pytest.raises(InvalidInput, match='given up'):
        VideoStream().picture(stamp(0))
