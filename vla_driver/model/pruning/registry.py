# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Pruners by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from vla_driver.model.pruning.base import Pruner
    from vla_driver.model.pruning.in_model import InModelPruner
    from vla_driver.model.pruning.trained.early import EarlyPruner

#: Every name that `make_pruner` knows; the argument that a name takes after a colon is in `ARGUMENTS`.
PRUNER_NAMES = (
    'none',
    'random',
    'uniform',
    'recon',
    'plan',
    'divprune',
    'vispruner',
    'visionzip',
    'cdpruner',
    'prune2drive',
    'fastv',
    'sparsevlm',
)
ARGUMENTS = {
    'random': 'a seed, as in random:1',
    'fastv': 'the layer before which tokens leave, as in fastv:2',
    'sparsevlm': 'what the budget is the average of, average or pruned, as in sparsevlm:pruned',
    'recon': 'the per cent of the kept tokens that go by its score, the others by difference, as in recon:50',
    'cdpruner': 'the sign of relevance, negative or positive, as in cdpruner:positive',
}


#: The folder of a checkpoint's PlanPruner, within the checkpoint's.
PLAN_FOLDER = 'plan'


def make_pruner(
    spec: str | os.PathLike[str],
    recon: str | os.PathLike[str] | None = None,
    config: PretrainedConfig | None = None,
) -> Pruner | InModelPruner | EarlyPruner:
    """Return the pruner of a spec: a name, a name with its argument (`fastv:3`), or a folder of its weights.

    A folder holds a ReconPruner or an early-pruning head; `early:6-norm` prunes inside a vision encoder.

    recon: the folder that the name 'recon' stands for; what 'plan' stands for lies beside it (plan), and so do the
    heads that `early:BLOCK-head` stands for (early1, early2, ...).  config: of the checkpoint that is pruned, which
    weights must fit.  Raises `InvalidInput`, listing what is allowed.
    """
    text = os.fspath(spec)
    name, _, argument = text.partition(':')
    if name in PRUNER_NAMES:
        if argument and name not in ARGUMENTS:
            raise InvalidInput(f'pruner {text!r}: {name} takes no argument; {_allowed()}')
        if name not in ('recon', 'plan'):
            return _build(text, name, argument)
        if name == 'plan':
            return _load_plan(None if recon is None else Path(recon).parent / PLAN_FOLDER, config)
        if recon is None:
            raise InvalidInput("pruner 'recon': no folder of its weights is known here; give the folder itself")
        return _load_recon(Path(recon), config, _per_cent(text, argument) if argument else 100)
    if name == 'early':
        from vla_driver.model.pruning.trained.early import load_early_pruner, make_early_pruner

        block, _, source = argument.partition('-')
        if source == 'head' and block.isdigit():
            if recon is None:
                raise InvalidInput(f"pruner {text!r}: no checkpoint's heads are known here; give the head's folder")
            folder = Path(recon).parent / early_folder(int(block))
            if not folder.is_dir():
                there = ', '.join(
                    f'early:{one.name[len("early") :]}-head' for one in sorted(folder.parent.glob('early*'))
                )
                raise InvalidInput(f'pruner {text!r}: there is no {folder}; the checkpoint has {there or "no heads"}')
            return load_early_pruner(folder)
        return make_early_pruner(argument)
    if Path(text).is_dir():
        from vla_driver.model.pruning.trained.early import is_early_pruner, load_early_pruner

        if is_early_pruner(text):
            return load_early_pruner(text)
        from vla_driver.model.pruning.trained.plan import is_plan_pruner

        return _load_plan(Path(text), config) if is_plan_pruner(text) else _load_recon(Path(text), config)
    raise InvalidInput(f'pruner {text!r} is neither known nor a folder; {_allowed()}')


def early_folder(block: int) -> str:
    """Return the name of the folder, in a checkpoint's, that holds the head for pruning before `block`."""
    return f'early{block}'


def _allowed() -> str:
    names = ', '.join(
        f'{name}[:{ARGUMENTS[name].split(",")[0]}]' if name in ARGUMENTS else name for name in PRUNER_NAMES
    )
    return f'allowed: {names}, early:BLOCK-SOURCE, or a folder of weights'


def _per_cent(text: str, argument: str) -> int:
    if not argument.isdigit() or not 1 <= int(argument) <= 100:
        raise InvalidInput(f'pruner {text!r}: {argument!r}, allowed: 1 to 100; recon takes {ARGUMENTS["recon"]}')
    return int(argument)


def _load_plan(folder: Path | None, config: PretrainedConfig | None) -> Pruner:
    from vla_driver.model.pruning.trained.plan import load_plan_pruner

    if folder is None:
        raise InvalidInput("pruner 'plan': no folder of its weights is known here; give the folder itself")
    return load_plan_pruner(folder, config)


def _load_recon(folder: Path, config: PretrainedConfig | None, by_score: int = 100) -> Pruner:
    from vla_driver.model.pruning.trained.recon import load_recon_pruner

    pruner = load_recon_pruner(folder, config)
    pruner.by_score = by_score / 100
    return pruner


def _build(text: str, name: str, argument: str) -> Pruner | InModelPruner:
    from vla_driver.model.pruning.controls import NoPruner, RandomPruner, UniformPruner
    from vla_driver.model.pruning.published.cdpruner import CdPruner
    from vla_driver.model.pruning.published.diverse import DivPrune, Prune2Drive
    from vla_driver.model.pruning.published.fastv import FastV
    from vla_driver.model.pruning.published.sparsevlm import SparseVlm
    from vla_driver.model.pruning.published.visionzip import VisionZip
    from vla_driver.model.pruning.published.vispruner import VisPruner

    def number() -> int:
        try:
            return int(argument)
        except ValueError as error:
            raise InvalidInput(
                f'pruner {text!r}: {argument!r} is no whole number; {name} takes {ARGUMENTS[name]}'
            ) from error

    def sign() -> bool:
        if argument not in ('negative', 'positive'):
            raise InvalidInput(f'pruner {text!r}: {argument!r}; {name} takes {ARGUMENTS[name]}')
        return argument == 'negative'

    plain: dict[str, Callable[[], Pruner | InModelPruner]] = {
        'none': NoPruner,
        'random': RandomPruner,
        'uniform': UniformPruner,
        'divprune': DivPrune,
        'prune2drive': Prune2Drive,
        'vispruner': VisPruner,
        'visionzip': VisionZip,
        'cdpruner': CdPruner,
        'fastv': FastV,
        'sparsevlm': SparseVlm,
    }
    with_argument: dict[str, Callable[[], Pruner | InModelPruner]] = {
        'random': lambda: RandomPruner(number()),
        'fastv': lambda: FastV(number()),
        'sparsevlm': lambda: SparseVlm(argument),
        'cdpruner': lambda: CdPruner(sign()),
    }
    return with_argument[name]() if argument else plain[name]()
