# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The seam at which visual tokens are selected, between the vision encoder and the language model.

A pruner says *which* tokens stay; the model then gathers them.  Indices are sorted, so the order of the
pictures stays, and every kept token keeps its own position (ray, or M-RoPE ids), as FastDriveVLA does
(arXiv 2507.23318, section on inference).  Pruners that need the language model's own attention follow the
second protocol, in in_model.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vla_driver.model.pruning import choosing
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class KeptTokens:
    """Which tokens stay: index [B, K] int64, ascending in each row; scores [B, N] where the pruner has any.

    features [B, K, D]: what the kept tokens hold, where the pruner merges others into them (VisionZip); None:
    their own features.
    """

    index: Tensor
    scores: Tensor | None = None
    features: Tensor | None = None

    def __post_init__(self) -> None:
        if self.index.ndim != 2 or self.index.dtype != torch.int64:
            raise InvalidInput(
                f'kept tokens: index {tuple(self.index.shape)} of {self.index.dtype}, expected [B, K] int64'
            )


def kept_alone(features: Tensor, kept: KeptTokens) -> Tensor:
    """Return features [B, N, D] of what is kept in their places, and zeros in all others."""
    places = kept.index.unsqueeze(-1).expand(-1, -1, features.shape[-1])
    held = features.gather(1, places) if kept.features is None else kept.features.to(features.dtype)
    return torch.zeros_like(features).scatter(1, places, held)


@runtime_checkable
class Pruner(Protocol):
    """Selects tokens before the language model.

    One that reads `VisualTokens.attention` has a true attribute `needs_attention` (see `needs_attention`).
    """

    name: str

    def select(self, tokens: VisualTokens, budget: TokenBudget, text: Tensor | None = None) -> KeptTokens:
        """Return what stays of tokens [B, N, D].

        text [B, T, D]: what the language model is asked, in its own embedding space (the words of a prompt; the
        native model's ego and navigation tokens), for pruners that look at it; they raise `InvalidInput`
        without it.  Raises `InvalidInput` for a budget that the tokens cannot satisfy.
        """
        ...


def needs_attention(pruner: object) -> bool:
    """Whether a pruner reads `VisualTokens.attention`; the encoder computes it only for those."""
    return bool(getattr(pruner, 'needs_attention', False))


def camera_sizes(camera: Tensor, cameras: int) -> list[int]:
    """Return how many of the tokens, of cameras camera [N], each of `cameras` cameras has."""
    return choosing.camera_sizes(camera.cpu().numpy(), cameras)


def least_per_camera(tokens: VisualTokens, budget: TokenBudget) -> list[int]:
    """Return the least number of tokens that each camera keeps (`TokenBudget.least`)."""
    return budget.least(camera_sizes(tokens.camera, len(tokens.names)), tokens.names)


def ranked(scores: Tensor, valid: Tensor) -> Tensor:
    """Return scores [B, N] in float32, those of tokens that are not valid below all others (-inf stays below them).

    `choosing.ranked`, on whichever device the scores are.
    """
    scores = scores.float()
    return torch.where(valid, scores, scores.clamp(max=torch.finfo(torch.float32).min))


def best_within(
    scores: Tensor, camera: Tensor, names: Sequence[str], budget: TokenBudget, left: Sequence[int] | None = None
) -> Tensor:
    """Return the indices [B, K], ascending, of the tokens of highest score [B, N] within the budget.

    camera [N]; of equal scores the first one stays; -inf: already gone.  left: how many of each camera's tokens are
    not gone (default: all).
    """
    # Some dozen small steps: numpy takes a fifth of torch's time for them, and a GPU is waited for once.
    rows = scores.detach().float().cpu().numpy()
    return torch.from_numpy(choosing.best_within(rows, camera.cpu().numpy(), names, budget, left)).to(scores.device)


def random_scores(values: Tensor, seed: int) -> Tensor:
    """Return random scores [B, N] for values [B, N] of some feature: other ones for other pictures, and repeatable.

    A row's draw depends on the seed and on some of its own values alone.  Drawn on the CPU.
    """
    rows = []
    for sample in values[:, ::7].detach().float().cpu().numpy():
        generator = torch.Generator().manual_seed(zlib.crc32(sample.tobytes(), seed & 0xFFFFFFFF))
        rows.append(torch.rand(values.shape[1], generator=generator))
    return torch.stack(rows).to(values.device)


def keep_best(scores: Tensor, tokens: VisualTokens, budget: TokenBudget) -> KeptTokens:
    """Return the tokens of highest score [B, N] within the budget; of equal scores the first one stays."""
    return KeptTokens(best_within(ranked(scores, tokens.valid), tokens.camera, tokens.names, budget), scores)


def required_attention(tokens: VisualTokens, name: str) -> Tensor:
    """Return the attention [B, N] that tokens receive in the encoder; raise `InvalidInput` where it is not there."""
    if tokens.attention is None:
        raise InvalidInput(
            f'pruner {name!r}: the tokens carry no attention of the encoder; encode with attention '
            '(a policy does so by itself; features computed in advance have none)'
        )
    return tokens.attention
