# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Experts in training: biases move against the load at every optimiser step, and the loads go into the log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch.distributed
from torch import Tensor, nn

from vla_driver.model.layers.experts import ExpertsFeedForward, expert_layers
from vla_driver.model.layers.routing import bias_change, load_figures
from vla_driver.model.native.language import LanguageModel

#: In a log: the load of an expert, by layer and number.
_LOAD: Final = re.compile(r'load_\d+_\d+')


@dataclass
class ExpertBalance:
    """Moves the routers' biases of a model, once for each optimiser step.

    step: how far; factor: of the step, to be set as the learning rate falls: DeepSeek-V3 stops the biases at the end of
    its training (arXiv 2412.19437, section 4.2), so that what was learned last was learned for the routing that stays.
    loads: of each layer, by its name, the share of the tokens at the last step, over an even share, [N].
    """

    model: nn.Module
    step: float
    factor: float = 1.0
    loads: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._layers: dict[str, ExpertsFeedForward] = expert_layers(self.model)

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the biases in front of every step of an optimiser."""
        optimizer.register_step_pre_hook(self._before_step)

    def _before_step(self, *_: Any) -> None:
        self.move()

    @torch.no_grad()
    def move(self) -> None:
        """Move the biases by what was counted since the last call, by all processes together."""
        if not self._layers:
            return
        counts = torch.stack([layer.take_counts() for layer in self._layers.values()])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        self.loads = {}
        for (name, layer), count in zip(self._layers.items(), counts, strict=True):
            if not count.sum():
                continue  # this part of the model was not asked
            layer.router.bias += bias_change(count, self.factor * self.step)
            self.loads[name] = count.float() * len(count) / count.sum()

    def biases(self) -> list[Tensor]:
        """Return the routers' biases, in order."""
        return [layer.router.bias for layer in self._layers.values()]

    def figures(self) -> dict[str, float]:
        """Return what the log says of the last step, a layer's and an expert's number in each name.

        load_L_E: an expert's load over an even one; load_max_L: the largest, load_max: of all layers; load_entropy_L: 1
        where even.
        """
        return load_report(self.loads)


def layer_number(name: str) -> str:
    """Return the number of a layer that is called 'layers.3.mlp' or 'language.layers.3.mlp'."""
    return next((part for part in reversed(name.split('.')) if part.isdecimal()), name)


def load_report(loads: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the entries for the log, of loads or counts [N] by layer; see `ExpertBalance.figures`."""
    figures: dict[str, float] = {}
    for name, load in loads.items():
        layer = layer_number(name)
        largest, entropy = load_figures(load)
        even = load.double() / load.double().mean().clamp(min=1e-12)
        figures |= {f'load_{layer}_{number:02d}': float(value) for number, value in enumerate(even)}
        figures |= {f'load_max_{layer}': largest, f'load_entropy_{layer}': entropy}
        figures['load_max'] = max(largest, figures.get('load_max', 0.0))
    return figures


def logged_loads(entries: Sequence[Mapping[str, Any]]) -> tuple[list[int], dict[str, list[list[float]]]]:
    """Return of the entries of a log that hold loads: their steps, and for each layer [steps, N] loads.

    Where a run was resumed, the last entry of a step counts.
    """
    rows = {entry['step']: entry for entry in entries if 'load_max' in entry}
    layers: dict[str, list[list[float]]] = {}
    for entry in rows.values():
        names = sorted(name for name in entry if _LOAD.fullmatch(name))
        for layer in dict.fromkeys(name.split('_')[1] for name in names):
            of_layer = [entry[name] for name in names if name.split('_')[1] == layer]
            layers.setdefault(f'layer {layer}', []).append(of_layer)
    return list(rows), layers


class LoadMeter:
    """Counts, over prefixes, which experts of a language model read them: `count` after each, then `figures`."""

    def __init__(self, language: LanguageModel) -> None:
        self._language = language
        self.counts: dict[str, Tensor] = {}

    def count(self) -> None:
        """Count the last prefix in."""
        for number, routing in self._language.routings.items():
            counts, name = routing.counts(), str(number)
            self.counts[name] = self.counts[name] + counts if name in self.counts else counts

    def figures(self) -> dict[str, float]:
        """Return what `load_report` says of all that was counted; nothing without experts."""
        return load_report(self.counts)
