# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Which calibration each camera is used with: the rig's, camera_info's, tf's; and why another one was refused.

Nothing is replaced in silence: `Calibrator.cameras` states for every camera what its rays are made of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from vla_driver.geometry.camera_info import read_camera_info
from vla_driver.geometry.distortion import Lens
from vla_driver.geometry.frames import FrameTree, frame_name
from vla_driver.geometry.mounting import mounting
from vla_driver.geometry.rig import viewing_angles
from vla_driver.observation.undistort import Undistorter
from vla_driver.types import CameraModel, CameraRig, FloatArray, Image, InvalidInput

#: A picture's proportions may differ from its calibration's by this share (scaled decoding rounds up).
_ASPECT_TOLERANCE: Final = 0.02
#: A camera that tf has looking farther than this from where the rig has it is probably another one: the six of a car
#: look 50 to 70 degrees apart.
_SAME_WAY: Final = math.cos(math.radians(45.0))
#: What a part of a topic's name says of rectified pictures: image_rect, image_rect_color, rect, image_rectified ...
_RECTIFIED: Final = re.compile(r'(^|_)(rect|rectified|undistorted)(_|$)')


@dataclass(frozen=True)
class CameraCalibration:
    """What one camera is used with.

    camera: size, K and mounting in use, a pinhole's; source: where size and K are from; undistorted: the model of the
    lens that pictures are undistorted from, '' where they are taken as they are; mounted: where the mounting is from;
    refused: why the last camera_info is not used, '' if it is; notes: what else was used in place of what was asked.
    """

    camera: CameraModel
    source: str
    mounted: str
    undistorted: str = ''
    refused: str = ''
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know: a refused calibration, a frame that was not what it seemed, another's view."""
        why = self.refused.removeprefix(f'camera {self.camera.name}: ')
        refused = f'{why}; {self._in_use()} of {self.source} stay in use' if why else ''
        return tuple(filter(None, (refused, *self.notes)))

    @property
    def said(self) -> tuple[str, ...]:
        """What is used in place of what was sent: `warnings`, and undistorted pictures."""
        undistorted = f'its pictures are undistorted from {self.undistorted}: {self._in_use()}'
        return (*([undistorted] if self.undistorted else []), *self.warnings)

    def describe(self) -> str:
        """Return what is in use, on one line."""
        undistorted = f', undistorted from {self.undistorted}' if self.undistorted else ''
        return f'{self._in_use()} from {self.source}{undistorted}; mounted as {self.mounted} says'

    def as_json(self) -> dict[str, Any]:
        """Return the same as an object of JSON."""
        k = self.camera.intrinsics
        return {
            'source': self.source,
            'width': self.camera.width,
            'height': self.camera.height,
            'fx': float(k[0, 0]),
            'fy': float(k[1, 1]),
            'cx': float(k[0, 2]),
            'cy': float(k[1, 2]),
            'undistorted_from': self.undistorted or None,
            'mounted': self.mounted,
            'base_from_camera': self.camera.base_from_camera.tolist(),
            'warnings': list(self.warnings),
        }

    def _in_use(self) -> str:
        k = self.camera.intrinsics
        size = f'{self.camera.width}x{self.camera.height}'
        return f'{size}, fx {k[0, 0]:.1f}, fy {k[1, 1]:.1f}, cx {k[0, 2]:.1f}, cy {k[1, 2]:.1f}'


