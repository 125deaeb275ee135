# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes to training batches: clips of consecutive ticks, drawn with weights, decoded, augmented.

Batch number s is a function of (seed, s) alone.  So a run resumes exactly by asking for the next number,
and batches can be prepared ahead in a thread without changing anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from vla_driver.data.episode import (
    FRONT_SIZE,
    LABEL_STRIDE,
    OTHER_SIZE,
    Episode,
    decode_picture,
    open_episode,
    stored_cameras,
    stored_labels,
    stored_size,
)
from vla_driver.data.features import open_features
from vla_driver.data.lines import told_by_line
from vla_driver.data.others import agent_labels, other_tracks
from vla_driver.data.prefetch import prepared_ahead
from vla_driver.data.reasons import reason_at, reason_labels
from vla_driver.data.told import SILENCE, USUAL_AGE_S, Told, told_at, told_inputs
from vla_driver.data.tracks import off_route_m
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.seeing.arrays import rig_geometry
from vla_driver.model.tokens import ClipBatch, ClipLabels, IntentInputs, ModelInputs
from vla_driver.sim.world.scene import SemanticClass
from vla_driver.types import CAMERA_NAMES, Image, InvalidInput, TurnCommand

#: Farther than this from its route's line, in metres, a turn is wide or cut, and the way back is worth learning.
_OFF_ROUTE_M = 0.35
#: Classes after those of SemanticClass: a traffic light that shows red (or amber), or green, to this camera.
RED_LAMP, GREEN_LAMP = 17, 18


def find_episodes(folders: Sequence[Path]) -> list[Path]:
    """Return the episode files under the folders, sorted; raise `InvalidInput` when there are none."""
    paths = sorted(path for folder in folders for path in Path(folder).rglob('*.npz') if not path.name.startswith('.'))
    if not paths:
        raise InvalidInput(f'no episodes (*.npz) under {", ".join(map(str, folders))}; collect some first')
    return paths


def is_held_out(name: str, every: int) -> bool:
    """Whether an episode or scene of this name is held out: one in about `every`, the same whatever else there is."""
    return zlib.crc32(name.encode()) % every == 0


def split_episodes(paths: Sequence[Path], every: int = 12) -> tuple[list[Path], list[Path]]:
    """Return (training, validation) episodes: one in about `every`, chosen by its name, of all towns alike.

    Whole episodes are held out, because neighbouring ticks look alike; the choice by name stays the same when
    more episodes are collected.
    """
    held_out = [path for path in paths if is_held_out(path.stem, every)]
    if not held_out and len(paths) > 1:
        held_out = [paths[-1]]
    if len(held_out) == len(paths) > 1:
        held_out = held_out[:-1]
    chosen = set(held_out) if len(paths) > 1 else set()
    return [path for path in paths if path not in chosen], [path for path in paths if path in chosen]


def tick_weights(episode: Episode) -> npt.NDArray[np.float64]:
    """Return [T] sampling weights: turns, recoveries, braking and hazards more often, waiting less often.

    Most ticks of a drive go straight on at constant speed or wait at a light; from those alone, a model
    learns little else.
    """
    speed, plan_speed = np.asarray(episode['speed']), np.asarray(episode['expert_speed'])
    heading = (np.asarray(episode['expert_curvature']) * plan_speed * 0.25).sum(axis=1)
    turning = np.abs(heading) > 0.25
    command = np.asarray(episode['command'])
    near_turn = ((command == TurnCommand.LEFT) | (command == TurnCommand.RIGHT)) & (episode['command_distance'] < 25.0)
    # Off its line on a straight road: the plan swerves back without turning in the end.
    recovering = ~turning & (np.abs(np.asarray(episode['expert_positions'])[:, :12, 1]).max(axis=1) > 0.25)
    if 'route' in episode:  # version 2
        # In turns, half a lane's play decides: DAgger drives that run wide there show the way back.
        recovering = recovering | (turning & (off_route_m(episode) > _OFF_ROUTE_M))
    braking = np.asarray(episode['expert_acceleration'])[:, :8].min(axis=1) < -1.0
    starting = (speed < 1.0) & (plan_speed[:, 12] > 2.0)
    waiting = (speed < 0.3) & (plan_speed.max(axis=1) < 0.5)
    hazard = np.asarray(episode['hazard']) > 0
    # Closing in on somebody who stands: rare, and what ends most drives.
    stopping = (speed > 1.5) & (plan_speed[:, 7:].min(axis=1) < 1.0) & (np.asarray(episode['hazard']) > 1)
    weight = 1.0 + 1.5 * turning + 0.5 * near_turn + 2.0 * recovering
    weight = weight + 1.5 * braking + 4.0 * starting + 6.0 * stopping + 1.0 * (hazard & ~waiting)
    return np.asarray(np.where(waiting, 0.5, weight), dtype=np.float64)


