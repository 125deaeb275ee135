# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Odometry as it is really published: twists in the wrong frame, twists that nobody fills in, sensors beside base_link.

nav_msgs/Odometry demands its twist in `child_frame_id`.  Many localisers give it in the parent frame instead, and say
so (`child_frame_id: odom`) or do not; others leave it at zero.  A driver that believes them stands while it drives
north at 8 m/s.  So three readings of a message compete:

    vehicle   as the standard says: forward speed = twist.linear.x
    parent    the twist is in header.frame_id: forward speed = its part along the heading
    poses     the twist is not to be believed: speed and yaw rate from the poses of the last `_DERIVED_S`

The frames' names say which one counts at first.  When it contradicts the poses for a second, the first of the three
that does not takes its place, and `note` says so.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from vla_driver.geometry import se2
from vla_driver.geometry.frames import BASE_FRAMES, FrameTree
from vla_driver.observation.messages import frame_of, read_odometry
from vla_driver.types import EgoState, FloatArray, InvalidInput

#: Frames that stand still: a twist in one of them is no vehicle's.
_WORLD_FRAMES: Final = ('odom', 'map', 'world', 'earth', 'utm', 'enu', 'local_enu')

#: The record is compared piece by piece: a pose that jumps once (a correction) spoils one piece, poses that come in
#: steps (10 Hz in messages of 50 Hz) none.
_PIECE_S: Final = 0.25
_PIECES: Final = 4
#: Speeds, and yaw rates, that differ by no more than this, or this share, agree.
_TOLERANCE_MPS: Final = 0.7
_TOLERANCE_RPS: Final = 0.08
_TOLERANCE: Final = 0.3
_DERIVED_S: Final = 0.3
#: A pose this much farther on, or turned further, than speed and time say has been corrected: that is no motion.
_CORRECTED_M: Final = 0.7
_CORRECTED_RAD: Final = 0.3
#: No vehicle's speed changes faster.
CHANGE_MPS2: Final = 12.0
#: So long behind a correction the speed before it holds: until the poses tell one again, in steps of 0.1 s, too.
_HELD_S: Final = 0.15
#: After a silence this long, what came before tells nothing about the twist now.
_GAP_S: Final = 2.0
#: A mount this small (metres, radians) is none.
_NOWHERE: Final = 1e-6


#: Where a frame is in base_link: x and y in metres, yaw in radians.
Mount = tuple[float, float, float]
#: A mount that says nothing.
NO_MOUNT: Final[Mount] = (0.0, 0.0, 0.0)

Lever = Callable[[str], 'Mount | None']


def lever_of(mount: Sequence[float], *trees: FrameTree) -> Lever:
    """Return what tells where a frame is in base_link, None where nobody does.

    mount: of whatever frame odometry is given in; zeros: the first of `trees` that connects the frame with base_link
    says it.  Raises InvalidInput unless there are three finite numbers.
    """
    if len(mount) != 3 or not all(map(math.isfinite, mount)):
        raise InvalidInput(f'odometry_mount is {list(mount)}, expected three finite numbers: x [m], y [m], yaw [rad]')
    x_m, y_m, yaw_rad = mount

    def lever(frame: str) -> Mount | None:
        if any(mount):
            return x_m, y_m, yaw_rad
        for tree in trees:
            try:
                pose = tree.lookup(tree.base([frame]), frame)
                return float(pose[0, 3]), float(pose[1, 3]), math.atan2(pose[1, 0], pose[0, 0])
            except InvalidInput:
                continue
        return None

    return lever


class Reading(str, enum.Enum):
    """How the twist is read."""

    VEHICLE = 'vehicle'
    PARENT = 'parent'
    POSES = 'poses'

    __str__ = str.__str__


@dataclass(frozen=True)
class _Seen:
    """One message: the pose, and the forward speed by each reading of the twist.  zero: nothing in it is filled in."""

    ego: EgoState
    vehicle_mps: float
    parent_mps: float
    zero: bool


@dataclass(frozen=True)
class _Piece:
    """Mean forward speeds and yaw rates over a quarter of a second: by the poses, and by each reading of the twist.

    zero: the twist holds nothing else.  steady: the poses move alike in both halves, which one jump does not do.
    sideways_mps: of the poses, to the left of the heading.  frozen: the position is the same to the last digit.
    """

    poses_mps: float
    vehicle_mps: float
    parent_mps: float
    poses_rps: float
    twist_rps: float
    zero: bool
    steady: bool
    sideways_mps: float
    frozen: bool


