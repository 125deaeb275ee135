# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Early pruning: tokens are scored before a block of the vision encoder, and later blocks see the kept ones alone.

Pruning after the encoder leaves the encoder's cost as it is, about half of the whole on Qwen2.5-VL-3B and on the native
model.  Here whole merge units (the 2x2 patches of one token) leave before block `block`.  Later blocks attend among the
kept patches alone, at their own positions and within their own pictures and windows, which have become ragged; the
language model then sees the kept tokens alone (model/native/seeing/vision.py and model/qwen/vision.py).

Where the score comes from (`source`):
- head: a small trained network on the hidden states, a folder of its own (config.json, model.safetensors);
- attention: how much attention a unit receives in the block it is scored before; norm: length of its hidden states;
- random: the control.
The last three need no training.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vla_driver.model.files import read_header, read_json
from vla_driver.model.pruning.base import KeptTokens, keep_best, random_scores
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput

MODEL_TYPE: Final = 'vla_driver_early_pruner'
SOURCES: Final = ('head', 'attention', 'norm', 'random')


class EarlyHead(nn.Module):
    """Scores merge units by their hidden states: norm, linear, GELU, mean over the unit's patches, linear.

    patches, token_width: given both, it also completes the tokens of units that leave (`complete`), for models in which
    something reads these, too: a two-layer network on the unit's states guesses what the later blocks would have added.
    """

    def __init__(self, width: int, hidden: int = 128, patches: int = 0, token_width: int = 0) -> None:
        super().__init__()
        self.width, self.hidden, self.patches, self.token_width = width, hidden, patches, token_width
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, 1)
        self.completion: nn.Sequential | None = None
        if patches and token_width:
            last = nn.Linear(2 * hidden, token_width)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.completion = nn.Sequential(
                nn.LayerNorm(patches * width), nn.Linear(patches * width, 2 * hidden), nn.GELU(), last
            )

    def complete(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return tokens [..., token_width], made of hidden states [..., patches, width] as they are, completed."""
        if self.completion is None:
            return tokens
        more: Tensor = self.completion(states.flatten(-2).to(self.norm.weight.dtype))
        return tokens + more.to(tokens.dtype)

    def forward(self, states: Tensor) -> Tensor:
        """Return scores [...], float32, of hidden states [..., patches, width]."""
        x = self.norm(states.to(self.norm.weight.dtype))
        scores: Tensor = self.outer(nn.functional.gelu(self.inner(x)).mean(dim=-2)).squeeze(-1)
        return scores.float()


def early_scores(
    states: Tensor,
    source: str = 'norm',
    *,
    head: EarlyHead | None = None,
    received: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Return the scores [B, U], float32, of merge units with hidden states [B, U, patches, d].

    Differentiable with a head.  received [B, U]: the attention that they receive (source 'attention').  Raises
    `InvalidInput` for an unknown source and for one whose ingredient is not given.
    """
    if source == 'head':
        if head is None:
            raise InvalidInput("early pruning by 'head': no trained head is given; load one with load_early_pruner")
        if states.shape[-1] != head.width:
            raise InvalidInput(
                f'early pruning: hidden states of width {states.shape[-1]}, but the head was trained for {head.width}'
            )
        scores: Tensor = head(states)
        return scores
    if source == 'attention':
        if received is None:
            raise InvalidInput("early pruning by 'attention': the attention that units receive is not given")
        return received.float()
    if source == 'norm':
        return states.float().norm(dim=-1).mean(dim=-1)
    if source == 'random':
        return random_scores(states[:, :, 0, 0], seed)
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

    def choose(self, states: Tensor, received: Tensor | None, units: VisualTokens, budget: TokenBudget) -> KeptTokens:
        """Return which merge units stay, of hidden states [B, U, patches, d].

        received [B, U]: the attention that they receive in the next block, for source 'attention'; units: where they
        lie, as tokens (features are not looked at).  Raises `InvalidInput` for a budget that they cannot satisfy.
        """
        with torch.no_grad():
            scores = early_scores(states, self.source, head=self.head, received=received, seed=self.seed)
        return keep_best(scores, units, budget)

    def check(self, depth: int) -> None:
        """Raise `InvalidInput` unless an encoder of `depth` blocks has one before which this pruner can prune."""
        check_block(self.name, self.block, depth)


def check_block(name: str, block: int, depth: int) -> None:
    """Raise `InvalidInput` unless tokens can leave before `block` of `depth` blocks."""
    if not 1 <= block < depth:
        raise InvalidInput(f'pruner {name!r}: before vision block {block}; allowed: 1 to {depth - 1} of this encoder')


def save_early_head(head: EarlyHead, block: int, folder: str | os.PathLike[str], **notes: Any) -> None:
    """Write a head trained for vision block `block` to its own folder; notes say how it was trained."""
    from safetensors.torch import save_file

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    sizes = {name: getattr(head, name) for name in ('width', 'hidden', 'patches', 'token_width')}
    config = {'model_type': MODEL_TYPE, **sizes, 'block': block, 'notes': notes}
    weights = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    save_file(weights, target / 'model.safetensors')
    (target / 'config.json').write_text(json.dumps(config, indent=1) + '\n', encoding='utf-8')


def make_early_pruner(argument: str) -> EarlyPruner:
    """Return the pruner of 'BLOCK' or 'BLOCK-SOURCE', such as '6-norm', without training; raises `InvalidInput`."""
    block, _, source = argument.partition('-')
    free = SOURCES[1:]
    if not block.isdigit() or source not in ('', *free):
        raise InvalidInput(
            f"pruner 'early:{argument}'; expected early:BLOCK-SOURCE with a source of {', '.join(SOURCES)}, such as "
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


def load_early_pruner(folder: str | os.PathLike[str]) -> EarlyPruner:
    """Return the pruner whose head is in `folder`; raise `InvalidInput` where it holds none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder)
    try:
        config = read_json(path / 'config.json')
        read_header(path / 'model.safetensors')
        kind = config.get('model_type')
        if kind != MODEL_TYPE:
            raise InvalidInput(f'{path} holds a {kind!r}, expected {MODEL_TYPE!r}')
        sizes = {name: int(config.get(name, 0)) for name in ('patches', 'token_width')}
        head, block = EarlyHead(int(config['width']), int(config['hidden']), **sizes), int(config['block'])
        head.load_state_dict(load_file(path / 'model.safetensors'))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InvalidInput(f'early pruner {path} does not load: {error}') from error
    return EarlyPruner(block, 'head', head.eval().requires_grad_(False))
