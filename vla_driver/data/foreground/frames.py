# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where the pruner's training frames come from: episodes of the simulator, and folders of foreground pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from vla_driver.data.clips import find_episodes, is_held_out
from vla_driver.data.episode import decode_picture, open_episode, stored_cameras, stored_labels
from vla_driver.data.features import open_features
from vla_driver.data.foreground.masks import Frame, PairFolder, View, is_pairs, mask_of_semantic
from vla_driver.types import CAMERA_NAMES, InvalidInput


class FrameSource(Protocol):
    """Frames by number; `scenes` says to which drive each belongs."""

    @property
    def scenes(self) -> list[str]:
        """The scene of each frame."""
        ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> Frame:
        """Read one frame."""
        ...


class EpisodeFrames:
    """Every tick of an episode; masks come from its semantic labels."""

    def __init__(self, path: Path, features: Path | None = None, device: str = 'cpu'):
        """features: folder of patch features (data/features.py), for a model on `device`; they go with each frame."""
        self.path, self._episode = path, open_episode(path)
        self._cameras = stored_cameras(self._episode)
        self._features = open_features(features, path, len(self), device) if features is not None else None

    @property
    def scenes(self) -> list[str]:
        """The episode's name, for every tick."""
        return [self.path.stem] * len(self)

    def __len__(self) -> int:
        return len(self._episode['stamp'])

    def frame(self, index: int) -> Frame:
        """Return tick `index`; cameras that saw nothing are left out."""
        views = {}
        for name, camera in self._cameras.items():
            image = decode_picture(self._episode, index, CAMERA_NAMES.index(name))
            if image is None:
                continue
            label, _ = stored_labels(self._episode, index, name)
            views[name] = View(camera, image, mask_of_semantic(label))
        patches = None if self._features is None else np.asarray(self._features[index])
        return Frame(f'{self.path.stem}/{index:05d}', self.path.stem, views, patches)


class JoinedFrames:
    """Several sources one after the other, or a part of them."""

    def __init__(self, sources: Sequence[FrameSource], places: Sequence[tuple[int, int]] | None = None):
        """places: (source, number) of each frame; all by default."""
        self._sources = list(sources)
        self._places = (
            [(s, i) for s, source in enumerate(sources) for i in range(len(source))] if places is None else list(places)
        )
        scenes = [source.scenes for source in self._sources]
        self.scenes = [scenes[s][i] for s, i in self._places]

    def __len__(self) -> int:
        return len(self._places)

    def frame(self, index: int) -> Frame:
        """Return frame `index`."""
        source, number = self._places[index]
        return self._sources[source].frame(number)

    def split(self, every: int = 12) -> tuple[JoinedFrames, JoinedFrames]:
        """Return (training, validation): one scene in about `every` is held out, chosen by its name.

        As in data/clips.py: whole drives, because neighbouring frames look alike.
        """
        names = sorted(set(self.scenes))
        held = {name for name in names if is_held_out(name, every)}
        if not held and len(names) > 1:
            held = {names[-1]}
        if len(held) == len(names):
            held.discard(names[0])
        parts = [
            [place for place, scene in zip(self._places, self.scenes, strict=True) if (scene in held) is wanted]
            for wanted in (False, True)
        ]
        return JoinedFrames(self._sources, parts[0]), JoinedFrames(self._sources, parts[1])


def episodes_under(folders: Sequence[Path]) -> list[Path]:
    """Return the episodes among the folders that hold no pairs; none is no error."""
    plain = [folder for folder in folders if not is_pairs(folder)]
    return find_episodes(plain) if plain else []


def open_frames(folders: Sequence[Path], features: Path | None = None, device: str = 'cpu') -> JoinedFrames:
    """Return all frames under the folders, each of episodes or of pairs (data/foreground/masks.py).

    features, device: as in `EpisodeFrames`.
    Raises `InvalidInput` for a folder that does not exist or holds neither.
    """
    for folder in folders:
        if not folder.is_dir():
            raise InvalidInput(f'{folder} is no folder; give one of episodes (*.npz) or of foreground pairs')
    sources: list[FrameSource] = [EpisodeFrames(path, features, device) for path in episodes_under(folders)]
    sources += [PairFolder(folder) for folder in folders if is_pairs(folder)]
    return JoinedFrames(sources)
