# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the cameras look: projections from calibration, the atlas they share, frustum culling.

Every camera draws into its own band of one atlas, bands below each other, so that one read-back
brings all pictures and each picture's rows lie contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vla_driver.types import CameraModel, CameraRig, FloatArray

#: Depth range of the cameras in metres.
NEAR_M, FAR_M = 0.2, 1000.0


def projection(camera: CameraModel) -> FloatArray:
    """Return [4, 4]: optical frame (x right, y down, z forward) to clip space.

    Row 0 of the picture is the lowest row in GL's window, so the y axis is not flipped anywhere: the
    frame buffer is read back as an image with the top row first.
    """
    k, w, h = camera.intrinsics, camera.width, camera.height
    out = np.zeros((4, 4))
    out[0, :3] = [2 * k[0, 0] / w, 2 * k[0, 1] / w, 2 * k[0, 2] / w - 1]
    out[1, 1:3] = [2 * k[1, 1] / h, 2 * k[1, 2] / h - 1]
    out[2, 2:] = [(FAR_M + NEAR_M) / (FAR_M - NEAR_M), -2 * FAR_M * NEAR_M / (FAR_M - NEAR_M)]
    out[3, 2] = 1.0
    return out


def world_from_base(pose: FloatArray) -> FloatArray:
    """Return [4, 4] of a planar pose [3]: x, y, yaw."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    return np.array([[cos, -sin, 0.0, pose[0]], [sin, cos, 0.0, pose[1]], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class View:
    """One camera at one moment.

    view_projection [4, 4]: world to clip; rays [3, 3]: normalised device (x, y, 1) to a world direction;
    eye, forward [3]: the camera's place and axis in the world; planes [4, 4]: rows (n, d) of the four
    sides of the frustum, n.p + d >= 0 inside.
    """

    view_projection: FloatArray
    rays: FloatArray
    eye: FloatArray
    forward: FloatArray
    planes: FloatArray


class ViewSet:
    """The rig's projections and atlas bands, computed once."""

    def __init__(self, rig: CameraRig) -> None:
        self.rig = rig
        self._mounts = np.stack([camera.base_from_camera for camera in rig])
        self._projections = np.stack([projection(camera) for camera in rig])
        # With depth z = 1, clip (x, y, w = 1) is a linear map of the ray (x, y, 1): invert it.
        self._pixel_rays = np.linalg.inv(self._projections[:, [0, 1, 3], :3])
        heights = [camera.height for camera in rig]
        tops = np.concatenate([[0], np.cumsum(heights)]).astype(int)
        self.atlas_size = (max(camera.width for camera in rig), int(tops[-1]))
        #: x, y, width, height of each camera's band.
        self.bands = [(0, int(top), camera.width, camera.height) for top, camera in zip(tops[:-1], rig, strict=True)]

    def at(self, ego_pose: FloatArray) -> list[View]:
        """Return each camera's view from `ego_pose` [3]."""
        poses = world_from_base(ego_pose) @ self._mounts
        rotations, eyes = poses[:, :3, :3], poses[:, :3, 3]
        camera_from_world = np.zeros_like(poses)
        camera_from_world[:, :3, :3] = rotations.transpose(0, 2, 1)
        camera_from_world[:, :3, 3] = -np.einsum('kji,kj->ki', rotations, eyes)
        camera_from_world[:, 3, 3] = 1.0
        matrices = self._projections @ camera_from_world
        # Sides of the frustum (Gribb and Hartmann): clip.w +- clip.x >= 0, clip.w +- clip.y >= 0.
        x, y, w = matrices[:, 0], matrices[:, 1], matrices[:, 3]
        planes = np.stack([w + x, w - x, w + y, w - y], axis=1)
        planes /= np.sqrt((planes[..., :3] ** 2).sum(axis=2, keepdims=True))
        rays = rotations @ self._pixel_rays
        return [View(*view) for view in zip(matrices, rays, eyes, rotations[:, :, 2], planes, strict=True)]


def visible(view: View, centres: FloatArray, radii: FloatArray, reach_m: float) -> npt.NDArray[np.intp]:
    """Return the indices of spheres (centres [N, 3], radii [N]) that may be seen, nearest first."""
    if not len(centres):
        return np.zeros(0, dtype=np.intp)
    inside = (view.planes[:, :3] @ centres.T + view.planes[:, 3:] > -radii).all(axis=0)
    offset = centres - view.eye
    distance = np.sqrt(np.einsum('ij,ij->i', offset, offset)) - radii
    chosen = np.flatnonzero(inside & (distance < reach_m) & (offset @ view.forward > -radii))
    return np.asarray(chosen[np.argsort(distance[chosen])])