def mark_lit_lamps(label: npt.NDArray[np.uint8], image: Image) -> npt.NDArray[np.uint8]:
    """Return label [r, c] with TRAFFIC_LIGHT cells split by the lamp that image [r * 4, c * 4, 3] shows there.

    The semantic class says where a light is; its colour decides whether to drive.  Amber counts as red.
    Cells that show no lit lamp (housing, back side) keep TRAFFIC_LIGHT.
    """
    rows, columns = np.nonzero(label == SemanticClass.TRAFFIC_LIGHT)
    if not len(rows):
        return label
    height, width = label.shape
    cells = image.reshape(height, LABEL_STRIDE, width, LABEL_STRIDE, 3)[rows, :, columns].reshape(len(rows), -1, 3)
    red, green = cells[..., 0].astype(np.int16), cells[..., 1].astype(np.int16)
    redness = np.where(red > 120, red - green, 0).max(axis=1)
    greenness = np.where(green > 120, green - red, 0).max(axis=1)
    result = label.copy()
    result[rows, columns] = np.where(
        (redness > 50) & (redness >= greenness),
        RED_LAMP,
        np.where(greenness > 50, GREEN_LAMP, SemanticClass.TRAFFIC_LIGHT),
    )
    return result


def colour_tables(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a random look-up table [1, 256, 3] of brightness, contrast, gamma and tint, for one clip and camera set.

    Tints are mild: a red light must stay red.
    """
    levels = np.linspace(0.0, 1.0, 256)[:, None]
    gamma = np.exp(rng.uniform(-0.25, 0.25))
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, size=3)
    bias = rng.uniform(-0.06, 0.06)
    table = (levels**gamma - 0.5) * gain + 0.5 + bias
    return np.asarray(np.clip(np.rint(255 * table), 0, 255), dtype=np.uint8)[None]


class ClipDataset:
    """All clips of the given episodes."""

    def __init__(
        self,
        paths: Sequence[Path],
        config: VlaConfig,
        *,
        ticks: int = 6,
        augment: bool = True,
        features: Path | None = None,
        device: str = 'cpu',
        line_share: float = 0.0,
    ):
        """Open the episodes; pictures stay on disk until a clip needs them.

        ticks: length of a clip; augment: vary colours and drop nothing else (the model drops inputs itself);
        features: folder of patch features (data/features.py), given instead of pictures and dense labels;
        device: where the model that reads them computes (`open_features`); line_share: in so many of the clips that
        are drawn, and whose episodes have tracks, where to go is told by the way's line alone (data/lines.py).
        """
        for (width, height), names in config.camera_groups:
            for name in names:
                if name not in CAMERA_NAMES or stored_size(name) != (width, height):
                    raise InvalidInput(
                        f'model input {name} of {width}x{height}: episodes hold {", ".join(CAMERA_NAMES)}, the '
                        f'front camera at {FRONT_SIZE} and the others at {OTHER_SIZE}; choose image_sizes accordingly'
                    )
        self.config, self.ticks, self.augment = config, ticks, augment
        self.episodes: list[Episode] = [open_episode(path) for path in paths]
        self._line_share = line_share
        self._by_line = [told_by_line(episode) if line_share > 0.0 else None for episode in self.episodes]
        if line_share > 0.0 and not any(self._by_line):
            raise InvalidInput(
                f'line_share {line_share}: none of {len(paths)} episodes holds its route; collect them anew, or leave '
                'line_share 0'
            )
        self._tracks = [other_tracks(episode) for episode in self.episodes]
        self._cameras = [stored_cameras(episode) for episode in self.episodes]
        self._geometry = [rig_geometry(config, cameras) for cameras in self._cameras]
        self._features = (
            [
                open_features(features, path, len(e['stamp']), device)
                for path, e in zip(paths, self.episodes, strict=True)
            ]
            if features is not None
            else None
        )
        starts, weights = [], []
        for index, episode in enumerate(self.episodes):
            count = len(episode['stamp']) - ticks + 1
            if count < 1:
                continue
            starts.append(np.stack([np.full(count, index), np.arange(count)], axis=1))
            weights.append(np.convolve(tick_weights(episode), np.full(ticks, 1.0 / ticks), mode='valid'))
        if not starts:
            raise InvalidInput(f'none of {len(paths)} episodes has {ticks} ticks; collect longer ones')
        self.clips = np.concatenate(starts)
        total = np.concatenate(weights)
        self._cumulative = np.cumsum(total / total.sum())

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def num_ticks(self) -> int:
        """Ticks in all episodes."""
        return sum(len(episode['stamp']) for episode in self.episodes)

    @property
    def towns(self) -> list[str]:
        """The towns of all episodes, each once."""
        return sorted({str(episode['town']) for episode in self.episodes if 'town' in episode})

    def training_batch(self, seed: int, step: int, clips: int) -> ClipBatch:
        """Return batch number `step` of the endless sequence `seed`."""
        rng = np.random.default_rng([seed, step])
        return self.batch(self.draw(clips, rng), rng)

    def draw(self, clips: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Return clips (episode index, first tick) drawn by weight."""
        chosen = np.searchsorted(self._cumulative, rng.random(clips)).clip(max=len(self.clips) - 1)
        return [(int(index), int(start)) for index, start in self.clips[chosen]]

    def validation_batches(self, clips: int, limit: int) -> Iterator[ClipBatch]:
        """Yield the clips of `spread`, in batches of `clips`."""
        chosen = self.spread(limit)
        for first in range(0, len(chosen), clips):
            yield self.batch(chosen[first : first + clips], None)

    def spread(self, limit: int) -> list[tuple[int, int]]:
        """Return about `limit` clips (episode index, first tick), evenly spread over all and not overlapping."""
        stride = max(self.ticks, len(self.clips) // limit)
        return [(int(index), int(start)) for index, start in self.clips[::stride]]

    def batch(self, clips: Sequence[tuple[int, int]], rng: np.random.Generator | None) -> ClipBatch:
        """Decode clips (episode index, first tick); rng: for augmentation, None for none."""
        rows = [(episode, start + offset) for episode, start in clips for offset in range(self.ticks)]
        tables = [colour_tables(rng) if self.augment and rng is not None else None for _ in clips]
        patches = None
        if self._features is None:
            images, semantic, depth, present = self._pictures(rows, tables)
        else:
            images, semantic, depth, present = (), (), (), self._present(rows)
            patches = torch.from_numpy(np.stack([self._features[e][t] for e, t in rows])).float()
        rays = np.stack([self._geometry[episode][0] for episode, _ in clips])
        origins = np.stack([self._geometry[episode][1] for episode, _ in clips])

        told = self._told_where(clips, rng)

        def column(name: str, dtype: type = np.float32) -> torch.Tensor:
            return torch.from_numpy(np.stack([self.episodes[e][name][t] for e, t in rows]).astype(dtype))

        def where(name: str, dtype: type = np.float32) -> torch.Tensor:
            values = [told[row // self.ticks][name][t] for row, (_, t) in enumerate(rows)]
            return torch.from_numpy(np.stack(values).astype(dtype))

        inputs = ModelInputs(
            images=images,
            present=present,
            rays=torch.from_numpy(rays),
            origins=torch.from_numpy(origins),
            speed_mps=column('speed'),
            yaw_rate_rps=column('yaw_rate'),
            command=where('command', np.int64),
            command_distance_m=where('command_distance'),
            targets_m=where('targets'),
            patches=patches,
        )
        labels = ClipLabels(
            semantic=semantic,
            depth_m=depth,
            controls=torch.stack([column('expert_acceleration'), column('expert_curvature')], dim=-1),
            positions_m=column('expert_positions'),
            plan_speed_mps=column('expert_speed'),
            red_light_distance_m=column('red_light_distance'),
            lead_gap_m=column('lead_gap'),
            lead_speed_mps=column('lead_speed'),
            hazard=column('hazard', np.int64),
            agents=agent_labels([None if (tracks := self._tracks[e]) is None else tracks.at(t) for e, t in rows]),
            reason=reason_labels(
                [
                    None if (tracks := self._tracks[e]) is None else reason_at(self.episodes[e], tracks, t)
                    for e, t in rows
                ],
                self.config.camera_names,
            ),
            told=self._told(rows, rng) if self.config.intent else None,
        )
        return ClipBatch(inputs, labels, column('pose', np.float64), column('stamp', np.float64), self.ticks)

    def _told_where(self, clips: Sequence[tuple[int, int]], rng: np.random.Generator | None) -> list[Episode]:
        """Return for each clip what holds its turn command and targets: the episode, or what its way's line says."""
        if rng is None or self._line_share <= 0.0:
            return [self.episodes[episode] for episode, _ in clips]
        drawn = rng.random(len(clips)) < self._line_share
        return [
            line if by_line and (line := self._by_line[episode]) is not None else self.episodes[episode]
            for by_line, (episode, _) in zip(drawn, clips, strict=True)
        ]

    def _told(self, rows: Sequence[tuple[int, int]], rng: np.random.Generator | None) -> IntentInputs | None:
        """Return what the slow half may have said by each tick, of any age within its time to live."""
        ttl_s = self.config.intent_ttl_s
        ages = np.full(len(rows), USUAL_AGE_S) if rng is None else rng.uniform(0.0, ttl_s, len(rows))
        found: list[Told] = []
        for (e, t), age_s in zip(rows, ages, strict=True):
            tracks = self._tracks[e]
            if tracks is None:
                found.append(SILENCE)
                continue
            names, cameras = self.config.camera_names, self._cameras[e]
            found.append(told_at(self.episodes[e], tracks, cameras, names, t, float(age_s), ttl_s))
        return told_inputs(found)

    def _pictures(self, rows: Sequence[tuple[int, int]], tables: Sequence[npt.NDArray[np.uint8] | None]) -> Any:
        """Return images, semantic labels and depths per camera group, and present [B, C]."""
        groups = self.config.camera_groups
        images, semantic, depth, present = [], [], [], []
        for (width, height), names in groups:
            grid = (len(rows), len(names), height // LABEL_STRIDE, width // LABEL_STRIDE)
            pixels = np.zeros((len(rows), len(names), height, width, 3), dtype=np.uint8)
            labels, depths = np.zeros(grid, dtype=np.uint8), np.zeros(grid, dtype=np.float32)
            there = np.zeros((len(rows), len(names)), dtype=bool)
            # The blind control is given no picture, so none is decoded.
            for row, (index, tick) in enumerate([] if self.config.blind else rows):
                episode = self.episodes[index]
                for slot, name in enumerate(names):
                    picture = decode_picture(episode, tick, CAMERA_NAMES.index(name))
                    if picture is None:
                        continue
                    there[row, slot] = True
                    label, distance = stored_labels(episode, tick, name)
                    labels[row, slot] = mark_lit_lamps(label, picture)
                    depths[row, slot] = distance
                    table = tables[row // self.ticks]
                    pixels[row, slot] = picture if table is None else cv2.LUT(picture, table)
            images.append(torch.from_numpy(pixels))
            semantic.append(torch.from_numpy(labels).long())
            depth.append(torch.from_numpy(depths))
            present.append(there)
        return tuple(images), tuple(semantic), tuple(depth), torch.from_numpy(np.concatenate(present, axis=1))

    def _present(self, rows: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Return [B, C] bool: which cameras have a picture."""
        order = [CAMERA_NAMES.index(name) for name in self.config.camera_names]
        offsets = np.stack([self.episodes[e]['jpeg_offsets'][t][order] for e, t in rows])
        return torch.from_numpy(offsets[..., 1] > offsets[..., 0])

    def controls(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """Return the expert's controls [n, T, 2] of all ticks and their sampling weights [n]."""
        acceleration = np.concatenate([episode['expert_acceleration'] for episode in self.episodes])
        curvature = np.concatenate([episode['expert_curvature'] for episode in self.episodes])
        weights = np.concatenate([tick_weights(episode) for episode in self.episodes])
        return np.stack([acceleration, curvature], axis=-1), weights


def batches_ahead(
    dataset: ClipDataset, seed: int, first: int, clips: int, stride: int = 1
) -> Generator[ClipBatch, None, None]:
    """Yield batches number first, first + stride, ... for ever, some prepared ahead."""
    return prepared_ahead(lambda number: dataset.training_batch(seed, number, clips), first, stride)