class Calibrator:
    """Keeps the rig in use up to date with CameraInfo and tf messages; not safe against calls at once.

    rectified: the cameras whose pictures are, so that P holds their intrinsics; True: all.
    mounted: camera -> (what told where it is mounted, a note on that or ''), where it was not the rig itself.
    use_tf: whether transforms move cameras; `frames` has them in any case.
    lenses: camera -> what pictures are undistorted from to the rig's pinhole, until a camera_info says otherwise.

    `rig`, `lenses` and `cameras` are replaced as wholes, never changed: whoever holds one has a consistent state.
    """

    def __init__(
        self,
        rig: CameraRig,
        rectified: bool | Collection[str] = False,
        mounted: Mapping[str, tuple[str, str]] | None = None,
        use_tf: bool = True,
        lenses: Mapping[str, Lens] | None = None,
    ) -> None:
        self._base, self._use_tf = rig, use_tf
        self._rig_lenses = dict(lenses or {})
        self._rectified = set(rig.names) if rectified is True else set(rectified or ())
        self._mounted = dict(mounted or {})
        self._tree = FrameTree()
        self._infos: dict[str, Any] = {}  # the last that could be used
        self._seen: dict[str, Any] = {}  # the last that came
        self._changed: set[str] = set()
        self._refused: dict[str, str] = {}
        self._frames: dict[str, str] = {}  # what pictures name, else camera_info
        self._of_picture: set[str] = set()
        self._vehicle = ''  # what the odometry calls the vehicle
        self.rig = rig
        self.lenses: Mapping[str, Undistorter] = MappingProxyType({})
        self.cameras: Mapping[str, CameraCalibration] = MappingProxyType({})
        for name in rig.names:
            self._update(name)

    def seen_with(self, camera: str) -> tuple[CameraModel, Undistorter | None]:
        """Return what pictures of `camera` are seen with at present: size and K, and the lens to undistort, if any."""
        return self.rig[camera], self.lenses.get(camera)

    def take_info(self, camera: str, message: Any) -> bool:
        """Take size and intrinsics from a sensor_msgs/CameraInfo; return whether it can be used.

        What was in use before stays where it cannot, and `cameras` says why.
        Raises InvalidInput for a camera that the rig does not have.
        """
        model = self._base[camera]
        frame = frame_named(message)
        moved = bool(frame) and camera not in self._of_picture and self._frames.get(camera) != frame
        if moved:
            self._frames[camera] = frame
        known = self._seen.get(camera)
        if known is not None and not moved and same_calibration(known, message):
            return camera not in self._refused
        self._seen[camera] = message
        try:
            read_camera_info(message, camera, model.base_from_camera, camera in self._rectified)
            if camera in self._infos and not same_calibration(self._infos[camera], message):
                self._changed.add(camera)
            self._infos[camera] = message
            self._refused.pop(camera, None)
        except InvalidInput as error:
            self._refused[camera] = str(error)
        except (TypeError, ValueError, AttributeError) as error:  # numbers that are none
            self._refused[camera] = f'camera {camera}: CameraInfo cannot be read: {error}'
        self._update(camera)
        return camera not in self._refused

    def take_frame(self, camera: str, picture: Any) -> None:
        """Take note of the frame that a camera's pictures name; what they say goes before camera_info's."""
        frame = frame_named(picture)
        if not frame or (camera in self._of_picture and self._frames.get(camera) == frame):
            return
        self._of_picture.add(camera)
        if self._frames.get(camera) != frame:
            self._frames[camera] = frame
            if self._tree and self._use_tf:
                self._update(camera)

    def take_transforms(self, message: Any, *, static: bool = True) -> bool:
        """Take mountings from a tf2_msgs/TFMessage; return whether any camera's changed."""
        if not self._tree.add_message(message, static=static) or not self._use_tf:
            return False
        return self._remount()

    def take_vehicle_frame(self, frame: str) -> None:
        """Take note of what odometry calls the vehicle (child_frame_id), where it is not base_link."""
        frame = frame_name(frame)
        if frame and frame != self._vehicle:
            self._vehicle = frame
            if self._tree and self._use_tf:
                self._remount()

    def _remount(self) -> bool:
        before = self.rig
        for name in self._base.names:
            self._update(name)
        return any(
            not np.array_equal(before[name].base_from_camera, self.rig[name].base_from_camera)
            for name in self.rig.names
        )

    @property
    def frames(self) -> FrameTree:
        """The tree of what came by `take_transforms`."""
        return self._tree

    def _update(self, name: str) -> None:
        base = self._base[name]
        pose = base.base_from_camera
        mounted, note = self._mounted.get(name, (f'rig {self._base.name}', ''))
        elsewhere = ''
        shared = [camera for camera, frame in self._frames.items() if frame == self._frames.get(name)]
        if self._use_tf and self._tree and len(shared) > 1:
            mounted += f' (cameras {", ".join(shared)} all name the frame {self._frames[name]!r}, so tf does not count)'
        elif self._use_tf and self._tree and name in self._frames:
            try:
                vehicle = self._tree.base(list(self._frames.values()), filter(None, [self._vehicle]))
                found = mounting(self._tree, vehicle, self._frames[name])
                pose, mounted = found.base_from_camera, f'tf ({found.frame} in {vehicle})'
                note, elsewhere = found.note, _looks_elsewhere(self._base, name, pose, mounted)
            except InvalidInput:
                mounted += f' (tf does not connect its frame {self._frames[name]!r})'
        camera, lens = replace(base, base_from_camera=pose), self._rig_lenses.get(name)
        source = f'rig {self._base.name}'
        message = self._infos.get(name)
        if message is not None:
            read = read_camera_info(message, name, pose, name in self._rectified)
            camera, lens = read.model, read.lens
            source = f'camera_info {read.matrix}' + (' (rectified)' if name in self._rectified else '')
        lenses, cameras = dict(self.lenses), dict(self.cameras)
        if lens is None:
            lenses.pop(name, None)
        elif not (name in lenses and _same_lens(lenses[name], lens, camera)):
            lenses[name] = Undistorter(lens, camera.intrinsics)
        model = lens.model if lens is not None else ''
        changed = 'its camera_info has changed while driving; the newest is in use' if name in self._changed else ''
        notes = tuple(filter(None, (note, elsewhere, changed)))
        cameras[name] = CameraCalibration(camera, source, mounted, model, self._refused.get(name, ''), notes)
        self.lenses, self.cameras = MappingProxyType(lenses), MappingProxyType(cameras)
        self.rig = CameraRig(self._base.name, tuple(camera if c.name == name else c for c in self.rig))


