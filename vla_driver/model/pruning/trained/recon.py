# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""ReconPruner of FastDriveVLA (arXiv 2507.23318): a learned, plug-in score for every visual token.

    [Q*, V*] = PrunerLayer([Q, V])      one decoder layer with full attention, Q a learned query     (eq. 1)
    S = Scorer(V* (.) Q*)               Hadamard product, one linear layer                           (eq. 2)
    training:  M = 1 where S > 0, gradient straight through; V_fore = M V, V_back = (1 - M) V   (eq. 3 to 5)
    inference: TopK(S, K), K = floor(N (1 - ratio)), original positions kept                         (eq. 9)

The tokens of all cameras are scored in one pass, [Q; V] over all of them: what is worth keeping in one picture
depends on the others, and six small products cost more than one.  How many each camera keeps is the budget's
matter (model/pruning/budget.py).  Training is in train/pruning/pruner.py, the layer in recon_layers.py.

Not in the paper: with `by_score` below 1 (pruner `recon:50`: 50 %) only that share of the kept tokens goes by S; every
other one is the one that differs most from all kept so far, as in DivPrune.  S knows nothing of what is kept already:
at 75 % pruned it keeps the road before the bumper many times over.

A pruner is a folder of its own, config.json and model.safetensors, and fits every checkpoint with the same
encoder: same backbone and same token width, which is checked, and same encoder weights, which is not.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig

from vla_driver.model.files import check_file, read_header
from vla_driver.model.found_instead import PICKLE_SUFFIXES
from vla_driver.model.pruning.base import KeptTokens, keep_best, least_per_camera, ranked
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.published.greedy import cosine, farthest_points
from vla_driver.model.pruning.trained.recon_layers import BACKBONES, LayerSpec, build_stack, layer_spec
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

MODEL_TYPE = 'vla_driver_recon_pruner'
_CONFIG, _WEIGHTS = 'config.json', 'model.safetensors'