class _ByPoses:
    """Speed and yaw rate by the poses of the last 0.3 s, across which a correction of the localisation is no motion.

    derived: forward speed (m/s) and yaw rate (rad/s) at `stamp_s`; None until there are two poses.
    """

    def __init__(self) -> None:
        self.derived: tuple[float, float] | None = None
        self._recent: deque[EgoState] = deque()
        self._came: EgoState | None = None  # the first message with the present position: poses may come in steps
        self._held_until_s = -math.inf

    @property
    def stamp_s(self) -> float:
        """Of the newest pose."""
        return self._recent[-1].stamp_s if self._recent else -math.inf

    def take(self, ego: EgoState) -> None:
        """Take the next pose."""
        if ego.stamp_s >= self._held_until_s and self._corrected(ego):
            self._recent.clear()
            self._held_until_s = ego.stamp_s + _HELD_S - 1e-6
        if self._came is None or (ego.x_m, ego.y_m) != (self._came.x_m, self._came.y_m):
            self._came = ego
        self._recent.append(ego)
        while len(self._recent) > 2 and ego.stamp_s - self._recent[0].stamp_s > _DERIVED_S + 1e-6:
            self._recent.popleft()
        if len(self._recent) >= 2 and ego.stamp_s >= self._held_until_s:
            first = self._recent[0]
            turning_rps = _turned_rad(first, ego) / (ego.stamp_s - first.stamp_s)
            self.derived = _forward_mps(first, ego), turning_rps

    def _corrected(self, ego: EgoState) -> bool:
        if self.derived is None or self._came is None:
            return False
        (speed_mps, turning_rps), came, last = self.derived, self._came, self._recent[-1]
        turn_rad = _turned_rad(last, ego) - turning_rps * (ego.stamp_s - last.stamp_s)
        passed_s = ego.stamp_s - came.stamp_s
        farther_m = (_forward_mps(came, ego) - speed_mps) * passed_s
        if (ego.x_m, ego.y_m) == (came.x_m, came.y_m):
            farther_m = 0.0
        changed_m = 0.5 * CHANGE_MPS2 * min(passed_s, _DERIVED_S) ** 2
        return abs(farther_m) > _CORRECTED_M + changed_m or abs(turn_rad) > _CORRECTED_RAD


