# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""PlanPruner: keeps the set of tokens from which the model reads most nearly what it reads from all of them.

What the native model reads off its panorama is linear in the tokens up to one activation, so the contribution of every
token to it is known exactly, before anything is dropped: J_i = sum_g spread_ig (W_g squeeze(v_i) + s_g).  What matters
of it is how it moves the plan: the contributions are projected onto the few directions in which steering and votes for
anchors react, as measured over drives (train/pruning/plan_pruner.py).  A set S of kept tokens then changes the plan by

    E(S) = | sum of J_i over the dropped ones |^2

and the choice goes greedily: from all tokens, the one whose leaving changes least leaves next; or, where fewer than a
third stay, from none, the one that mends most comes next (`choosing.nearest_set`).  Two tokens of the same road are
redundant by themselves: once one of them is there, the other mends little.  A score of single tokens, such as
ReconPruner's, cannot say that.

It holds for one checkpoint: the weights that it was measured with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig

from vla_driver.model.checkpoint import NATIVE_TYPE
from vla_driver.model.config import ViewConfig
from vla_driver.model.files import check_file, read_header
from vla_driver.model.layers.panorama import Spread
from vla_driver.model.pruning.base import KeptTokens, least_per_camera
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.choosing import nearest_set
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

MODEL_TYPE = 'vla_driver_plan_pruner'
_CONFIG, _WEIGHTS = 'config.json', 'model.safetensors'


class PlanPruner(nn.Module):
    """See the module's docstring.  `name` is what the command line and the ROS parameter call it."""

    name = 'plan'

    def __init__(self, view: ViewConfig, width: int, directions: int, notes: Mapping[str, Any] | None = None):
        """width: of the tokens; directions: in which the plan reacts; notes: how it was measured."""
        super().__init__()
        self.view, self.notes = view, dict(notes or {})
        self.spread = Spread(view)
        places = self.spread.rows * self.spread.columns
        self.squeeze = nn.Linear(width, view.channels)
        #: [C, G * R]: what a channel at a place does to each direction; [G, R]: what it does that a place is seen.
        self.reads = nn.Parameter(torch.zeros(view.channels, places * directions))
        self.seen = nn.Parameter(torch.zeros(places, directions))

    def contributions(self, tokens: VisualTokens) -> Tensor:
        """Return J [B, N, R] of tokens [B, N, D], float32; 0 for tokens that are not valid.

        Raises `InvalidInput` for tokens of another width than it was measured for.
        """
        width = self.squeeze.in_features
        if tokens.features.shape[-1] != width:
            raise InvalidInput(
                f'tokens of width {tokens.features.shape[-1]}, but this PlanPruner was measured for width {width}: '
                'use one of this checkpoint (vla_driver train plan-pruner)'
            )
        with torch.autocast(tokens.features.device.type, enabled=False):
            return self.contributed(tokens.features, self.spread(tokens.rays, tokens.origins), tokens.valid)

    def contributed(self, features: Tensor, spread: Tensor, valid: Tensor) -> Tensor:
        """Return `contributions` of features [B, N, D] that spread [B, N, G] over the panorama's places."""
        dtype = self.squeeze.weight.dtype
        spread = spread.to(dtype) * valid.unsqueeze(-1).to(dtype)
        said = (self.squeeze(features.to(dtype)) @ self.reads).unflatten(-1, self.seen.shape) + self.seen
        return (spread.unsqueeze(2) @ said).squeeze(2).float()

    @torch.no_grad()
    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """Return the tokens within the budget that change the plan least (`Pruner`); text is not looked at.

        The scores are how much the plan would change without a token alone.
        """
        parts = self.contributions(tokens)
        camera, least = tokens.camera.cpu().numpy(), least_per_camera(tokens, budget)
        total = budget.total(len(camera))
        with torch.autocast(parts.device.type, enabled=False):
            gram = (parts @ parts.mT).cpu().numpy()
        index = torch.tensor([nearest_set(row, camera, least, total).tolist() for row in gram])
        return KeptTokens(index.to(parts.device), parts.square().sum(dim=-1))

    def check(self, config: PretrainedConfig) -> None:
        """Raise `InvalidInput` unless this pruner can be of a checkpoint of `config`."""
        if config.model_type != NATIVE_TYPE:
            raise InvalidInput(f'a PlanPruner is of a native checkpoint, not of a {config.model_type} one')
        names = ('azimuth_deg', 'elevation_deg', 'cell_deg', 'eye_m', 'reach_m', 'channels', 'coverage')
        ours, theirs = ([_plain(getattr(view, name)) for name in names] for view in (self.view, config.view_config))
        if ours != theirs or config.language_config.hidden_size != self.squeeze.in_features:
            raise InvalidInput(
                'this PlanPruner was measured for another panorama or width of tokens than the checkpoint has: measure '
                'one for it (vla_driver train plan-pruner --model CKPT)'
            )

    def check_weights(self, squeeze: Tensor) -> None:
        """Raise `InvalidInput` unless this was measured on the weights [C, D] by which a model reads its tokens.

        Rounding to bfloat16 changes them by up to 0.4 %.
        """
        ours, theirs = self.squeeze.weight.detach().float().cpu(), squeeze.detach().float().cpu()
        if ours.shape != theirs.shape or (ours - theirs).norm() > _SAME * ours.norm():
            raise InvalidInput(
                'this PlanPruner was measured on other weights than the checkpoint has: measure one for it (vla_driver '
                'train plan-pruner --model CKPT)'
            )

    def store(self, device: torch.device | str, dtype: torch.dtype | None = None) -> PlanPruner:
        """Move to `device`; it computes in float32 wherever it is, for differences of large numbers are at stake."""
        return self.to(device)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors; each file is replaced as a whole."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, target / f'.{_WEIGHTS}.tmp')
        (target / f'.{_WEIGHTS}.tmp').replace(target / _WEIGHTS)
        entries = {
            'model_type': MODEL_TYPE,
            'width': self.squeeze.in_features,
            'directions': self.seen.shape[1],
            'view': {name: value for name, value in self.view.to_dict().items() if name in _VIEW},
            'notes': self.notes,
        }
        (target / f'.{_CONFIG}.tmp').write_text(json.dumps(entries, indent=2) + '\n', encoding='utf-8')
        (target / f'.{_CONFIG}.tmp').replace(target / _CONFIG)