class ReconPruner(nn.Module):
    """See the module's docstring.  `name` is what the command line and the ROS parameter call it."""

    name = 'recon'

    def __init__(self, spec: LayerSpec, notes: Mapping[str, Any] | None = None):
        """Make a randomly initialised pruner; notes: how it was trained, kept in its config.json."""
        super().__init__()
        self.spec, self.notes = spec, dict(notes or {})
        self.by_score = 1.0
        self.query = nn.Parameter(torch.randn(spec.width) * 0.02)
        self.stack = build_stack(spec, layers=1)
        self.scorer = nn.Linear(spec.width, 1)
        nn.init.trunc_normal_(self.scorer.weight, std=spec.width**-0.5)
        nn.init.zeros_(self.scorer.bias)

    def score(self, tokens: VisualTokens) -> Tensor:
        """Return S [B, N], float32; the score of a token says how much it belongs to the foreground.

        Raises `InvalidInput` where the tokens are of another width.
        """
        width = tokens.features.shape[-1]
        if width != self.spec.width:
            raise InvalidInput(
                f'tokens of width {width}, but this ReconPruner was trained for width {self.spec.width} '
                f'({self.spec.backbone}): use a pruner trained with this checkpoint (vla_driver train pruner)'
            )
        features = tokens.features.to(self.query.dtype)
        scores: Tensor = self.stack.match(features, tokens, self.query, self.scorer.weight[0])
        return scores + self.scorer.bias.float()

    @torch.no_grad()
    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """Return the best tokens within the budget (`Pruner`); text is not looked at."""
        scores = self.score(tokens)
        if self.by_score >= 1.0:
            return keep_best(scores, tokens, budget)
        least, total = least_per_camera(tokens, budget), budget.total(len(tokens.camera))
        # What a missing camera would have shown differs from everything, and is nothing.
        seen = tokens.valid.float()
        distance = (1.0 - cosine(tokens.features)) * seen.unsqueeze(1) * seen.unsqueeze(2)
        first = ranked(scores, tokens.valid).argsort(dim=1, descending=True, stable=True)
        best = first[:, : max(1, round(self.by_score * total))].tolist()
        camera = tokens.camera.tolist()
        chosen = [
            farthest_points(row, camera, least, total, of_row) for row, of_row in zip(distance, best, strict=True)
        ]
        return KeptTokens(torch.tensor(chosen, device=scores.device).sort(dim=1).values, scores)

    def check(self, config: PretrainedConfig) -> None:
        """Raise `InvalidInput` unless this pruner fits checkpoints of `config`: same backbone, same width."""
        theirs = layer_spec(config)
        ours = self.spec
        if (ours.backbone, ours.width) != (theirs.backbone, theirs.width):
            raise InvalidInput(
                f'ReconPruner for {ours.backbone} of width {ours.width} does not fit a {theirs.backbone} checkpoint of '
                f'width {theirs.width}: train one for it (vla_driver train pruner --model CKPT)'
            )

    def store(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ReconPruner:
        """Move to `device` and keep the weights in `dtype` (None: as they are); return self.

        Not so the buffers: rotary frequencies stay in float32, as those of the language model do.  In bfloat16 they are
        wrong by up to 0.4 %, which in the sixth picture is a phase of 0.2.
        """
        self.to(device)
        for weight in self.parameters():
            weight.data = weight.data.to(dtype or weight.dtype)
        return self

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors; each file is replaced as a whole."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(tensors, target / f'.{_WEIGHTS}.tmp')
        (target / f'.{_WEIGHTS}.tmp').replace(target / _WEIGHTS)
        entries = {'model_type': MODEL_TYPE, **asdict(self.spec), 'notes': self.notes}
        (target / f'.{_CONFIG}.tmp').write_text(json.dumps(entries, indent=2) + '\n', encoding='utf-8')
        (target / f'.{_CONFIG}.tmp').replace(target / _CONFIG)


class _StraightThrough(torch.autograd.Function):
    """Step forward; backward the identity, but for what would drive a score further beyond the limit."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(scores)
        ctx.limit = limit
        return (scores > 0).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scores,), (gradient,) = ctx.saved_tensors, gradients
        # Descent moves a score against its gradient.
        outward = (scores.abs() > ctx.limit) & (scores.sign() != gradient.sign())
        return gradient.masked_fill(outward, 0.0), None


def straight_through(scores: Tensor, limit: float = math.inf) -> Tensor:
    """Return M of the shape of S: 1 where S > 0, else 0, with dM/dS = 1 (eq. 3 and 4).

    limit: scores beyond it, on either side, are not pushed further out (infinite: the paper's estimator).  Only
    the sign of S acts in training, so nothing else stops it from growing until no token can change sides any more;
    the same remedy as for binary networks (arXiv 1602.02830, eq. 4).
    """
    mask: Tensor = _StraightThrough.apply(scores, limit)  # type: ignore[no-untyped-call]
    return mask


def load_recon_pruner(folder: str | os.PathLike[str], config: PretrainedConfig | None = None) -> ReconPruner:
    """Return the pruner saved in `folder`, in evaluation mode, float32, on the CPU.

    config: of the checkpoint it is to serve; one that it does not fit is refused (`ReconPruner.check`).  Raises
    `InvalidInput`, saying what to do, for a folder that holds no pruner, pickles, or weights that do not fit.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InvalidInput(f'pruner {path} is no folder; give one written by vla_driver train pruner')
    weights = path / _WEIGHTS
    if not (weights.is_file() or weights.is_symlink()):
        pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLE_SUFFIXES)
        if pickles:
            raise InvalidInput(
                f'pruner {path} holds its weights as pickles ({", ".join(pickles)}), which can run any code when '
                f'loaded and are refused: convert them to {_WEIGHTS} where you trust their source'
            )
        raise InvalidInput(f'pruner {path} holds no {_WEIGHTS}; give a folder written by vla_driver train pruner')
    read_header(weights)
    pruner = ReconPruner(*_read_config(path / _CONFIG))
    if config is not None:
        pruner.check(config)
    try:
        pruner.load_state_dict(load_file(path / _WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise InvalidInput(f'pruner {path}: its weights do not fit its {_CONFIG}: {error}') from error
    return pruner.eval()


def _read_config(path: Path) -> tuple[LayerSpec, dict[str, Any]]:
    if not (path.is_file() or path.is_symlink()):
        raise InvalidInput(f'pruner {path.parent} holds no {_CONFIG}')
    check_file(path)
    try:
        entries = json.loads(path.read_text(encoding='utf-8'))
        kind = entries.get('model_type')
        if kind != MODEL_TYPE:
            raise InvalidInput(f'{path.parent} holds a {kind!r} model, expected {MODEL_TYPE!r} (a ReconPruner)')
        spec = LayerSpec(
            entries['backbone'], entries['layer'], tuple(entries['camera_names']), int(entries['ray_octaves'])
        )
        return spec, dict(entries.get('notes') or {})
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f'{path} is no configuration of a ReconPruner ({", ".join(BACKBONES)}): {type(error).__name__} {error}'
        ) from error
