# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Match the frames of several cameras to the anchor camera's.

Pure: no ROS, no clock of its own, no callback.  Frames go in with `push`, matched sets come out of `take`;
payloads stay undecoded, so that only the sets somebody uses cost anything.

For an anchor frame at t0 every other camera gives its frame nearest to t0, no farther than `max_skew_s`.
The choice is settled when no nearer frame can come: the camera has shown one at or after t0, or its next,
by its own rhythm, would be farther away.  A set leaves
  - as soon as all cameras have settled frames, or
  - when it has waited long enough (`wait_s` after the anchor's arrival where arrival times are given, and in
    any case once an anchor frame `wait_s` newer has been seen) and every camera without a frame may be missing;
    one that has long been silent, or never spoke, is not waited for.
Of several sets that could leave, the newest does; older ones are dropped and counted.  An anchor frame whose
required cameras are late stays a candidate until a newer set has left, so a camera that is always late delays
the sets, but never stops them.  Buffers are bounded, and so is the work per call.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vla_driver.settings.inputs import MISSING_POLICIES, InputParameters
from vla_driver.types import ANCHOR_CAMERA, InvalidInput

#: Float seconds of today's dates are exact to 0.24 microseconds; equal stamps must count as equal.
_EPSILON_S = 1e-6
#: The next frame is expected no earlier than this share of the camera's last interval after the newest one.
_EARLIEST = 0.75
#: A camera that may be missing is not waited for after so much silence, or when the anchor has sent so many frames and
#: it none: each tick would be late by the whole wait.
_SILENCE_S = 1.0
_ANCHORS_BEFORE = 5


@dataclass(frozen=True)
class StampedPayload:
    """A frame as it arrived: payload is whatever was pushed; arrival_s is None where no clock was given."""

    stamp_s: float
    payload: Any
    arrival_s: float | None = None


@dataclass(frozen=True)
class SyncedSet:
    """One frame per camera, matched to the anchor's at stamp_s.

    missing: the cameras without a frame; skew_s: the largest distance of a frame from stamp_s.
    """

    stamp_s: float
    frames: Mapping[str, StampedPayload]
    missing: tuple[str, ...]
    skew_s: float


@dataclass(frozen=True)
class CameraStatus:
    """What one camera has sent.  age_s: since its last frame with a new stamp; problem: empty when all is well."""

    frames: int
    last_stamp_s: float | None
    age_s: float | None
    problem: str


@dataclass(frozen=True)
class SyncStatus:
    """Counters since the start.

    dropped: anchor frames that never became a set; resets: backward jumps of the stamps.
    dropped_for: required cameras that had no frame -> how many anchor frames that cost, those included which wait for
    one longer than a camera may be silent.
    """

    cameras: Mapping[str, CameraStatus]
    sets: int
    incomplete: int
    dropped: int
    resets: int
    dropped_for: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """The cameras with a problem."""
        return tuple(name for name, camera in self.cameras.items() if camera.problem)


