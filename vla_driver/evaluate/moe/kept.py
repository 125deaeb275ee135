# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What was timed and trained already, on disk: a comparison of hours goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vla_driver import __version__
from vla_driver.evaluate.moe.run import MoeRun, Trained
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import FloatArray

_FIGURES = 'trained.json'


class Kept:
    """A folder for one run: the pace that was measured, and models that are trained to their end."""

    def __init__(self, run: MoeRun, models: Mapping[str, VlaModel], episodes: Sequence[Path]) -> None:
        self._folder = run.work / 'kept' / _digest(run, models, episodes)

    def pace(self) -> dict[str, FloatArray] | None:
        """Return the seconds of training steps of each model that were measured, None where none were."""
        file = self._folder / 'pace.json'
        if not file.exists():
            return None
        return {name: np.array(seconds) for name, seconds in json.loads(file.read_text(encoding='utf-8')).items()}

    def keep_pace(self, seconds: Mapping[str, FloatArray]) -> None:
        """Keep what `pace` returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({name: values.tolist() for name, values in seconds.items()})
        (self._folder / 'pace.json').write_text(text, encoding='utf-8')

    def has(self, name: str) -> bool:
        """Whether a model was trained."""
        return (self._folder / name).is_dir()

    def find(self, name: str) -> Trained | None:
        """Return a model that was trained, None where it was not."""
        folder = self._folder / name
        if not self.has(name):
            return None
        found = json.loads((folder / _FIGURES).read_text(encoding='utf-8'))
        loads = {layer: np.array(values) for layer, values in found['loads'].items()}
        return Trained(
            load_model(folder),
            found['steps'],
            found['seconds'],
            found['figures'],
            np.array(found['losses']),
            (found['loads_at'], loads),
        )

    def keep(self, name: str, trained: Trained) -> None:
        """Keep what `find` returns; it is there as a whole, or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        at, loads = trained.loads
        entries = {
            'steps': trained.steps,
            'seconds': trained.seconds,
            'figures': trained.figures,
            'losses': trained.losses.tolist(),
            'loads_at': at,
            'loads': {layer: values.tolist() for layer, values in loads.items()},
        }
        with tempfile.TemporaryDirectory(dir=self._folder, prefix='.') as made:
            folder = Path(made) / name
            trained.model.save_pretrained(folder)
            (folder / _FIGURES).write_text(json.dumps(entries), encoding='utf-8')
            folder.rename(self._folder / name)


def _digest(run: MoeRun, models: Mapping[str, VlaModel], episodes: Sequence[Path]) -> str:
    """Return a hash of all that training depends on: weights at the start, episodes, length, batches."""
    digest = hashlib.sha256()
    for model in models.values():
        digest.update(model.config.to_json_string().encode())
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode() + value.numpy().tobytes())
    length = [run.steps, run.minutes, run.clips, run.ticks, run.seed, run.learning_rate, run.validate_clips]
    named = [f'{path.parent.name}/{path.name}' for path in episodes]
    digest.update(json.dumps([__version__, length, named]).encode())
    return digest.hexdigest()[:20]