#: Weights that differ by less, as a share of their norm, are the same, rounded.
_SAME = 0.01
_VIEW = (
    *('azimuth_deg', 'elevation_deg', 'cell_deg', 'eye_m', 'reach_m'),
    *('channels', 'hidden_size', 'num_tokens', 'reads', 'coverage'),
)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def is_plan_pruner(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a PlanPruner."""
    try:
        return bool(json.loads((Path(folder) / _CONFIG).read_text(encoding='utf-8')).get('model_type') == MODEL_TYPE)
    except (OSError, ValueError, AttributeError):
        return False


def load_plan_pruner(folder: str | os.PathLike[str], config: PretrainedConfig | None = None) -> PlanPruner:
    """Return the pruner saved in `folder`, in evaluation mode, on the CPU.

    config: of the checkpoint it is to serve.  Raises `InvalidInput`, saying what to do, for a folder that holds none,
    for weights that do not fit, and for another checkpoint's.
    """
    path = Path(folder)
    for name in (_CONFIG, _WEIGHTS):
        if not (path / name).is_file():
            raise InvalidInput(f'pruner {path} holds no {name}; give a folder written by vla_driver train plan-pruner')
    check_file(path / _CONFIG)
    read_header(path / _WEIGHTS)
    try:
        entries = json.loads((path / _CONFIG).read_text(encoding='utf-8'))
        if entries['model_type'] != MODEL_TYPE:
            raise InvalidInput(f'{path} holds a {entries["model_type"]!r} model, expected {MODEL_TYPE!r}')
        pruner = PlanPruner(
            ViewConfig(**entries['view']), int(entries['width']), int(entries['directions']), entries.get('notes')
        )
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f'{path / _CONFIG} is no configuration of a PlanPruner: {error!r}') from error
    try:
        pruner.load_state_dict(load_file(path / _WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise InvalidInput(f'pruner {path}: its weights do not fit its {_CONFIG}: {error}') from error
    if config is not None:
        pruner.check(config)
    return pruner.eval().requires_grad_(False)
