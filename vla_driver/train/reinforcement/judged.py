# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Clips with the scenes in which plans from their ticks are judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vla_driver.data.clips import ClipDataset
from vla_driver.model.native.acting.flow import FlowDecoder
from vla_driver.model.tokens import ClipBatch
from vla_driver.train.reinforcement.rewards import NAMES, Scores, judge
from vla_driver.train.reinforcement.scene import Plans, SceneReader, SceneState


@dataclass(frozen=True)
class JudgedBatch(ClipBatch):
    """A batch of clips; scenes [B]: of each row; episode [B]: the number of the drive it is from."""

    scenes: tuple[SceneState, ...] = ()
    episode: tuple[int, ...] = ()


class JudgedClips:
    """A dataset of clips, all of whose episodes have tracks, with their scenes."""

    def __init__(self, dataset: ClipDataset) -> None:
        self.dataset = dataset
        self._readers: dict[int, SceneReader] = {}

    def training_batch(self, seed: int, step: int, clips: int) -> JudgedBatch:
        """Return batch number `step` of the endless sequence `seed`."""
        rng = np.random.default_rng([seed, step])
        return self._batch(self.dataset.draw(clips, rng), rng)

    def validation_batches(self, clips: int, limit: int) -> Iterator[JudgedBatch]:
        """Yield at most about `limit` clips, evenly spread over all, in batches of `clips`."""
        chosen = self.dataset.spread(limit)
        for first in range(0, len(chosen), clips):
            yield self._batch(chosen[first : first + clips], None)

    def _batch(self, clips: Sequence[tuple[int, int]], rng: np.random.Generator | None) -> JudgedBatch:
        rows = [(episode, start + offset) for episode, start in clips for offset in range(self.dataset.ticks)]
        scenes = tuple(self._reader(episode).at(tick) for episode, tick in rows)
        return JudgedBatch(
            **vars(self.dataset.batch(clips, rng)), scenes=scenes, episode=tuple(episode for episode, _ in rows)
        )

    def _reader(self, episode: int) -> SceneReader:
        if episode not in self._readers:
            self._readers[episode] = SceneReader(self.dataset.episodes[episode])
        return self._readers[episode]


@torch.no_grad()
def judge_controls(flow: FlowDecoder, controls: Tensor, batch: JudgedBatch) -> dict[str, Tensor]:
    """Return the figures of `rewards.Scores` by name, each [B, G], of normalised controls [B, G, T, 2]."""
    speed = batch.inputs.speed_mps.to(controls.device).unsqueeze(1).expand(controls.shape[:2])
    driven = flow.rollout(controls.float(), speed)
    curvature = flow.denormalise(controls.float())[..., 1]
    plans = zip(*map(_array, (driven.positions_m, driven.yaw_rad, driven.speed_mps, curvature)), strict=True)
    scores = [judge(scene, Plans(*parts)) for scene, parts in zip(batch.scenes, plans, strict=True)]
    return {name: _tensor(scores, name).to(controls.device) for name in NAMES}


def _array(values: Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(values.cpu().double().numpy())


def _tensor(scores: Sequence[Scores], name: str) -> Tensor:
    return torch.from_numpy(np.stack([getattr(row, name) for row in scores])).float()
