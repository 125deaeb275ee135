# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of foreground pairs (data/foreground/masks.py) from nuScenes and from simulated episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vla_driver.data.episode import episode_key, open_episode, stored_jpeg
from vla_driver.data.foreground.frames import EpisodeFrames
from vla_driver.data.foreground.masks import Mask, PairRecord, PairWriter
from vla_driver.data.nuscenes.tables import Sample
from vla_driver.observation.decode import decode_compressed
from vla_driver.types import CAMERA_NAMES, CameraModel, Image, InvalidInput


def _record(image: str, mask_path: str, mask: Mask, camera: CameraModel) -> PairRecord:
    return PairRecord(
        image,
        mask_path,
        camera.width,
        camera.height,
        camera.intrinsics.tolist(),
        camera.base_from_camera.tolist(),
        round(float((mask > 0).mean()), 4),
    )


def convert_nuscenes(
    source: Path,
    samples: Iterable[Sample],
    make_mask: Callable[[Image], Mask],
    out: Path,
    settings: Mapping[str, Any] | None = None,
    advance: Callable[[], object] = lambda: None,
) -> int:
    """Write the masks of the samples' pictures to `out` and return how many samples were added.

    Samples that `out` already holds are skipped.  Raises `InvalidInput` for a picture that is missing, or of
    another size than its table says.
    """
    writer = PairWriter(out, source='nuscenes', images=str(source.resolve()), settings=settings)
    added = 0
    for sample in samples:
        if sample.token not in writer.done:
            records = {}
            for name, picture in sample.pictures.items():
                path = source / picture.file
                if not path.is_file():
                    raise InvalidInput(
                        f'{path}: the picture of {name} in sample {sample.token} is missing; unpack all files of '
                        'nuScenes, or use --limit'
                    )
                image = decode_compressed(path.read_bytes())
                if image.shape[:2] != (picture.camera.height, picture.camera.width):
                    raise InvalidInput(
                        f'{path} is {image.shape[1]}x{image.shape[0]}, its table says {picture.camera.width}x'
                        f'{picture.camera.height}'
                    )
                mask = make_mask(image)
                records[name] = _record(
                    picture.file, writer.write_mask(f'{sample.token}/{name}', mask), mask, picture.camera
                )
            if not records:
                raise InvalidInput(f'sample {sample.token} of {source} has no pictures in its tables')
            writer.add(sample.token, sample.scene, records)
            added += 1
        advance()
    return added


def convert_episodes(
    episodes: Iterable[Path], out: Path, every: int = 1, advance: Callable[[], object] = lambda: None
) -> int:
    """Write pictures and masks of every `every`-th tick of the episodes to `out`; return how many were added."""
    writer = PairWriter(out, source='simulator', images='.', settings={'every': every})
    added = 0
    for path in episodes:
        frames, episode = EpisodeFrames(path), open_episode(path)
        place = episode_key(path)
        for tick in range(0, len(frames), every):
            frame_id = f'{place}/{tick:05d}'
            if frame_id in writer.done:
                continue
            records = {}
            for name, view in frames.frame(tick).views.items():
                jpeg = stored_jpeg(episode, tick, CAMERA_NAMES.index(name))
                assert jpeg is not None  # or there would be no view
                image = f'images/{frame_id}/{name}.jpg'
                target = out / image
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(jpeg.tobytes())
                records[name] = _record(
                    image, writer.write_mask(f'{frame_id}/{name}', view.mask), view.mask, view.camera
                )
            if records:
                writer.add(frame_id, place, records)
                added += 1
        advance()
    return added
