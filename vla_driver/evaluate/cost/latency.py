# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The latency bench's pictures and figures.  The processes are `commands/evaluate/latency.py`'s.

What is sent should cost what a real camera's pictures cost: six views of 1600x900 whose JPEGs are as large as
those of a road (nuScenes: about 160 kB at its own quality; at quality 90 and 4:2:0 about 350 kB).  Flat or noisy test
pictures would decode faster or slower than the real thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from vla_driver.bag.recording import ReceivedPlan, Recording, rate_hz, spread
from vla_driver.observation.decode import encode_jpeg
from vla_driver.types import CAMERA_NAMES, CameraModel, CameraRig, Image, InvalidInput

FloatPicture = npt.NDArray[np.float32]

SIZE: Final = (1600, 900)
TARGET_KB: Final = 330.0
#: Different pictures per camera, sent in turn.
FRAMES: Final = 8
#: Plans of the first seconds are left out: caches, discovery and the model's first passes.
WARM_UP_S: Final = 3.0


def _layers(base: Image, seed: int) -> tuple[FloatPicture, FloatPicture]:
    """Return `base` [H, W, 3] at the bench's size, and fine texture for it [H, W, 1]."""
    rng = np.random.default_rng(seed)
    large = cv2.resize(base, SIZE, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    fine = rng.standard_normal((SIZE[1], SIZE[0]), dtype=np.float32)
    # Asphalt and leaves have detail at every scale, the sky (bright) has little.
    texture = fine + 2.0 * cv2.GaussianBlur(fine, (0, 0), 1.2) + 4.0 * cv2.GaussianBlur(fine, (0, 0), 3.0)
    shade = np.clip(1.3 - large.mean(axis=2) / 200.0, 0.15, 1.0)
    return large, (shade * texture)[..., None]


def _jpeg(large: FloatPicture, texture: FloatPicture, strength: float) -> bytes:
    return encode_jpeg(np.clip(large + strength * texture, 0, 255).astype(np.uint8), 90, '420')


def road_like_jpeg(base: Image, seed: int, strength: float) -> bytes:
    """Return a 1600x900 JPEG (quality 90, 4:2:0) with the content of `base` and fine texture of a given strength."""
    return _jpeg(*_layers(base, seed), strength)


def texture_strength(base: Image, seed: int, target_kb: float = TARGET_KB) -> float:
    """Return the strength at which `road_like_jpeg` gives about `target_kb`."""
    large, texture = _layers(base, seed)
    low, high = 0.0, 40.0
    middle = 0.5 * (low + high)
    for _ in range(7):
        kilobytes = len(_jpeg(large, texture, middle)) / 1000.0
        if abs(kilobytes - target_kb) < 0.03 * target_kb:
            break
        low, high = (middle, high) if kilobytes < target_kb else (low, middle)
        middle = 0.5 * (low + high)
    return middle


def write_frames(folder: Path, bases: Mapping[str, Sequence[Image]], frames: int = FRAMES) -> float:
    """Write <camera>_<k>.jpg for every camera of the six and return their mean size in kB.

    bases: camera -> pictures of any size, used in turn.  Raises InvalidInput for a camera without any.
    """
    sizes = []
    for number, camera in enumerate(CAMERA_NAMES):
        pictures = bases.get(camera, ())
        if not len(pictures):
            raise InvalidInput(f'latency bench: no picture of camera {camera} to begin with')
        strength = texture_strength(pictures[0], seed=100 * number)
        for k in range(frames):
            data = road_like_jpeg(pictures[k % len(pictures)], 100 * number + k, strength)
            (folder / f'{camera}_{k}.jpg').write_bytes(data)
            sizes.append(len(data) / 1000.0)
    return float(np.mean(sizes))


def procedural_bases(seed: int = 0) -> dict[str, list[Image]]:
    """Return a plain street per camera (sky, houses, road), for machines without the sample bag."""
    bases = {}
    for number, camera in enumerate(CAMERA_NAMES):
        rng = np.random.default_rng(seed + number)
        picture = np.full((192, 320, 3), (96, 96, 100), np.uint8)
        picture[:80] = np.linspace(235, 190, 80)[:, None, None].astype(np.uint8)
        for _ in range(14):
            x, top = int(rng.integers(0, 300)), int(rng.integers(15, 70))
            picture[top:95, x : x + int(rng.integers(15, 60))] = rng.integers(40, 200, 3)
        cv2.line(picture, (160, 90), (60, 191), (220, 220, 220), 2)
        cv2.line(picture, (160, 90), (260, 191), (220, 220, 220), 2)
        bases[camera] = [picture]
    return bases


def bench_rig(rig: CameraRig) -> CameraRig:
    """Return the rig as seen at the bench's size: the same lenses, cut to 16:9."""
    width, height = SIZE
    cameras = []
    for camera in rig:
        scale = width / camera.width
        intrinsics = camera.intrinsics.copy()
        intrinsics[:2, :2] *= scale
        intrinsics[:2, 2] = width / 2, height / 2
        cameras.append(CameraModel(camera.name, width, height, intrinsics, camera.base_from_camera))
    return CameraRig(f'{rig.name}-bench', tuple(cameras))


def figures(
    recording: Recording,
    ticks: int,
    frames_received: Mapping[str, int],
    warm_up_s: float = WARM_UP_S,
    *,
    silence_allowed: bool = False,
) -> dict[str, Any]:
    """Return the figures of one run.

    ticks: sets of six images that were sent; frames_received: camera -> images that reached the planner.
    Latency counts plans after the warm-up, from the anchor image's publication to the path's reception.
    Where no plan came, raises InvalidInput, or with `silence_allowed` says so: a rate of 0, no latency, and how many
    images were lost (a transport that delivers too little is a finding, not a failure of the bench).
    """
    if not recording.plans and not silence_allowed:
        raise InvalidInput('latency bench: the planner published nothing')
    first = min((plan.plan.stamp_s for plan in recording.plans), default=0.0)
    counted: list[ReceivedPlan] = [p for p in recording.plans if p.plan.stamp_s >= first + warm_up_s]
    latency = [p.latency_ms for p in counted if p.latency_ms is not None]
    if not latency and not silence_allowed:
        raise InvalidInput(f'latency bench: no plan after the warm-up of {warm_up_s:g} s; run it longer')
    stages: dict[str, list[float]] = {}
    for received in counted:
        for name, ms in received.plan.timing_ms.items():
            stages.setdefault(name, []).append(ms)
        total = received.plan.timing_ms.get('total')
        if total is not None and received.latency_ms is not None:
            stages.setdefault('publish and receive', []).append(received.latency_ms - total)
    lost = {camera: ticks - frames_received.get(camera, 0) for camera in CAMERA_NAMES}
    return {
        'rate_hz': rate_hz(counted),
        'camera_to_path_ms': spread(latency) if latency else None,
        'stages_ms': {name: spread(values) for name, values in stages.items()},
        'plans': len(recording.plans),
        'plans_counted': len(latency),
        'sets_sent': ticks,
        'images_sent': ticks * len(CAMERA_NAMES),
        'images_lost': sum(lost.values()),
        'images_lost_by_camera': lost,
        'fallbacks': sum(p.plan.reason != '' for p in recording.plans),
    }