def _looks_elsewhere(rig: CameraRig, camera: str, base_from_camera: FloatArray, source: str) -> str:
    """Return what to say where a camera [4, 4] looks elsewhere than the rig has the one of that name; '' where not.

    That is mostly the picture topic of another camera, given to this one.  source: what says how it looks.
    """
    axis = base_from_camera[:3, 2]
    alike = {other.name: float(other.base_from_camera[:3, 2] @ axis) for other in rig}
    if alike[camera] >= _SAME_WAY:
        return ''
    nearest = max(alike, key=alike.__getitem__)
    whose = f', where camera {nearest} looks: is it on the topic of that one?' if nearest != camera else ''
    by_rig, other = _direction(rig[camera].base_from_camera), _direction(base_from_camera)
    return f'rig {rig.name} has it looking to {by_rig}, {source} to {other}{whose}'


def _direction(base_from_camera: FloatArray) -> str:
    yaw_deg, pitch_deg, _ = viewing_angles(base_from_camera)
    return f'yaw {round(yaw_deg)}, pitch {round(pitch_deg)} degrees'


def _same_lens(known: Undistorter, lens: Lens, camera: CameraModel) -> bool:
    """Whether the tables that were made serve further (tf has moved the camera, say)."""
    return (
        (known.lens.model, known.lens.width, known.lens.height) == (lens.model, lens.width, lens.height)
        and np.array_equal(known.lens.matrix, lens.matrix)
        and np.array_equal(known.lens.coefficients, lens.coefficients)
        and np.array_equal(known.matrix, camera.intrinsics)
    )