@dataclass
class _Camera:
    policy: str
    frames: list[StampedPayload] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    newest_s: float = -math.inf
    interval_s: float = math.inf
    #: Of its last frame with a new stamp, and of its last one.
    arrival_s: float | None = None
    heard_s: float | None = None
    frozen: bool = False  # whether its last one repeats the stamp of the one before
    count: int = 0
    late_run: int = 0

    def forget_after(self, stamp_s: float) -> None:
        """Drop the frames later than `stamp_s`."""
        keep = bisect.bisect_right(self.stamps, stamp_s)
        del self.frames[keep:], self.stamps[keep:]
        if self.newest_s > stamp_s:
            self.newest_s = self.stamps[-1] if self.stamps else -math.inf
            self.interval_s = math.inf
        self.late_run = 0

    def forget_before(self, stamp_s: float) -> None:
        """Drop the frames earlier than `stamp_s`."""
        drop = bisect.bisect_left(self.stamps, stamp_s)
        del self.frames[:drop], self.stamps[:drop]

    def nearest(self, stamp_s: float, reach_s: float) -> StampedPayload | None:
        """Return the frame nearest to `stamp_s` and no farther than `reach_s`; the later of two equals."""
        at = bisect.bisect_left(self.stamps, stamp_s)
        around = self.frames[max(0, at - 1) : at + 1]
        best = min(reversed(around), key=lambda frame: abs(frame.stamp_s - stamp_s), default=None)
        return best if best is not None and abs(best.stamp_s - stamp_s) <= reach_s + _EPSILON_S else None

    def is_silent(self, stamp_s: float, anchors: int) -> bool:
        """Whether nobody waits for its frames any more at an anchor's stamp: it has stopped, or never begun.

        anchors: frames of the anchor so far.
        """
        if self.count == 0:
            return anchors > _ANCHORS_BEFORE
        interval_s = self.interval_s if math.isfinite(self.interval_s) else 0.0
        return stamp_s - self.newest_s > max(_SILENCE_S, 2.0 * interval_s)

    def is_settled(self, stamp_s: float, reach_s: float) -> bool:
        """Whether no frame nearer to `stamp_s` than the nearest one can come any more."""
        if self.newest_s >= stamp_s - _EPSILON_S:
            return True
        before_s = stamp_s - self.newest_s
        return before_s <= reach_s and _EARLIEST * self.interval_s - before_s > before_s


