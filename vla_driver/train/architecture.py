# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Other sizes and parts than a checkpoint has: a model grown from it keeps every weight that still fits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import torch

from vla_driver.model.config import VlaConfig, check_entries
from vla_driver.model.layers.experts import ExpertsFeedForward, expert_layers
from vla_driver.model.layers.feed_forward import SwiGlu
from vla_driver.model.native.vla import VlaModel
from vla_driver.types import InvalidInput

#: What hidden states are made from; words and the reflex are not.
_DEEP: Final = ('language.', 'action.', 'memory.', 'memory_pool.', 'position.', 'ego.', 'kinds')


def read_architecture(path: Path) -> dict[str, Any]:
    """Return the VlaConfig entries of a JSON file; raise `InvalidInput` for what is none."""
    try:
        entries = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, json.JSONDecodeError) as error:
        raise InvalidInput(f'--config {path}: {error}') from error
    if not isinstance(entries, dict):
        raise InvalidInput(f'--config {path}: a {type(entries).__name__}, expected an object of VlaConfig entries')
    try:
        check_entries(entries)
    except InvalidInput as error:
        raise InvalidInput(f'--config {path}: {error}') from error
    return entries


def grown(model: VlaModel, entries: dict[str, Any]) -> VlaModel:
    """Return a model with `entries` changed in its configuration, whose weights are those of `model` where they fit.

    What is new, or of another shape, starts afresh, and a line on stderr says so; experts in the place of a
    feed-forward network are cut out of it (`upcycle`).  Where weights that hidden states are made from are left
    behind, these begin silent: flow and votes learnt to heed what they said before, and a stage that trains the reflex
    alone would leave the model to drive by noise.
    """
    settings = model.config.to_dict()
    for name, value in entries.items():
        inner = settings.get(name)
        settings[name] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, dict) else value
    result = VlaModel(VlaConfig.from_dict(settings))
    theirs, ours = model.state_dict(), result.state_dict()
    kept = {name: value for name, value in theirs.items() if name in ours and ours[name].shape == value.shape}
    result.load_state_dict(kept, strict=False)
    replaced = {name: part for name, part in model.named_modules() if isinstance(part, SwiGlu)}
    cut = [name for name, layer in expert_layers(result).items() if name in replaced]
    for name in cut:
        upcycle(replaced[name], result.get_submodule(name))
    fresh, gone = sorted(set(ours) - set(kept)), sorted(set(theirs) - set(kept))
    if fresh or gone:
        print(
            f'grown from a checkpoint: {len(kept)} weights kept, {len(fresh)} start afresh ({_few(fresh)}), '
            f'{len(gone)} left behind ({_few(gone)})',
            file=sys.stderr,
        )
    if cut:
        print(f'grown: experts of {_few(cut)} begin as parts of the networks that they replace', file=sys.stderr)
    if any(name.startswith(_DEEP) for name in gone):
        result.flow.silence_hidden()
        print('grown: the model drives by the reflex alone until stage policy or all has run', file=sys.stderr)
    return result


@torch.no_grad()
def upcycle(network: SwiGlu, experts: ExpertsFeedForward) -> None:
    """Cut experts out of a feed-forward network, so that they answer together about as it did.

    A SwiGLU is a sum over its hidden channels.  The largest channels, by the norms of their weights, become the shared
    network; the others are dealt out in lots of an expert's size, and expert i begins as lot i modulo their number.
    Weighted by the number of experts that a token asks, a random choice of them is the whole in expectation.  After
    sparse upcycling (arXiv 2212.05055), where every expert is the whole network; in parts: arXiv 2410.07524.
    """
    gate, up = network.gate_up.weight.chunk(2)  # [I, D] each
    down = network.down.weight  # [D, I]
    order = (gate.norm(dim=1) * up.norm(dim=1) * down.norm(dim=0)).argsort(descending=True)
    first = 0
    if experts.shared is not None:
        first = min(experts.shared.down.in_features, len(order))
        mine = order[:first]
        experts.shared.gate_up.weight.view(2, -1, gate.shape[1])[:, :first] = torch.stack([gate[mine], up[mine]])
        experts.shared.down.weight[:, :first] = down[:, mine]
        experts.shared.down.weight[:, first:] = 0.0  # what is wider than the network adds nothing yet
    routed, rest = experts.experts, order[first:]
    count, _, size = routed.down.shape
    lots = len(rest) // size  # channels that fill no lot are the smallest
    for expert in range(count if lots else 0):
        mine = rest[expert % lots :: lots][:size]
        routed.gate_up[expert] = torch.cat([gate[mine], up[mine]])
        routed.down[expert] = down[:, mine] * (lots / experts.router.route_scale)


def _few(names: list[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '') if names else 'none'
