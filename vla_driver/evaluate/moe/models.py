# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The dense model and the one with experts: equal wherever both have the same part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from vla_driver.evaluate.moe.run import DENSE, EXPERTS, MoeRun
from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.experts import ExpertsFeedForward
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.anchors import fit_anchors
from vla_driver.types import InvalidInput

#: Parts of the encoder on which patch features depend; they come trained, and stay as they are.
_FROZEN: Final = ('vision.stem.', 'vision.position.', 'vision.blocks.')


def make_models(run: MoeRun, controls: tuple[Any, Any], encoder: VlaModel) -> dict[str, VlaModel]:
    """Return the dense model and the one with experts, with equal weights wherever both have the same part.

    controls: the expert's, with their weights, to fit the anchors to.
    """
    models = {}
    for name, entries in ((DENSE, {'num_experts': 0}), (EXPERTS, dict(run.experts))):
        torch.manual_seed(run.seed)
        models[name] = VlaModel(config_of(encoder.config, run.changes, entries))
        fit_anchors(models[name], *controls, seed=run.seed)
    own = encoder.state_dict()
    shared = models[DENSE].state_dict()
    for name, value in shared.items():
        if name.startswith(_FROZEN) and name in own and own[name].shape == value.shape:
            shared[name] = own[name]
        elif name.startswith(_FROZEN):
            raise InvalidInput(f'the encoder of {run.encoder} has no {name} of shape {tuple(value.shape)}')
    for model in models.values():
        there = model.state_dict()
        alike = {name: value for name, value in shared.items() if name in there and there[name].shape == value.shape}
        model.load_state_dict(alike, strict=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(_FROZEN))
    return models


def config_of(base: VlaConfig, changes: Mapping[str, Any], experts: Mapping[str, Any]) -> VlaConfig:
    """Return the encoder's configuration with the changes, and a language model with these experts."""
    entries = base.to_dict()
    # Which layers the encoder's own model has them in is not what was asked for.
    entries['language_config'] = {**entries['language_config'], 'expert_layers': None}
    for name, value in changes.items():
        entries[name] = {**entries[name], **value} if isinstance(value, Mapping) else value
    entries['language_config'] = {**entries['language_config'], **experts}
    entries |= {'auxiliary': True, 'blind': False}
    config: VlaConfig = VlaConfig.from_dict(entries)
    return config


def count_parameters(model: VlaModel) -> dict[str, int]:
    """Return how many there are: feed_forward (of the language model), active (of these, for a token), all."""
    whole = active = 0
    for layer in model.language.layers:
        mlp = layer.mlp
        assert isinstance(mlp, nn.Module)
        size = sum(p.numel() for p in mlp.parameters())
        whole += size
        if isinstance(mlp, ExpertsFeedForward):
            routed = sum(p.numel() for p in mlp.experts.parameters())
            size -= routed - routed * mlp.router.experts_per_token // len(mlp.router.weight)
        active += size
    return {'feed_forward': whole, 'active': active, 'all': sum(p.numel() for p in model.parameters())}
