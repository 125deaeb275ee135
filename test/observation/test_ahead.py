# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures are decoded once, ahead where they will be looked at, and not at all where nobody will.

Drives run in a time of their own: nothing depends on how fast this machine decodes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.messages import T0_NS, flat, header, image, play, ticks
from fixtures.video import encode_video, moving_picture, video_message

from vla_driver.geometry.rig import load_rig
from vla_driver.observation.ahead import MAX_KEPT, DecodeAhead
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.decode import PictureDecoder
from vla_driver.observation.messages import stamp_seconds
from vla_driver.observation.sync import CameraSync, SyncedSet
from vla_driver.ros.base.mailbox import Mailbox
from vla_driver.types import CAMERA_NAMES, Image, InvalidInput, Observation

T0_S = T0_NS * 1e-9
RIG = load_rig('sim')
SEEN_WITH = {name: (RIG[name], None) for name in CAMERA_NAMES}
W, H, GOP = 160, 96, 4


class Decoder(PictureDecoder):
    """A decoder that counts, and that can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[tuple[str, int]] = Counter()
        self.at_once: Counter[str] = Counter()
        self.crowded = False
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def picture(self, camera: str, message: Any, at_least: tuple[int, int] | None = None) -> Image:
        with self._lock:
            self.calls[camera, id(message)] += 1
            self.at_once[camera] += 1
            self.crowded = self.crowded or self.at_once[camera] > 1
        try:
            assert self.gate.wait(10.0)
            return super().picture(camera, message, at_least)
        finally:
            with self._lock:
                self.at_once[camera] -= 1


class Drive:
    """Cameras and a planner, in a time of their own; what is decoded meanwhile takes none of it."""

    def __init__(
        self, *, ahead: bool = True, beside: bool = True, tick_s: float | Callable[[int], float] = 0.03, **sync: Any
    ) -> None:
        self.decoder = Decoder()
        self.sync = CameraSync(CAMERA_NAMES, **sync)
        self.ahead = DecodeAhead(self.decoder, {}, SEEN_WITH.__getitem__, clock=lambda: self.now_s, beside_ticks=beside)
        self.mailbox = Mailbox[SyncedSet]()
        self.now_s = 0.0
        self.seen: list[tuple[SyncedSet, dict[str, Image | InvalidInput]]] = []
        self.kept: list[Any] = []  # messages, so that none gets another's id
        self._tick_s = tick_s if callable(tick_s) else lambda _: tick_s
        self._tick: Any = None
        self._free_s = 0.0
        if ahead:
            self.ahead.start()

    def push(self, camera: str, message: Any) -> None:
        """A picture comes now."""
        self.kept.append(message)
        if not self.decoder.push(camera, message):
            return
        stamp_s, resets = stamp_seconds(message), self.sync.resets
        synced = self.sync.push(camera, stamp_s, message, self.now_s)
        if self.sync.resets != resets:
            self.decoder.rewind(stamp_s + self.sync.max_skew_s)
            self.ahead.rewound(stamp_s + self.sync.max_skew_s)
        self.ahead.arrived(camera, stamp_s, message)
        if synced is not None:
            self.ahead.hold(synced)
            if (replaced := self.mailbox.put(synced)) is not None:
                self.ahead.let_go(replaced)
        self.work()
        self.settle()

    def settle(self) -> None:
        """Wait until all that was ordered is decoded."""
        if self.decoder.gate.is_set():
            while self.ahead._open:
                wait(tuple(self.ahead._open), 10.0)

    def work(self) -> None:
        """Let the planner end its tick and begin the next, if it is time."""
        if self._tick is not None and self.now_s >= self._free_s:
            self._tick.__exit__(None, None, None)
            self._tick = None
        if self._tick is None and (synced := self.mailbox.take(0.0)) is not None:
            self._tick = self.ahead.tick(synced)
            self._tick.__enter__()
            self._free_s = self.now_s + self._tick_s(len(self.seen))
            self.seen.append((synced, self.ahead.pictures(synced.frames, SEEN_WITH)))

    def run(self, messages: list[tuple[float, str, Any]], until_s: float = 0.0) -> None:
        """Push (seconds, camera, message) at their times."""
        for at_s, camera, message in sorted(messages, key=lambda one: one[0]):
            self.wait_until(at_s)
            self.push(camera, message)
        self.wait_until(until_s)

    def wait_until(self, at_s: float) -> None:
        """Let time pass, in steps of a millisecond as far as the planner is concerned."""
        while self._tick is not None and self._free_s <= at_s:
            self.now_s = max(self.now_s, self._free_s)
            self.work()
            self.settle()
        self.now_s = max(self.now_s, at_s)

    @property
    def twice(self) -> list[Any]:
        return [call for call, count in self.decoder.calls.items() if count > 1]


def pictures(
    count: int, every_s: float = 0.05, cameras: Any = CAMERA_NAMES, spread_s: float = 0.003, start_s: float = 0.0
) -> list[tuple[float, str, Any]]:
    """Return pictures of `cameras`, all with the stamp of their set, one after the other by `spread_s`."""
    out = []
    for k in range(count):
        at_s = start_s + k * every_s
        out += [(at_s + n * spread_s, name, image(round(at_s * 1e9), 5 * k % 250)) for n, name in enumerate(cameras)]
    return out


@pytest.fixture
def drive() -> Iterator[Callable[..., Drive]]:
    made: list[Drive] = []

    def make(**arguments: Any) -> Drive:
        made.append(Drive(**arguments))
        return made[-1]

    yield make
    for one in made:
        one.decoder.gate.set()
        one.ahead.stop()


@pytest.mark.parametrize('spread_s', [0.0005, 0.008])
def test_a_planner_that_is_free_finds_all_but_the_last_picture_decoded(drive, spread_s: float):
    ride = drive(tick_s=0.0)
    ride.run(pictures(20, spread_s=spread_s))
    counts = ride.ahead.counts
    assert len(ride.seen) == 20
    assert counts.ahead == counts.decoded == 120  # the last one is ordered on arrival, too
    # The synchroniser does not know the cameras' rhythm at first, and takes some pictures for two sets.
    assert counts.in_vain < 6
    assert counts.cancelled == 0
    assert not ride.twice
    for k, (_, found) in enumerate(ride.seen[2:], 2):
        assert all(np.abs(picture.astype(int) - 5 * k).max() <= 2 for picture in found.values())


def test_without_start_nothing_is_decoded_until_it_is_asked_for(drive):
    ride = drive(ahead=False, tick_s=0.09)
    ride.run(pictures(20))
    counts = ride.ahead.counts
    assert 6 * len(ride.seen) - 6 < counts.decoded < 120
    assert (counts.ahead, counts.in_vain) == (0, 0)
    assert not ride.twice


@pytest.mark.parametrize('spread_s', [0.0005, 0.008])
@pytest.mark.parametrize('tick_s', [0.06, 0.09, 0.1, 0.13, 0.31])
def test_a_planner_slower_than_the_cameras_has_little_decoded_in_vain(drive, tick_s: float, spread_s: float):
    ride = drive(tick_s=tick_s)
    ride.run(pictures(100, spread_s=spread_s))
    counts, needed = ride.ahead.counts, 6 * len(ride.seen)
    assert not ride.twice
    assert needed < 6 * 90
    # The first ticks teach how long one takes; the last set may still wait.
    assert needed <= counts.decoded <= 1.1 * needed + 6
    assert counts.ahead >= 0.7 * needed
    assert counts.cancelled >= 600 - counts.decoded - 12


@pytest.mark.parametrize('tick_s', [0.02, 0.09, 0.31])
def test_without_cores_to_spare_only_a_planner_that_keeps_up_has_pictures_decoded_ahead(drive, tick_s: float):
    ride = drive(tick_s=tick_s, beside=False)
    ride.run(pictures(100, spread_s=0.001))
    counts, needed = ride.ahead.counts, 6 * len(ride.seen)
    assert not ride.twice
    if tick_s < 0.05:
        assert counts.ahead == counts.decoded == 600
    else:
        assert counts.ahead <= 12  # before it was known that the planner does not keep up
        assert counts.decoded <= needed + 6


def test_a_planner_whose_ticks_vary_has_half_a_set_a_tick_decoded_in_vain_at_most(drive):
    ride = drive(tick_s=lambda k: (0.04, 0.15, 0.07, 0.11)[k % 4])
    ride.run(pictures(100))
    counts, needed = ride.ahead.counts, 6 * len(ride.seen)
    assert counts.in_vain <= 0.5 * needed
    assert counts.decoded <= 0.8 * 600
    assert not ride.twice


def test_a_planner_that_hangs_has_hardly_anything_decoded_meanwhile(drive):
    ride = drive(tick_s=lambda k: 5.0 if k == 9 else 0.03)
    ride.run(pictures(120))
    assert len(ride.seen) < 30
    assert ride.ahead.counts.in_vain <= 18


def test_a_lost_camera_has_few_pictures_of_the_others_decoded(drive):
    ride = drive()
    ride.run(pictures(80, cameras=CAMERA_NAMES[:-1]))
    assert ride.seen == []
    assert ride.ahead.counts.decoded <= 400 / MAX_KEPT + 5
    assert all(len(lane) <= MAX_KEPT for lane in ride.ahead._lanes.values())


def test_of_a_camera_faster_than_the_front_one_few_pictures_are_decoded_in_vain(drive):
    ride = drive()
    slow = pictures(30, 0.1, [name for name in CAMERA_NAMES if name != 'back'])
    ride.run(slow + pictures(90, 1 / 30, ['back']))
    counts = ride.ahead.counts
    assert len(ride.seen) == 30
    assert not ride.twice
    assert counts.decoded <= 180 + 6
    assert counts.cancelled >= 50


@pytest.mark.parametrize('ahead', [True, False])
def test_a_picture_that_is_in_two_sets_is_decoded_once(drive, ahead: bool):
    ride = drive(ahead=ahead)
    fast = pictures(20, 0.05, [name for name in CAMERA_NAMES if name != 'back'])
    ride.run(fast + pictures(10, 0.1, ['back'], start_s=0.02))
    assert len(ride.seen) > 15
    assert not ride.twice
    assert ride.ahead.counts.decoded < 6 * len(ride.seen)


def test_what_is_superseded_before_its_decoding_began_is_cancelled(drive):
    ride = drive()
    ride.decoder.gate.clear()
    for k in range(5):  # one camera after the other has its pictures held up behind the first two
        for name in CAMERA_NAMES[:5]:
            ride.push(name, image(k * 50_000_000))
    begun = sum(ride.decoder.calls.values())
    assert begun <= 2  # as many as there are threads; nobody waited for them
    ride.decoder.gate.set()
    ride.settle()
    assert not ride.twice
    assert ride.ahead.counts.decoded <= 5 + begun
    newest = {(name, id(ride.kept[20 + n])) for n, name in enumerate(CAMERA_NAMES[:5])}
    assert sum(call in newest for call in ride.decoder.calls) >= 3
    ride.ahead.stop()
    assert ride.ahead.counts.decoded + ride.ahead.counts.cancelled == 25


def test_a_set_that_is_dropped_before_its_decoding_began_is_cancelled(drive):
    ride = drive()
    ride.decoder.gate.clear()
    messages = {name: image(0) for name in CAMERA_NAMES}
    for name, message in messages.items():
        ride.ahead.arrived(name, T0_S, message)
        synced = ride.sync.push(name, T0_S, message)
    assert synced is not None
    ride.ahead.hold(synced)
    with ride.ahead.tick(synced):
        pass  # too old: nobody asks
    ride.decoder.gate.set()
    ride.settle()
    counts = ride.ahead.counts
    assert counts.decoded <= 2
    assert counts.cancelled == 6 - counts.decoded


def test_a_jump_of_time_cancels_what_lies_before_it(drive):
    ride = drive()
    ride.run(pictures(10, start_s=10.0))
    ride.decoder.gate.clear()
    for name in CAMERA_NAMES[:5]:
        ride.push(name, image(10_500_000_000))
    ride.now_s = 11.0
    ride.push('front', image(0, 77))  # a looped bag
    ride.decoder.gate.set()
    ride.settle()
    counts = ride.ahead.counts
    assert counts.cancelled >= 3
    assert counts.decoded <= 60 + 2 + 1
    before = len(ride.seen)
    ride.run([(11.0 + at_s, name, message) for at_s, name, message in pictures(10)[1:]])
    assert len(ride.seen) == before + 10
    assert np.all(ride.seen[before][1]['front'] == 77)
    assert not ride.twice


def test_the_same_stamp_after_a_jump_is_another_picture(drive):
    ride = drive()
    ride.run(pictures(12))
    ride.run([(1.0 + at_s, name, image(message.header.stamp.nanosec % 1_000_000_000, 200))
              for at_s, name, message in pictures(12)])  # fmt: skip
    assert len(ride.seen) == 24
    assert all(np.all(picture == 200) for _, found in ride.seen[12:] for picture in found.values())


packets = cache(encode_video)


def video(index: int, every_ns: int = 50_000_000) -> Any:
    data = packets(40, 'h264', gop=GOP, width=W, height=H)[index]
    return video_message('CompressedVideo', header(index * every_ns).stamp, data, 'h264')


@pytest.mark.parametrize('tick_s', [0.0, 0.03, 0.09, 0.13, 0.31])
def test_video_is_decoded_in_its_order_however_slow_the_planner_is(drive, tick_s: float):
    ride = drive(tick_s=tick_s)
    ride.run([(0.05 * k + 0.003 * n, name, video(k)) for k in range(40) for n, name in enumerate(CAMERA_NAMES)])
    assert len(ride.seen) >= 6
    for synced, found in ride.seen:
        for name, picture in found.items():
            index = round((synced.frames[name].stamp_s - T0_S) / 0.05)
            assert not isinstance(picture, InvalidInput), picture
            assert np.abs(picture.astype(int) - moving_picture(index, W, H)).mean() < 3.0
    assert not ride.twice
    if tick_s < 0.05:
        assert ride.ahead.counts.ahead == ride.ahead.counts.decoded == 240


def test_video_whose_earlier_set_is_still_to_be_planned_from_loses_none(drive):
    ride = drive()
    sets = []
    with ride.ahead.tick(SyncedSet(T0_S, {}, (), 0.0)):  # nobody knows yet how long it takes: nothing is begun
        for k in range(2 * GOP):  # the planner takes none yet, and each may still be asked for
            for name in CAMERA_NAMES:
                message = video(k)
                ride.kept.append(message)
                ride.decoder.push(name, message)
                synced = ride.sync.push(name, stamp_seconds(message), message)
                ride.ahead.arrived(name, stamp_seconds(message), message)
            if synced is not None:
                ride.ahead.hold(synced)
                sets.append(synced)
    ride.settle()
    assert ride.ahead.counts.ahead == 6  # the first one of each
    for synced in sets:
        with ride.ahead.tick(synced):
            found = ride.ahead.pictures(synced.frames, SEEN_WITH)
        assert not any(isinstance(picture, InvalidInput) for picture in found.values()), found
        ride.settle()


def test_the_next_packet_waits_for_the_one_that_is_being_decoded(drive):
    ride = drive()
    first, second = video(0), video(1)
    frames = {'front': SimpleNamespace(stamp_s=T0_S, payload=first)}
    for message in (first, second):
        ride.decoder.push('front', message)
    ride.decoder.gate.clear()
    ride.ahead.arrived('front', T0_S, first)
    asking = threading.Thread(target=ride.ahead.pictures, args=(frames, SEEN_WITH))
    asking.start()
    while not ride.ahead._find('front', frames['front']).asked:
        asking.join(0.001)
    ride.ahead.arrived('front', T0_S + 0.05, second)
    assert ride.ahead.counts.ahead == 1
    ride.decoder.gate.set()
    asking.join(10.0)
    ride.settle()
    assert ride.ahead.counts.ahead == ride.ahead.counts.decoded == 2
    assert not ride.decoder.crowded


def test_damaged_pictures_are_told_of_by_whoever_asks(drive):
    ride = drive()
    broken = image(0)
    broken.data = broken.data[: len(broken.data) // 2]
    for name in CAMERA_NAMES:
        ride.push(name, broken if name == 'back' else image(0))
    (_, found) = ride.seen[0]
    assert isinstance(found['back'], InvalidInput)
    assert 'truncated or damaged' in str(found['back'])
    assert not isinstance(found['front'], InvalidInput)


def test_a_defect_is_raised_where_the_picture_is_asked_for(drive, monkeypatch: pytest.MonkeyPatch):
    ride = drive()

    def fail(*_: Any) -> Image:
        raise RuntimeError('broken')

    monkeypatch.setattr(ride.decoder, 'picture', fail)
    frames = {'front': SimpleNamespace(stamp_s=T0_S, payload=image(0))}
    ride.ahead.arrived('front', T0_S, frames['front'].payload)
    ride.settle()
    with pytest.raises(RuntimeError, match='broken'):
        ride.ahead.pictures(frames, SEEN_WITH)


def test_the_calibration_of_the_tick_counts_not_that_of_the_arrival(drive):
    ride = drive()
    message = image(0, 50)
    ride.ahead.arrived('front', T0_S, message)
    ride.settle()
    seen_with = {'front': (RIG['front'], lambda picture: picture + 1)}  # camera_info has come meanwhile
    frames = {'front': SimpleNamespace(stamp_s=T0_S, payload=message)}
    assert np.all(ride.ahead.pictures(frames, seen_with)['front'] == 51)
    assert not ride.twice


def test_stop_forgets_all_and_leaves_nothing_running(drive):
    ride = drive()
    ride.decoder.gate.clear()
    for name in CAMERA_NAMES[:5]:
        ride.push(name, image(0))
    ride.ahead.stop(timeout_s=0.05)  # does not wait for ever
    ride.decoder.gate.set()
    ride.ahead.stop()
    assert not ride.ahead._open
    assert ride.ahead.counts.decoded <= 2
    assert not any(ride.ahead._lanes.values())
    for name in CAMERA_NAMES:
        ride.push(name, image(50_000_000))
    assert ride.ahead.counts.ahead <= 2  # none of the later ones
    assert len(ride.seen) == 1


def test_what_is_observed_does_not_depend_on_when_it_was_decoded():
    messages = flat(ticks(15))
    for k, (kind, _) in enumerate(messages):
        if kind == 'back':  # one camera of video, and one damaged picture
            index = sum(name == 'back' for name, _ in messages[:k])
            messages[k] = ('back', video(index, 100_000_000))
    damaged = [message for kind, message in messages if kind == 'front_left'][5]
    damaged.data = damaged.data[:100]
    seen = []
    for ahead in (False, True):
        assembler = ObservationAssembler(RIG, CameraSync(RIG.names, policies={'front_left': 'skip'}))
        if ahead:
            assembler.ahead.start()
        seen.append(play(assembler, messages))
        assembler.ahead.stop()
        assert (assembler.ahead.counts.ahead > 0) is ahead
    assert len(seen[0]) == len(seen[1]) == 15
    for without, with_it in zip(*seen, strict=True):
        assert isinstance(without, Observation) and isinstance(with_it, Observation)
        assert (without.stamp_s, without.missing, without.ego) == (with_it.stamp_s, with_it.missing, with_it.ego)
        assert without.frames.keys() == with_it.frames.keys()
        for name, frame in without.frames.items():
            assert np.array_equal(frame.image, with_it.frames[name].image)