class CameraSync:
    """Matches cameras to an anchor; safe to call from several threads.

    cameras: all names, the anchor among them.  max_skew_s: the farthest a frame may lie from the anchor's
    stamp (nuScenes: the six shutters follow the lidar's sweep, up to 50 ms apart).  buffer: frames kept per
    camera.  wait_s: see the module.  policies: camera -> one of MISSING_POLICIES; 'require' where not given;
    the anchor is always required.  jump_s: stamps that fall back by more are a jump (a looped bag), not a
    frame that was overtaken.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        anchor: str = ANCHOR_CAMERA,
        *,
        max_skew_s: float = InputParameters.max_skew_s,
        buffer: int = 8,
        wait_s: float = InputParameters.wait_s,
        policies: Mapping[str, str] | None = None,
        jump_s: float = 0.5,
    ) -> None:
        policies = dict(policies or {})
        if anchor not in cameras:
            raise InvalidInput(f'anchor camera {anchor!r} is not among the cameras: {", ".join(cameras)}')
        if len(set(cameras)) != len(cameras):
            raise InvalidInput(f'camera names repeat: {", ".join(cameras)}')
        unknown = sorted(set(policies) - set(cameras))
        if unknown:
            raise InvalidInput(f'policies of unknown cameras {unknown}, the cameras are: {", ".join(cameras)}')
        for name, policy in policies.items():
            if policy not in MISSING_POLICIES:
                raise InvalidInput(f'camera {name}: policy {policy!r}, allowed: {", ".join(MISSING_POLICIES)}')
        if policies.get(anchor, 'require') != 'require':
            raise InvalidInput(f'camera {anchor} is the anchor: its policy must be require, not {policies[anchor]}')
        for what, value, least in (('max_skew_s', max_skew_s, 0.0), ('wait_s', wait_s, 0.0), ('jump_s', jump_s, 1e-3)):
            if not (math.isfinite(value) and value >= least):
                raise InvalidInput(f'{what} is {value}, expected a finite number of at least {least}')
        if buffer < 2:
            raise InvalidInput(f'buffer is {buffer}, expected at least 2 frames')
        self.anchor = anchor
        self.max_skew_s, self.wait_s, self.jump_s = float(max_skew_s), float(wait_s), float(jump_s)
        self._buffer = int(buffer)
        self._cameras = {name: _Camera(policies.get(name, 'require')) for name in cameras}
        self._emitted_s = -math.inf
        self._sets = self._incomplete = self._dropped = self._resets = 0
        #: Anchor stamp -> required cameras that had no frame, and how far away their nearest one was.
        self._blocked: dict[float, dict[str, float]] = {}
        self._dropped_for: Counter[tuple[str, ...]] = Counter()
        self._away_s: dict[str, tuple[float, float]] = {}  # of dropped sets: least, most
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras, in the order given."""
        return tuple(self._cameras)

    @property
    def resets(self) -> int:
        """How often the stamps jumped back (or `reset` was called)."""
        return self._resets

    def policy(self, camera: str) -> str:
        """Return what happens when `camera` has no frame."""
        return self._cameras[camera].policy

    def push(self, camera: str, stamp_s: float, payload: Any, now_s: float | None = None) -> SyncedSet | None:
        """Add a frame and return the set it completes, if any.

        now_s: when it arrived, by any clock that runs steadily; without it only stamps count.
        Raises InvalidInput for a camera it does not know and for a stamp that is not finite.
        """
        if camera not in self._cameras:
            raise InvalidInput(f'camera {camera!r} is unknown, the cameras are: {", ".join(self._cameras)}')
        stamp_s = float(stamp_s)
        if not math.isfinite(stamp_s):
            raise InvalidInput(f'camera {camera}: stamp is {stamp_s}, expected a finite number')
        with self._lock:
            entry = self._cameras[camera]
            entry.count += 1
            entry.heard_s = now_s
            entry.frozen = stamp_s == entry.newest_s
            if not entry.frozen:
                entry.arrival_s = now_s
            if self._jumped_back(entry, stamp_s):
                self._forget_after(stamp_s + self.max_skew_s)
            self._insert(camera, entry, StampedPayload(stamp_s, payload, now_s))
            return self._match(now_s)

    def poll(self, now_s: float) -> SyncedSet | None:
        """Return a set that has waited long enough by the clock of `push`, if any."""
        with self._lock:
            return self._match(now_s)

    @property
    def waiting(self) -> bool:
        """Whether a frame of the anchor camera has not left in a set yet."""
        return self._cameras[self.anchor].newest_s > self._emitted_s

    def flush(self) -> SyncedSet | None:
        """Return the newest set that may leave without waiting any longer (at the end of a bag), if any."""
        with self._lock:
            return self._match(math.inf)

    def reset(self) -> None:
        """Forget all frames (the counters stay)."""
        with self._lock:
            self._forget_after(-math.inf)

    def rewind(self, stamp_s: float) -> bool:
        """Forget what is later than `stamp_s`: another input has seen time jump back to there.

        Returns whether there was anything.  Frames up to max_skew_s later may already belong to the new time, so
        they stay.
        """
        with self._lock:
            limit_s = stamp_s + self.max_skew_s
            if self._emitted_s <= limit_s and all(camera.newest_s <= limit_s for camera in self._cameras.values()):
                return False
            self._forget_after(limit_s)
            return True

    def _jumped_back(self, entry: _Camera, stamp_s: float) -> bool:
        if stamp_s < entry.newest_s - self.jump_s:
            return True
        # A loop shorter than jump_s looks like frames that are late, one after the other, for ever.
        if stamp_s > entry.newest_s:
            entry.late_run = 0
        elif stamp_s < entry.newest_s - _EPSILON_S:
            entry.late_run += 1
        return entry.late_run >= self._buffer

    def _forget_after(self, stamp_s: float) -> None:
        for camera in self._cameras.values():
            camera.forget_after(stamp_s)
        self._emitted_s = -math.inf
        self._blocked.clear()
        self._resets += 1

    def _insert(self, name: str, entry: _Camera, frame: StampedPayload) -> None:
        at = bisect.bisect_left(entry.stamps, frame.stamp_s)
        if at < len(entry.stamps) and entry.stamps[at] == frame.stamp_s:
            return  # the same frame again
        entry.stamps.insert(at, frame.stamp_s)
        entry.frames.insert(at, frame)
        if frame.stamp_s > entry.newest_s:
            entry.interval_s = frame.stamp_s - entry.newest_s
            entry.newest_s = frame.stamp_s
        if len(entry.frames) > self._buffer:
            if name == self.anchor and entry.stamps[0] > self._emitted_s:
                self._drop([entry.stamps[0]])
            del entry.frames[0], entry.stamps[0]

    def _match(self, now_s: float | None) -> SyncedSet | None:
        """Return the newest set that may leave, and forget what it makes useless."""
        anchors = self._cameras[self.anchor]
        for index in range(len(anchors.frames) - 1, -1, -1):
            anchor = anchors.frames[index]
            if anchor.stamp_s <= self._emitted_s:
                return None
            synced = self._set_at(anchor, anchors.newest_s, now_s)
            if synced is not None:
                passed = bisect.bisect_right(anchors.stamps, self._emitted_s)
                self._drop(anchors.stamps[passed:index])
                self._sets += 1
                self._incomplete += bool(synced.missing)
                self._emitted_s = anchor.stamp_s
                for camera in self._cameras.values():
                    camera.forget_before(anchor.stamp_s - self.max_skew_s)
                return synced
        return None

    def _set_at(self, anchor: StampedPayload, newest_anchor_s: float, now_s: float | None) -> SyncedSet | None:
        frames, missing, settled = {}, [], True
        for name, camera in self._cameras.items():
            frame = anchor if name == self.anchor else camera.nearest(anchor.stamp_s, self.max_skew_s)
            if frame is None:
                missing.append(name)
            else:
                frames[name] = frame
                settled = settled and (name == self.anchor or camera.is_settled(anchor.stamp_s, self.max_skew_s))
        required = tuple(name for name in missing if self._cameras[name].policy == 'require')
        if required:
            self._block(anchor.stamp_s, required)
            return None
        self._blocked.pop(anchor.stamp_s, None)
        anchors = self._cameras[self.anchor].count
        if not settled or not all(self._cameras[name].is_silent(anchor.stamp_s, anchors) for name in missing):
            waited = newest_anchor_s - anchor.stamp_s >= self.wait_s - _EPSILON_S or now_s == math.inf
            if now_s is not None and anchor.arrival_s is not None:
                waited = waited or now_s - anchor.arrival_s >= self.wait_s - _EPSILON_S
            if not waited:
                return None
        skew_s = max(abs(frame.stamp_s - anchor.stamp_s) for frame in frames.values())
        return SyncedSet(anchor.stamp_s, frames, tuple(missing), skew_s)

    def _block(self, stamp_s: float, cameras: Sequence[str]) -> None:
        """Take note of the cameras without which the set at `stamp_s` cannot leave."""
        before = self._blocked.get(stamp_s)
        # A camera that had a frame is not the reason, though its short buffer has lost that since.
        always = [name for name in cameras if before is None or name in before] or cameras
        self._blocked[stamp_s] = {
            name: min(
                (abs(stamp - stamp_s) for stamp in self._cameras[name].stamps),
                default=math.inf,
            )
            for name in always
        }
        for name, away_s in (before or {}).items():
            if name in self._blocked[stamp_s]:
                self._blocked[stamp_s][name] = min(away_s, self._blocked[stamp_s][name])

    def _drop(self, stamps: Sequence[float]) -> None:
        """Count anchor frames that will not become a set, and the cameras that each of them waited for."""
        self._dropped += len(stamps)
        for stamp_s in stamps:
            if blocked := self._blocked.pop(stamp_s, None):
                self._dropped_for[tuple(blocked)] += 1
                for name, away_s in blocked.items():
                    least_s, most_s = self._away_s.get(name, (math.inf, 0.0))
                    self._away_s[name] = min(least_s, away_s), max(most_s, away_s)

    def _dropped_by(self, now_s: float | None, stale_s: float) -> dict[tuple[str, ...], int]:
        total = Counter(self._dropped_for)
        for frame in self._cameras[self.anchor].frames:
            silent = now_s is None or frame.arrival_s is None or now_s - frame.arrival_s > stale_s
            if silent and frame.stamp_s > self._emitted_s and frame.stamp_s in self._blocked:
                total[tuple(self._blocked[frame.stamp_s])] += 1
        return dict(total.most_common())

    def lost(self, now_s: float | None = None, stale_s: float = 0.5) -> dict[str, int]:
        """Return why anchor frames did not become a set, in words, and how many did not: see `SyncStatus.dropped_for`.

        now_s: as in `status`; None counts all that still wait (at the end of a bag).
        """
        found = {}
        for cameras, count in self.status(now_s, stale_s).dropped_for.items():
            words = f'no frame within {self.max_skew_s:g} s of one of {self.anchor}{self._away(cameras)}'
            found[f'camera{"s" if len(cameras) > 1 else ""} {", ".join(cameras)}: {words}'] = count
        return found

    def _away(self, cameras: Sequence[str]) -> str:
        """Return how far the nearest frames were, where that was about the same always: another phase or clock."""
        spans = [self._away_s[name] for name in cameras if name in self._away_s]
        if not spans or math.isinf(min(span[0] for span in spans)):
            return ''
        least_s, most_s = min(span[0] for span in spans), max(span[1] for span in spans)
        if most_s > 1.5 * least_s:
            return ''
        if least_s > self.jump_s:
            return f' (the nearest was {least_s:.2f} s away: do the clocks agree?)'
        return f' (the nearest was {least_s:.3f} s away: max_skew_s allows more, if the clocks agree)'

    def status(self, now_s: float | None = None, stale_s: float = 0.5) -> SyncStatus:
        """Return what has arrived, and in words what is wrong with each camera.

        A camera is stale when its newest frame is more than `stale_s` old: by arrival where `now_s` and arrival
        times are given, otherwise behind the newest stamp of all cameras.
        """
        with self._lock:
            newest_s = max(camera.newest_s for camera in self._cameras.values())
            cameras = {
                name: self._camera_status(camera, newest_s, now_s, stale_s) for name, camera in self._cameras.items()
            }
            dropped_for = self._dropped_by(now_s, stale_s)
            return SyncStatus(cameras, self._sets, self._incomplete, self._dropped, self._resets, dropped_for)

    def _apart_s(self, camera: _Camera) -> float:
        """Return how far the camera's frames lie from the waiting ones of the anchor at least; 0 where unknown."""
        settled = [s for s in self._cameras[self.anchor].stamps if self._emitted_s < s <= camera.newest_s]
        if len(settled) < 2 or not camera.stamps:
            return 0.0
        return min(abs(stamp - anchor) for stamp in camera.stamps for anchor in settled)

    def _camera_status(self, camera: _Camera, newest_s: float, now_s: float | None, stale_s: float) -> CameraStatus:
        if camera.newest_s == -math.inf:
            words = 'no frame yet' if camera.count == 0 else 'no frame since the stamps jumped back'
            return CameraStatus(camera.count, None, None, words)
        if now_s is not None and camera.arrival_s is not None:
            age_s = now_s - camera.arrival_s
        else:
            age_s = newest_s - camera.newest_s
        problem = ''
        anchor = self._cameras[self.anchor]
        offset_s = camera.newest_s - anchor.newest_s
        # An anchor that has stopped, or is frozen, says nothing about the clocks of others.
        stopped = now_s is not None and anchor.arrival_s is not None and now_s - anchor.arrival_s > stale_s
        comparable = anchor.newest_s > -math.inf and not stopped
        if age_s > stale_s:
            heard = now_s is None or camera.heard_s is None or now_s - camera.heard_s <= stale_s
            words = 'repeats its stamp, last new frame' if camera.frozen and heard else 'last frame'
            problem = f'{words} {age_s:.2f} s ago'
        elif comparable and abs(offset_s) > max(stale_s, self.max_skew_s):
            side = 'ahead of' if offset_s > 0 else 'behind'
            problem = f'stamps {abs(offset_s):.2f} s {side} those of {self.anchor}: do the clocks agree?'
        elif (apart_s := self._apart_s(camera)) > self.max_skew_s:
            problem = (
                f'its frames lie {apart_s:.3f} s from those of {self.anchor}, farther than max_skew_s allows '
                f'({self.max_skew_s:g} s): give a larger one, or let the camera be missing (missing_cameras)'
            )
        return CameraStatus(camera.count, camera.newest_s, age_s, problem)
