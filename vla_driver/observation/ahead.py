# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures are decoded once each, by two threads; on arrival, where they will be looked at.

Decoding six JPEGs costs more than any other stage of a tick, and the pictures of a set do not come at once.  So a
picture is decoded while the others are on their way, and a tick waits for the last one only.  Who does not plan as the
pictures come (a bag that is read) leaves that off: then everything is decoded when it is asked for.

A picture is decoded on arrival if
  - it is probably in a set, and that set is probably the one that will be planned from: see `foresight`.  A planner
    slower than its cameras leaves the others alone; and
  - no earlier picture of its camera that was decoded on arrival still waits to be looked at.  So at most one picture
    of a camera is decoded in vain for whatever nobody foresaw: another camera is lost, the odometry stays away.
Of 100 sets at 20 Hz, ticks of 0.09 s take 57 and have up to 4 % more pictures decoded than theirs; ticks of 0.1 s take
51, up to 6 % more; ticks whose lengths vary by half take 71, 17 % more.  Where a camera is lost, 50 of 400 pictures of
the others are decoded.  (test/observation/test_ahead.py, in a time of its own.)
Else it waits.  It is thought of again when its set is complete, when a tick begins to plan, when one ends, and when
another picture of its camera is done.  A tick that asks for a picture gets it in any case.

What nobody can ask for any more before its decoding began is cancelled: the set was replaced by a newer one or dropped,
the camera has sent a newer picture while no set had this one, or time has jumped.  Packets of video need those
before them: they are decoded in their order, one at a time, and superseded by none.

What comes out depends on the message alone, so it does not matter when a picture is decoded, nor whether ahead.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

from vla_driver.observation.calibration import check_aspect
from vla_driver.observation.decode import PictureDecoder
from vla_driver.observation.foresight import Foresight
from vla_driver.observation.sync import StampedPayload, SyncedSet
from vla_driver.observation.undistort import Undistorter
from vla_driver.types import ANCHOR_CAMERA, CameraModel, Image, InvalidInput

#: Six JPEGs of 1600x900 take 21 ms one after the other and 13 ms in two threads; the decoders release the GIL.
_DECODERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix='decode')
#: Pictures of a camera that are kept, with their messages: as many as the synchroniser keeps.
MAX_KEPT: Final = 8

#: What a picture is seen with: size and proportions, and the lens it is undistorted from, if any.
Calibration = tuple[CameraModel, Undistorter | None]


@dataclass(frozen=True)
class DecodeCounts:
    """What became of the pictures so far.

    decoded: how many were decoded; ahead: of these, before a tick asked for them; in_vain: of these, nobody asked for
    at all; cancelled: came, and were dropped before their decoding began.
    """

    decoded: int = 0
    ahead: int = 0
    in_vain: int = 0
    cancelled: int = 0


@dataclass(frozen=True)
class _Decoded:
    image: Image | InvalidInput
    seen: Image | InvalidInput
    by: Calibration


@dataclass(eq=False)
class _Work:
    """One picture; sets: how many sets hold it; free: nobody waits to look at it any more, or somebody has."""

    camera: str
    stamp_s: float
    message: Any
    in_order: bool
    future: Future[_Decoded] | None = None  # None: not begun
    finished: bool = False
    asked: bool = False
    free: bool = False
    sets: int = 0


