# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The latency bench's pictures and figures.  The processes are `commands/evaluate/latency.py`'s.

What is sent should cost what a real camera's pictures cost: six views of 1600x900 whose JPEGs are as large as
those of a road (nuScenes: about 160 kB at its own quality; at quality 90 and 4:2:0 about 350 kB).  Flat or noisy test
pictures would decode faster or slower than the real thing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

#: What is sent: JPEGs, raw pictures, and raw pictures without the shared-memory profile.
PICTURES: Final = ('jpeg', 'raw', 'raw-default')


@dataclass(frozen=True)
class Condition:
    """One run.  pictures: of PICTURES; load: busy processes beside it; engine: '' for the planner's own choice."""

    pictures: str
    rate_hz: float
    load: int
    engine: str
    precision: str

    @property
    def transport(self) -> str:
        """How the planner takes the pictures."""
        return 'compressed' if self.pictures == 'jpeg' else 'raw'

    @property
    def shared_memory(self) -> bool:
        """Whether the shared-memory profile is used."""
        return self.pictures != 'raw-default'

    def describe(self) -> str:
        """Return a few words: 'raw at 10 Hz, beside 2 busy processes'."""
        words = {'jpeg': 'JPEG', 'raw': 'raw', 'raw-default': 'raw, default transports'}[self.pictures]
        load = f', beside {self.load} busy process{"es" if self.load > 1 else ""}' if self.load else ''
        engine = ''.join(f', {word}' for word in (self.engine, self.precision) if word not in ('', 'auto'))
        return f'{words} at {self.rate_hz:g} Hz{load}{engine}'


def conditions_of(
    pictures: Sequence[str],
    rates_hz: Sequence[float],
    loads: Sequence[int],
    engines: Sequence[str],
    precisions: Sequence[str],
) -> list[Condition]:
    """Return every combination, those that differ by load or engine alone beside each other."""
    each = itertools.product(pictures, rates_hz, loads, engines, precisions)
    return list(dict.fromkeys(itertools.starmap(Condition, each)))


def engine_of(values: Mapping[str, Mapping[str, str]]) -> dict[str, str | None]:
    """Return what a planner's diagnostics say of the engine that ran; None for what they do not say."""
    names = ('engine', 'provider', 'precision', 'threads')
    told = next((found for name, found in values.items() if name.startswith('planner') and 'engine' in found), {})
    return {name: told.get(name) for name in names}


def limit_of(row: Mapping[str, Any]) -> str:
    """Return why a run's sets did not all get a plan, in words, or nothing where the rate was held.

    row: the figures of a run, with `camera_rate_hz`.  What a set takes is what the planner does one after the other;
    waiting for its turn and for DDS is not part of it.
    """
    rate_hz, period_ms = row['camera_rate_hz'], 1e3 / row['camera_rate_hz']
    if row['rate_hz'] >= HELD * rate_hz:
        return ''
    works = {name: stage['p50'] for name, stage in row['stages_ms'].items() if name not in _NO_WORK}
    if not works:
        return 'no plan says what its time went into'
    takes_ms, largest = sum(works.values()), max(works, key=lambda name: works[name])
    waits = '' if takes_ms > 0.9 * period_ms else '; so the cores were busy with other things'
    return (
        f'a set takes the planner {takes_ms:.0f} ms, most of it {largest} ({works[largest]:.0f} ms), '
        f'and comes every {period_ms:.0f} ms{waits}'
    )


#: A rate counts as held from this share of the pictures' on: first and last plans are not whole periods apart.
HELD: Final = 0.99
_NO_WORK: Final = ('wait', 'total', 'publish and receive')


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
        'sets': dict(recording.sets),
        'plans_counted': len(latency),
        'sets_sent': ticks,
        'images_sent': ticks * len(CAMERA_NAMES),
        'images_lost': sum(lost.values()),
        'images_lost_by_camera': lost,
        'fallbacks': sum(p.plan.reason != '' for p in recording.plans),
    }
