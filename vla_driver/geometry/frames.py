# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of coordinate frames that /tf_static tells (tf2_msgs/TFMessage; REP-105).

What is asked of it is fixed: how sensors are mounted.  A joint that moves is found out (two values of it differ) and
named, never taken for a mounting.  Frames are called as tf2 calls them; a leading slash, as ROS 1 had it, is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.types import FloatArray, InvalidInput

#: What the vehicle's own frame is called, the first that there is.
BASE_FRAMES: Final = ('base_link', 'base_footprint')

#: A joint told twice is fixed if its values differ by no more: metres, and entries of the rotation matrix.
_FIXED: Final = 1e-3
_LISTED: Final = 30  # frames that an error names


def frame_name(text: object) -> str:
    """Return a frame's name without the leading slash that ROS 1 had, and without blanks around it."""
    return str(text).strip().removeprefix('/')


def pose_matrix(translation: Any, rotation: Any, what: str) -> FloatArray:
    """Return [4, 4] of a message's translation (x, y, z in metres) and quaternion; `what` names it in errors.

    Raises InvalidInput for what is not finite and for a quaternion that is not of about unit length (all zeros are
    one that nobody filled in).
    """
    position = [float(getattr(translation, axis)) for axis in 'xyz']
    x, y, z, w = (float(getattr(rotation, axis)) for axis in 'xyzw')
    if not all(map(math.isfinite, position)):
        raise InvalidInput(f'{what}: translation {position}, expected finite metres')
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if not 0.99 < norm < 1.01:  # also false for NaN
        raise InvalidInput(f'{what}: quaternion ({x:g}, {y:g}, {z:g}, {w:g}) has length {norm:g}, expected 1')
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = position
    return pose


def quaternion_of(rotation: FloatArray) -> tuple[float, float, float, float]:
    """Return (x, y, z, w) of a rotation matrix [3, 3], w >= 0 (Shepperd's method: the largest part first)."""
    r = np.asarray(rotation, dtype=np.float64)
    four = np.array([1 + r[0, 0] - r[1, 1] - r[2, 2], 1 - r[0, 0] + r[1, 1] - r[2, 2], 1 - r[0, 0] - r[1, 1] + r[2, 2]])
    four = np.append(four, 1 + np.trace(r))
    k = int(np.argmax(four))
    xy, xz, yz = r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1]
    wx, wy, wz = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    parts = np.array([[four[0], xy, xz, wx], [xy, four[1], yz, wy], [xz, yz, four[2], wz], [wx, wy, wz, four[3]]])[k]
    q = parts / np.linalg.norm(parts)
    x, y, z, w = (q if q[3] >= 0.0 else -q).tolist()
    return x, y, z, w