class OdometryReader:
    """Reads one odometry topic, message after message.

    lever: frame -> where it is in base_link, None where nobody says (`lever_of`); a pose of another frame than
    base_link (an antenna, an IMU) is moved to base_link, and its speed with it.
    """

    def __init__(self, lever: Lever = lambda _: None) -> None:
        self._lever = lever
        self._last_s: float | None = None  # stamp of the message before
        self._pieces: deque[_Piece] = deque(maxlen=_PIECES)
        self._piece: list[_Seen] = []
        self._by_poses = _ByPoses()
        self._reading: Reading | None = None
        self._turns_by_poses = False
        self._doubt = ''
        self._frames: tuple[str, str] | None = None
        self._moved = self._unconnected = ''

    @property
    def note(self) -> str:
        """What is made of the messages that the standard does not say; '' while they are read as they are."""
        if self._frames is None:
            return ''
        parent, child = self._frames
        words = []
        if self._reading is Reading.PARENT:
            why = f'child_frame_id is {child!r}' if self._in_parent() else 'only so does it fit the poses'
            words.append(f"its twist is in the frame {parent!r} ({why}): turned into the vehicle's")
        elif self._reading is Reading.POSES:
            zero = bool(self._pieces) and self._pieces[-1].zero
            what = 'is all zeros' if zero else 'does not fit the poses, read in either frame'
            words.append(f'its twist {what}, while the poses move: speed and yaw rate are taken from the poses')
        elif self._in_parent():
            words.append(f'child_frame_id is {child!r}, but the twist fits the poses only in the frame of the vehicle')
        if self._turns_by_poses and self._reading is not Reading.POSES:
            words.append('twist.angular.z does not fit the headings: the yaw rate is taken from the poses')
        if self._doubt:
            words.append(self._doubt)
        if self._unconnected:
            words.append(
                f'no tf connects its frame {self._unconnected!r} to base_link: taken for that (see odometry_mount)'
            )
        if self._moved:
            words.append(f'its poses are those of {self._moved!r}: moved to base_link')
        return '; '.join(words)

    def reset(self) -> None:
        """Forget the messages so far (time has jumped); how the twist is read stays."""
        self._by_poses = _ByPoses()
        self._last_s = None
        self._pieces.clear()
        self._piece = []

    def read(self, message: Any) -> EgoState:
        """Return the state of base_link; raise InvalidInput as `read_odometry` does."""
        ego = read_odometry(message)
        frames = frame_of(message), str(getattr(message, 'child_frame_id', '')).removeprefix('/')
        if frames != self._frames:
            self.reset()
            self._frames = frames
            self._reading, self._turns_by_poses, self._doubt = self._named(), False, ''
        linear = message.twist.twist.linear
        x_mps, y_mps = float(linear.x), float(getattr(linear, 'y', 0.0))
        if not math.isfinite(y_mps):
            y_mps = 0.0  # not filled in; x was checked
        zero = x_mps == y_mps == ego.yaw_rate_rps == 0.0
        mount = self._mount_of(frames[1])
        if mount != NO_MOUNT:
            ego = _at_base(ego, mount)
        _, left_m, turned = mount
        # v_base = v_child - omega x r, r from base_link to the child; forward, that adds omega times r's left part.
        about_mps = ego.yaw_rate_rps * left_m
        vehicle_mps = x_mps * math.cos(turned) - y_mps * math.sin(turned) + about_mps
        parent_mps = x_mps * math.cos(ego.yaw_rad) + y_mps * math.sin(ego.yaw_rad) + about_mps
        seen = _Seen(ego, vehicle_mps, parent_mps, zero)
        self._take(seen)
        return self._read_as(seen)

    def _named(self) -> Reading:
        """Return how the twist is to be read by the frames' names."""
        return Reading.PARENT if self._in_parent() else Reading.VEHICLE

    def _in_parent(self) -> bool:
        assert self._frames is not None
        parent, child = self._frames
        return bool(child) and (child == parent or child.rpartition('/')[2] in _WORLD_FRAMES)

    def _take(self, seen: _Seen) -> None:
        stamp_s = seen.ego.stamp_s
        if self._last_s is not None and not 0.0 < stamp_s - self._last_s < _GAP_S:
            if stamp_s == self._last_s:
                return
            self.reset()
        self._last_s = stamp_s
        self._by_poses.take(seen.ego)
        self._piece.append(seen)
        first, last = self._piece[0].ego, self._piece[-1].ego
        if last.stamp_s - first.stamp_s < _PIECE_S - 1e-6:
            return
        inside = self._piece
        self._pieces.append(
            _Piece(
                _forward_mps(first, last),
                float(np.mean([one.vehicle_mps for one in inside])),
                float(np.mean([one.parent_mps for one in inside])),
                _turned_rad(first, last) / (last.stamp_s - first.stamp_s),
                float(np.mean([one.ego.yaw_rate_rps for one in inside])),
                all(one.zero for one in inside),
                _steady([one.ego for one in inside]),
                _sideways_mps(first, last),
                len({(one.ego.x_m, one.ego.y_m) for one in inside}) == 1,
            )
        )
        self._piece = [seen]
        self._judge()
        self._judge_turning()

    def _judge(self) -> None:
        """Change the reading when it has contradicted the poses for a second and another one has not."""
        pieces = list(self._pieces)
        self._doubt = self._doubt_of(pieces)
        if self._doubt:
            return
        if pieces[-1].zero and pieces[-1].steady:
            pieces = pieces[-1:]  # never filled in: that shows at once
        elif len(pieces) < _PIECES:
            return
        by_poses = [piece.poses_mps for piece in pieces]
        readings = {
            Reading.VEHICLE: [piece.vehicle_mps for piece in pieces],
            Reading.PARENT: [piece.parent_mps for piece in pieces],
        }
        if self._reading in readings and not _contradict(readings[self._reading], by_poses):
            return
        fitting = [reading for reading, speeds in readings.items() if _agree(speeds, by_poses)]
        # While the vehicle stands, a twist that nobody fills in fits, too.
        moving = float(np.median(np.abs(by_poses))) > 2.0 * _TOLERANCE_MPS
        if self._reading is Reading.POSES and not moving:
            return
        self._reading = self._named() if self._named() in fitting else fitting[0] if fitting else Reading.POSES

    def _doubt_of(self, pieces: list[_Piece]) -> str:
        """Return why the poses are no judge of the twist; '' where they are."""
        if len(pieces) < _PIECES:
            return self._doubt
        if all(piece.frozen for piece in pieces) and max(abs(p.vehicle_mps) for p in pieces) > _TOLERANCE_MPS:
            return 'its poses do not change while its twist moves: the twist is believed'
        sideways = [p for p in pieces if abs(p.sideways_mps) > max(_TOLERANCE_MPS, abs(p.poses_mps))]
        if len(sideways) >= _PIECES - 1:
            return 'by its poses it moves sideways: the orientation is not filled in, or is not that of the vehicle'
        return ''

    def _judge_turning(self) -> None:
        if len(self._pieces) < _PIECES:
            return
        twist, poses = ([getattr(p, name) for p in self._pieces] for name in ('twist_rps', 'poses_rps'))
        if not self._turns_by_poses:
            self._turns_by_poses = _contradict(twist, poses, _TOLERANCE_RPS)
        elif float(np.median(np.abs(poses))) > 2.0 * _TOLERANCE_RPS:
            self._turns_by_poses = not _agree(twist, poses, _TOLERANCE_RPS)

    def _read_as(self, seen: _Seen) -> EgoState:
        speed_mps = seen.parent_mps if self._reading is Reading.PARENT else seen.vehicle_mps
        if self._reading is not Reading.POSES and not self._turns_by_poses:
            return replace(seen.ego, speed_mps=speed_mps)
        derived = self._by_poses.derived if self._by_poses.stamp_s == seen.ego.stamp_s else None
        if derived is None:
            return replace(seen.ego, speed_mps=self._pieces[-1].poses_mps if self._pieces else speed_mps)
        poses_mps, turning_rps = derived
        return replace(
            seen.ego,
            speed_mps=poses_mps if self._reading is Reading.POSES else speed_mps,
            yaw_rate_rps=turning_rps,
        )

    def _mount_of(self, child: str) -> Mount:
        """Return where a message's frame is in base_link; NO_MOUNT where it is that itself, or nobody says."""
        self._moved = self._unconnected = ''
        if not child or self._in_parent() or child.rpartition('/')[2] in BASE_FRAMES:
            return NO_MOUNT
        mount = self._lever(child)
        self._unconnected = child if mount is None else ''
        if mount is None or max(map(abs, mount)) < _NOWHERE:
            return NO_MOUNT
        self._moved = child
        return mount