def mount_by_frames(
    tree: FrameTree,
    pictures: Mapping[str, Any],
    infos: Mapping[str, Any],
    rectified: Collection[str] = (),
    vehicle: str = '',
) -> dict[str, tuple[CameraModel, str, str]]:
    """Return camera -> (the camera by its CameraInfo and the tf tree, what told where it is mounted, a note on that).

    pictures, infos: a message of each camera, None where none came; a picture's header.frame_id goes before its
    camera_info's.  vehicle: what the odometry calls the vehicle.
    Raises InvalidInput naming the first camera that lacks camera_info or is not connected to the vehicle.
    """
    frames = {}
    for camera, picture in pictures.items():
        frames[camera] = frame_named(picture) or frame_named(infos.get(camera))
    base = tree.base([frame for frame in frames.values() if frame], filter(None, [frame_name(vehicle)]))
    _refuse_shared(frames)
    found = {}
    for camera, frame in frames.items():
        try:
            place = mounting(tree, base, frame)
        except InvalidInput as error:
            raise InvalidInput(f'camera {camera}: {error}') from error
        info = infos.get(camera)
        if info is None:
            raise InvalidInput(f'camera {camera}: no camera_info tells its intrinsics')
        # Not turned by R: that is done where CameraInfo is taken into use.
        read = read_camera_info(info, camera, place.base_from_camera, camera in rectified)
        model = replace(read.model, base_from_camera=place.base_from_camera)
        found[camera] = (model, f'tf ({place.frame} in {base})', place.note)
    return found


def _refuse_shared(frames: Mapping[str, str]) -> None:
    """Refuse one frame of several cameras: a driver's default, which would mount them all at one place."""
    for frame in set(frames.values()) - {''}:
        cameras = [camera for camera, its in frames.items() if its == frame]
        if len(cameras) > 1:
            raise InvalidInput(
                f'cameras {", ".join(cameras)} all name the frame {frame!r}: give each driver a frame of its own'
            )


def shows_rectified(topic: str) -> bool:
    """Whether a picture topic's name says that its pictures are rectified: /left/image_rect_color, /rgb/rect/image."""
    return any(_RECTIFIED.search(part.lower()) for part in topic.split('/'))


def same_calibration(a: Any, b: Any) -> bool:
    """Whether two sensor_msgs/CameraInfo tell the same: size, part of the sensor, model and all matrices."""
    plain = ('width', 'height', 'distortion_model', 'binning_x', 'binning_y')
    if any(getattr(a, name, None) != getattr(b, name, None) for name in plain) or _roi(a) != _roi(b):
        return False
    numbers = ([np.asarray(getattr(m, name, ()), dtype=np.float64) for m in (a, b)] for name in 'kdrp')
    # Two messages with NaN at the same place are the same message.
    return all(np.array_equal(one, other, equal_nan=True) for one, other in numbers)


def frame_named(message: Any) -> str:
    """Return the frame that a message's header names; '' where nobody filled it in, and for None."""
    return frame_name(getattr(getattr(message, 'header', None), 'frame_id', ''))


def _roi(message: Any) -> tuple[int, ...]:
    roi = getattr(message, 'roi', None)
    return () if roi is None else tuple(int(getattr(roi, n)) for n in ('x_offset', 'y_offset', 'width', 'height'))


def check_aspect(image: Image, message: Any, camera: CameraModel) -> None:
    """Refuse a picture whose proportions are not its calibration's: its rays would point elsewhere."""
    height, width = image.shape[:2]
    # Of a raw picture, which may come shrunk; a file in a raw message, and a packet of video, may leave it unfilled.
    if hasattr(message, 'step') and message.width > 0 and message.height > 0:
        width, height = int(message.width), int(message.height)
    # One pixel of rounding is allowed for on small pictures.
    tolerance = _ASPECT_TOLERANCE + 1.0 / min(width, height)
    if abs(width * camera.height / (height * camera.width) - 1.0) > tolerance:
        raise InvalidInput(
            f'picture of {width}x{height}, but the camera is calibrated for {camera.width}x{camera.height} (other '
            'proportions); publish its camera_info or give the rig file that fits'
        )