def inverse(pose: FloatArray) -> FloatArray:
    """Return the inverse of a rigid [4, 4] pose."""
    back = np.eye(4)
    back[:3, :3] = pose[:3, :3].T
    back[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return back


@dataclass(frozen=True)
class _Joint:
    """How a frame hangs on its parent.  moves: it was told with values that differ."""

    parent: str
    pose: FloatArray  # parent_from_child [4, 4]
    static: bool
    moves: bool = False


class FrameTree:
    """Frames by name, each fixed to at most one parent."""

    def __init__(self) -> None:
        self._joints: dict[str, _Joint] = {}
        self._problems: dict[str, str] = {}

    @property
    def frames(self) -> tuple[str, ...]:
        """All frames, parents included, by name."""
        return tuple(sorted({*self._joints, *(joint.parent for joint in self._joints.values())}))

    @property
    def problems(self) -> tuple[str, ...]:
        """What was refused or contradicts itself, once each."""
        return tuple(self._problems.values())

    def __contains__(self, frame: object) -> bool:
        return frame in self.frames

    def __bool__(self) -> bool:
        return bool(self._joints)

    def add(self, parent: str, child: str, pose: npt.ArrayLike, *, static: bool = True) -> bool:
        """Hang `child` on `parent` by parent_from_child [4, 4]; return whether that changed anything.

        As in tf2 the newest word counts, and a second parent takes the place of the first (which is noted in
        `problems`); what /tf_static says is not overruled by /tf (static=False).
        Raises InvalidInput for frames without a name, a frame on itself, a circle, and what is no rigid pose.
        """
        parent, child = frame_name(parent), frame_name(child)
        if not parent or not child or parent == child:
            raise InvalidInput(f'transform {parent!r} -> {child!r}: expected two frames with different names')
        matrix = np.array(pose, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise InvalidInput(f'transform {parent} -> {child}: {matrix.tolist()}, expected [4, 4] finite numbers')
        turn = matrix[:3, :3]
        if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) or np.linalg.det(turn) < 0:
            raise InvalidInput(f'transform {parent} -> {child}: {turn.tolist()} is no rotation')
        if child in self._upwards(parent):
            circle = ' -> '.join(self._upwards(parent, until=child))
            raise InvalidInput(f'transform {parent} -> {child}: closes a circle ({circle} -> {parent})')
        before = self._joints.get(child)
        if before is not None and before.parent != parent:
            kept = before.parent if before.static and not static else parent
            self._problems[f'{child} twice'] = (
                f'frame {child} has two parents, {before.parent} and {parent}; {kept} is taken'
            )
        if before is not None and before.static and not static:
            return False
        same = before is not None and before.parent == parent and np.allclose(before.pose, matrix, rtol=0, atol=_FIXED)
        # A static transform may be published anew with other numbers (a calibration); one on /tf that differs moves.
        moves = not static and before is not None and before.parent == parent and (before.moves or not same)
        if same and before is not None and (before.static, before.moves) == (static, moves):
            return False
        matrix.setflags(write=False)
        self._joints[child] = _Joint(parent, matrix, static, moves)
        return True

    def add_message(self, message: Any, *, static: bool = True) -> bool:
        """Add every transform of a tf2_msgs/TFMessage; return whether any changed the tree.

        Those that cannot be used are left out and named in `problems`.
        """
        changed = False
        for entry in message.transforms:
            parent, child = frame_name(entry.header.frame_id), frame_name(entry.child_frame_id)
            try:
                what = f'transform {parent} -> {child}'
                pose = pose_matrix(entry.transform.translation, entry.transform.rotation, what)
                changed |= self.add(parent, child, pose, static=static)
                self._problems.pop(child, None)
            except InvalidInput as error:
                self._problems[child] = str(error)
        return changed

    def lookup(self, target: str, source: str) -> FloatArray:
        """Return target_from_source [4, 4]: what takes a point of `source` to `target`.

        Raises InvalidInput for an unknown frame (listing those there are), for frames that no chain connects, and
        where a joint between them moves.
        """
        target, source = frame_name(target), frame_name(source)
        for frame in (target, source):
            if frame not in self:
                refused = f' ({self._problems[frame]})' if frame in self._problems else ''
                raise InvalidInput(f'frame {frame!r} is not in the tf tree{refused}; there are: {self._listed()}')
        up_target, up_source = self._upwards(target), self._upwards(source)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise InvalidInput(
                f'frame {source!r} is not connected to {target!r}: it hangs on {up_source[-1]!r}, {target!r} on '
                f'{up_target[-1]!r}; publish the transform between them'
            )
        return inverse(self._pose_in(common, target)) @ self._pose_in(common, source)

    def connected(self, target: str, source: str) -> bool:
        """Whether `lookup` finds a way."""
        try:
            self.lookup(target, source)
        except InvalidInput:
            return False
        return True

    def below(self, frame: str) -> Iterator[str]:
        """Yield the frames that hang on `frame`, nearest first."""
        level = [frame]
        while level:
            level = sorted(child for child, joint in self._joints.items() if joint.parent in level)
            yield from level

    def base(self, cameras: Sequence[str], others: Iterable[str] = ()) -> str:
        """Return the vehicle's own frame: that of BASE_FRAMES, then `others`, that most of `cameras` are fixed to.

        Raises InvalidInput where the tree holds none of them.
        """
        names = [name for name in (*BASE_FRAMES, *map(frame_name, others)) if name in self]
        if not names:
            raise InvalidInput(f'the tf tree has no {" or ".join(BASE_FRAMES)}; there are: {self._listed()}')
        return max(names, key=lambda name: sum(self.connected(name, camera) for camera in cameras))

    def _upwards(self, frame: str, until: str | None = None) -> list[str]:
        chain = [frame]
        while chain[-1] != until and (joint := self._joints.get(chain[-1])) is not None:
            chain.append(joint.parent)
        return chain

    def _pose_in(self, ancestor: str, frame: str) -> FloatArray:
        pose = np.eye(4)
        while frame != ancestor:
            joint = self._joints[frame]
            if joint.moves:
                raise InvalidInput(
                    f'frame {frame!r} moves against {joint.parent!r} (its values on /tf differ): not fixed'
                )
            pose, frame = joint.pose @ pose, joint.parent
        return pose

    def _listed(self) -> str:
        names = self.frames
        return (
            ', '.join(names[:_LISTED]) + (f' and {len(names) - _LISTED} more' if len(names) > _LISTED else '') or 'none'
        )