def _at_base(ego: EgoState, mount: Mount) -> EgoState:
    """Return the pose of base_link where the message's is that of another frame of the vehicle."""
    x_m, y_m, turned = mount
    yaw = ego.yaw_rad - turned
    return replace(
        ego,
        x_m=ego.x_m - (x_m * math.cos(yaw) - y_m * math.sin(yaw)),
        y_m=ego.y_m - (x_m * math.sin(yaw) + y_m * math.cos(yaw)),
        yaw_rad=yaw,
    )


def _forward_mps(first: EgoState, last: EgoState) -> float:
    """Return the mean speed from one pose to another along the heading between them."""
    heading = first.yaw_rad + 0.5 * _turned_rad(first, last)
    forward_m = (last.x_m - first.x_m) * math.cos(heading) + (last.y_m - first.y_m) * math.sin(heading)
    return forward_m / (last.stamp_s - first.stamp_s)


def _sideways_mps(first: EgoState, last: EgoState) -> float:
    """Return the mean speed from one pose to another to the left of the heading between them."""
    heading = first.yaw_rad + 0.5 * _turned_rad(first, last)
    left_m = (last.y_m - first.y_m) * math.cos(heading) - (last.x_m - first.x_m) * math.sin(heading)
    return left_m / (last.stamp_s - first.stamp_s)


def _steady(states: list[EgoState]) -> bool:
    middle = len(states) // 2
    if not 0 < middle < len(states) - 1:
        return False
    halves = [_forward_mps(states[0], states[middle]), _forward_mps(states[middle], states[-1])]
    return _agree(halves[:1], halves[1:])


def _turned_rad(first: EgoState, last: EgoState) -> float:
    return float(se2.wrap(last.yaw_rad - first.yaw_rad))


def _differences(values: list[float], by_poses: list[float], tolerance: float) -> FloatArray:
    """Return [N] how far each pair of values lies apart, in tolerances."""
    ours, theirs = np.array(values), np.array(by_poses)
    return np.asarray((ours - theirs) / np.maximum(tolerance, _TOLERANCE * np.abs(theirs)))


def _contradict(values: list[float], by_poses: list[float], tolerance: float = _TOLERANCE_MPS) -> bool:
    """Whether all pieces but one differ, to the same side."""
    differences = _differences(values, by_poses, tolerance)
    allowed = 1 if len(differences) >= _PIECES else 0
    return max(int((differences > 1.0).sum()), int((differences < -1.0).sum())) >= len(differences) - allowed


def _agree(values: list[float], by_poses: list[float], tolerance: float = _TOLERANCE_MPS) -> bool:
    return bool(np.median(np.abs(_differences(values, by_poses, tolerance))) <= 1.0)