class DecodeAhead:
    """Decodes the pictures of one assembler; safe to call from several threads, and only `pictures` and `stop` wait.

    decoder: has been told of every message.  at_least: camera -> (width, height) that suffices.  calibration: camera ->
    what its pictures are seen with at present.  clock: of arrivals and ticks, in seconds.
    """

    def __init__(
        self,
        decoder: PictureDecoder,
        at_least: Mapping[str, tuple[int, int]],
        calibration: Callable[[str], Calibration],
        anchor: str = ANCHOR_CAMERA,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder, self._at_least, self._calibration, self._clock = decoder, dict(at_least), calibration, clock
        self._foresight = Foresight(anchor)
        self._lanes: dict[str, list[_Work]] = {}  # by arrival
        self._floors: dict[str, float] = {}  # stamps in the newest set: what is earlier is in none to come
        self._open: set[Future[_Decoded]] = set()  # ordered, and not done
        self._on = False
        self._decoded = self._ahead = self._in_vain = self._cancelled = 0
        self._lock = threading.RLock()

    @property
    def counts(self) -> DecodeCounts:
        """What became of the pictures so far."""
        with self._lock:
            return DecodeCounts(self._decoded, self._ahead, self._in_vain, self._cancelled)

    def start(self) -> None:
        """Decode pictures on arrival from now on.  Who does so says what becomes of every set: `hold`, `tick`, ..."""
        with self._lock:
            self._on = True

    def stop(self, timeout_s: float = 5.0) -> None:
        """Decode nothing any more unless it is asked for; forget all, and wait for what is being decoded."""
        with self._lock:
            self._on = False
            self._forget(-math.inf)
        wait(tuple(self._open), timeout_s)

    # What comes.

    def arrived(self, camera: str, stamp_s: float, message: Any) -> None:
        """A picture has come; stamp_s: as the synchroniser knows it."""
        with self._lock:
            if not self._on:
                return
            lane = self._lanes.setdefault(camera, [])
            if stamp_s < self._floors.get(camera, -math.inf) or any(work.stamp_s == stamp_s for work in lane):
                return  # too late for any set, or the same picture again
            self._foresight.arrived(camera, stamp_s, self._clock())
            for work in lane:
                if work.sets <= 0 and not work.in_order:
                    self._cancel(work)  # no set has it, and a newer one is here
            lane.append(_Work(camera, stamp_s, message, self._decoder.in_order(camera, message)))
            self._sweep(camera)
            self._think(camera)

    def rewound(self, limit_s: float) -> None:
        """Time has jumped back: what is later than `limit_s` is in no set to come."""
        with self._lock:
            self._forget(limit_s)

    # What becomes of the sets, told by the one who takes them.

    def hold(self, synced: SyncedSet) -> None:
        """A set is complete and may be planned from, until `let_go` or the end of its `tick`."""
        with self._lock:
            for camera, frame in synced.frames.items():
                if (work := self._find(camera, frame)) is not None:
                    work.sets += 1
                self._floors[camera] = frame.stamp_s
                self._sweep(camera)
            self._think(*synced.frames)

    def let_go(self, synced: SyncedSet) -> None:
        """A set that was held is not planned from any more."""
        with self._lock:
            for camera, frame in synced.frames.items():
                if (work := self._find(camera, frame)) is None:
                    continue
                work.sets -= 1
                if work.sets <= 0:
                    work.free = True
                    self._cancel(work)
                    if work.future is None:  # else what was made of it may serve the next set as well
                        self._remove(work)
                self._sweep(camera)
            self._think(*synced.frames)

    @contextlib.contextmanager
    def tick(self, synced: SyncedSet) -> Iterator[None]:
        """A set that was held is planned from, and let go at the end."""
        with self._lock:
            self._foresight.tick_began(self._clock())
        try:
            yield
        finally:
            with self._lock:
                self._foresight.tick_ended(self._clock())
                self.let_go(synced)
                self._think(*self._lanes)  # another camera's picture may have waited

    def pictures(
        self, frames: Mapping[str, StampedPayload], calibrations: Mapping[str, Calibration]
    ) -> dict[str, Image | InvalidInput]:
        """Return each camera's picture of a set, undistorted where its lens demands it, or why there is none.

        Decodes what has not been decoded yet, and waits.  Any exception but InvalidInput is a defect, and raised.
        """
        with self._lock:
            works = {camera: self._ask(camera, frame, calibrations[camera]) for camera, frame in frames.items()}
            self._think(*frames)
        found = {}
        for camera, future in works.items():
            decoded, by = future.result(), calibrations[camera]
            # What camera_info has said since the picture was decoded counts.
            same = decoded.by[0] is by[0] and decoded.by[1] is by[1]
            found[camera] = decoded.seen if same else _seen(decoded.image, frames[camera].payload, by)
        return found

    def _ask(self, camera: str, frame: StampedPayload, by: Calibration) -> Future[_Decoded]:
        work = self._find(camera, frame)
        if work is None:
            work = _Work(camera, frame.stamp_s, frame.payload, self._decoder.in_order(camera, frame.payload))
            if not self._on:  # a slow camera's picture may be in the next set, too
                self._lanes.setdefault(camera, []).append(work)
                self._floors[camera] = frame.stamp_s
                self._sweep(camera)
        work.asked = work.free = True
        return work.future or self._begin(work, by)

    # Called with the lock held.

    def _find(self, camera: str, frame: StampedPayload) -> _Work | None:
        return next((work for work in self._lanes.get(camera, ()) if work.message is frame.payload), None)

    def _think(self, *cameras: str) -> None:
        """Begin to decode what will be looked at."""
        if not self._on or not self._foresight.is_taken(self._clock()):
            return
        for camera in cameras:
            lane = self._lanes.get(camera, [])
            waiting = [work for work in lane if work.future is None and not work.free]
            if waiting and waiting[0].in_order:
                waiting = waiting[:1]
            else:
                waiting = [work for work in reversed(waiting) if work.sets > 0 or work is lane[-1]]
            for work in waiting:
                if self._may_begin(work, lane):
                    self._begin(work, self._calibration(camera))
                    self._ahead += 1

    def _may_begin(self, work: _Work, lane: list[_Work]) -> bool:
        if any(other.future is not None and not other.free for other in lane):
            return False
        if work.in_order:
            return all(other.future is None or other.finished for other in lane)
        return work.sets > 0 or self._foresight.is_matched(work.camera, work.stamp_s)

    def _begin(self, work: _Work, by: Calibration) -> Future[_Decoded]:
        work.future = _DECODERS.submit(self._run, work, by)
        self._open.add(work.future)
        work.future.add_done_callback(self._open.discard)
        return work.future

    def _cancel(self, work: _Work) -> None:
        """Take back a picture whose decoding was ordered and has not begun."""
        if not work.asked and work.future is not None and work.future.cancel():
            work.future = None
            self._ahead -= 1

    def _sweep(self, camera: str) -> None:
        """Forget the pictures that nobody will ask for."""
        lane, floor_s = self._lanes.get(camera, []), self._floors.get(camera, -math.inf)
        for work in [work for work in lane if work.sets <= 0 and work.stamp_s < floor_s]:
            self._remove(work)
        while len(lane) > MAX_KEPT:
            self._remove(lane[0])

    def _remove(self, work: _Work) -> None:
        self._lanes[work.camera].remove(work)
        self._cancel(work)
        if not work.asked:
            self._in_vain += work.future is not None
            self._cancelled += work.future is None

    def _forget(self, limit_s: float) -> None:
        for lane in self._lanes.values():
            for work in [work for work in lane if work.stamp_s > limit_s]:
                self._remove(work)
        self._floors.clear()
        self._foresight.jumped()

    # In the threads that decode.

    def _run(self, work: _Work, by: Calibration) -> _Decoded:
        try:
            with self._lock:
                self._decoded += 1
            image: Image | InvalidInput
            try:
                image = self._decoder.picture(work.camera, work.message, self._at_least.get(work.camera))
            except InvalidInput as error:
                image = error
            return _Decoded(image, _seen(image, work.message, by), by)
        finally:
            with self._lock:
                work.finished = True
                self._think(work.camera)


def _seen(image: Image | InvalidInput, message: Any, by: Calibration) -> Image | InvalidInput:
    """Return what a calibrated camera makes of a decoded picture."""
    camera, lens = by
    if isinstance(image, InvalidInput):
        return image
    try:
        check_aspect(image, message, camera)
    except InvalidInput as error:
        return error
    return image if lens is None else lens(image)
