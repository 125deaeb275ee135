# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Early pruning: tokens are scored before a block of the vision encoder, and what is dropped is never computed again.

Pruning after the encoder leaves the encoder's cost as it is, about half of the whole on Qwen2.5-VL-3B.  Here whole
merge units (the 2x2 patches of one token) leave before block `block`.  Later window and full-attention blocks see the
kept patches alone, at their own 2-D rotary positions and in their own windows, which have become ragged; the
merger and the language model then see the kept tokens alone.

Where the score comes from (`source`):
- head: a small trained network on the hidden states, a folder of its own (config.json, model.safetensors);
- attention: how much attention a unit receives in the block it is scored before; norm: length of its hidden states;
- random: the control.
The last three need no training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vla_driver.model.pruning.base import keep_best
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.qwen.vision import EarlyExit, Grids
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

MODEL_TYPE: Final = 'vla_driver_early_pruner'
SOURCES: Final = ('head', 'attention', 'norm', 'random')


class EarlyHead(nn.Module):
    """Scores merge units by their hidden states: norm, linear, GELU, mean over the unit's patches, linear."""

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.width, self.hidden = width, hidden
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, 1)

    def forward(self, states: Tensor) -> Tensor:
        """Return scores [U], float32, of hidden states [U, patches, width]."""
        x = self.norm(states.to(self.norm.weight.dtype))
        scores: Tensor = self.outer(nn.functional.gelu(self.inner(x)).mean(dim=1))[:, 0]
        return scores.float()


def early_scores(
    states: Tensor,
    source: str = 'norm',
    *,
    head: EarlyHead | None = None,
    received: Callable[[], Tensor] | None = None,
    seed: int = 0,
) -> Tensor:
    """Return the score [U], float32, of merge units with hidden states [U, patches, d] (differentiable with a head).

    received: computes the attention [U] that they receive (source 'attention').  Raises `InvalidInput` for an unknown
    source and for one whose ingredient is not given.
    """
    if source == 'head':
        if head is None:
            raise InvalidInput("early pruning by 'head': no trained head is given; load one with load_early_head")
        if states.shape[-1] != head.width:
            raise InvalidInput(
                f'early pruning: hidden states of width {states.shape[-1]}, but the head was trained for {head.width}'
            )
        scores: Tensor = head(states)
        return scores
    if source == 'attention':
        if received is None:
            raise InvalidInput("early pruning by 'attention': nothing is given that computes it")
        return received().float()
    if source == 'norm':
        return states.float().norm(dim=-1).mean(dim=1)
    if source == 'random':
        # Drawn on the CPU: the same on every device.
        return torch.rand(len(states), generator=torch.Generator().manual_seed(seed)).to(states.device)
    raise InvalidInput(f'early pruning by {source!r}; allowed: {", ".join(SOURCES)}')


class EarlyPruner:
    """Chooses before vision block `block` which merge units stay, within a `TokenBudget`."""

    def __init__(self, block: int, source: str = 'norm', head: EarlyHead | None = None, seed: int = 0) -> None:
        """Raises `InvalidInput` for an unknown source, or a head that is missing or would not be used."""
        if source not in SOURCES:
            raise InvalidInput(f'early pruning by {source!r}; allowed: {", ".join(SOURCES)}')
        if (source == 'head') != (head is not None):
            raise InvalidInput(f"early pruning by {source!r}: a head is needed by source 'head' and by no other")
        self.block, self.source, self.head, self.seed = block, source, head, seed
        self.name = f'early-{source}'

    def exit(
        self, budget: TokenBudget, grids: Grids, names: tuple[str, ...], missing: tuple[str, ...] = ()
    ) -> EarlyExit:
        """Return what `VisionTower.encode` needs to prune pictures of `grids` from the cameras `names`.

        Pictures of `missing` cameras give no more than the floor.
        """

        def choose(states: Tensor, received: Callable[[], Tensor]) -> Tensor:
            if states.is_meta:  # operations are counted there, nothing is computed: which units stay does not matter
                early_scores(states, self.source, head=self.head, received=received, seed=self.seed)
                return torch.arange(budget.total(grids.units))
            with torch.no_grad():
                scores = early_scores(states, self.source, head=self.head, received=received, seed=self.seed)
            return keep_best(scores.unsqueeze(0), unit_tokens(states, grids, names, missing), budget).index[0]

        return EarlyExit(self.block, choose)


def unit_tokens(states: Tensor, grids: Grids, names: tuple[str, ...], missing: tuple[str, ...] = ()) -> VisualTokens:
    """Return hidden states [U, patches, d] as the tokens of a `TokenBudget`: features [1, U, d] are patch means."""
    camera, row, column = (x.to(states.device) for x in grids.places())
    absent = torch.tensor([name in missing for name in names], device=states.device)
    nowhere = torch.zeros(1, grids.units, 3, device=states.device)
    return VisualTokens(
        states.mean(dim=1).unsqueeze(0), camera, row, column, nowhere, nowhere, ~absent[camera].unsqueeze(0), names
    )


def save_early_head(head: EarlyHead, block: int, folder: str | os.PathLike[str], **notes: Any) -> None:
    """Write a head trained for vision block `block` to its own folder; notes say how it was trained."""
    from safetensors.torch import save_file

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = {'model_type': MODEL_TYPE, 'width': head.width, 'hidden': head.hidden, 'block': block, 'notes': notes}
    weights = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    save_file(weights, target / 'model.safetensors')
    (target / 'config.json').write_text(json.dumps(config, indent=1) + '\n', encoding='utf-8')


def make_early_pruner(argument: str) -> EarlyPruner:
    """Return the pruner of 'BLOCK' or 'BLOCK-SOURCE', such as '6-norm', without training; raises `InvalidInput`."""
    block, _, source = argument.partition('-')
    free = SOURCES[1:]
    if not block.isdigit() or source not in ('', *free):
        raise InvalidInput(
            f"pruner 'early:{argument}'; expected early:BLOCK-SOURCE with a source of {', '.join(free)}, such as "
            'early:6-norm, or the folder of a trained head'
        )
    return EarlyPruner(int(block), source or 'norm')


def is_early_pruner(folder: str | os.PathLike[str]) -> bool:
    """Whether the config.json in `folder` says that it holds a head for early pruning."""
    try:
        config = json.loads((Path(folder) / 'config.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get('model_type') == MODEL_TYPE


def load_early_pruner(folder: str | os.PathLike[str], width: int | None = None) -> EarlyPruner:
    """Return the pruner whose head is in `folder`; width: that of the encoder it is for, checked where given.

    Raises `InvalidInput` where the folder holds no such head, or one for another encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder)
    try:
        config = json.loads((path / 'config.json').read_text(encoding='utf-8'))
        kind = config.get('model_type')
        if kind != MODEL_TYPE:
            raise InvalidInput(f'{path} holds a {kind!r}, expected {MODEL_TYPE!r}')
        head, block = EarlyHead(int(config['width']), int(config['hidden'])), int(config['block'])
        head.load_state_dict(load_file(path / 'model.safetensors'))
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, RuntimeError, SafetensorError) as error:
        raise InvalidInput(f'early pruner {path} does not load: {error}') from error
    if width is not None and head.width != width:
        raise InvalidInput(f'early pruner {path}: for an encoder of width {head.width}, this one has {width}')
    return EarlyPruner(block, 'head', head.eval().requires_grad_(False))
