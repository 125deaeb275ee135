# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The policy of a checkpoint, of whichever kind its config.json says, on the engine that is there for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_driver.model.checkpoint import PROMPT_FILE, PRUNER_FOLDER, QWEN_TYPES, checkpoint_kind, resolve_checkpoint
from vla_driver.model.device import choose_device
from vla_driver.model.precision import precision
from vla_driver.settings.policy import ENGINES
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.model.pruning.budget import TokenBudget
    from vla_driver.policies.blind import BlindPolicy
    from vla_driver.policies.native import NativePolicy
    from vla_driver.policies.onnx import OnnxBlindPolicy, OnnxPolicy
    from vla_driver.policies.qwen import QwenPolicy

    AnyPolicy = NativePolicy | BlindPolicy | OnnxPolicy | OnnxBlindPolicy | QwenPolicy


def load_policy(
    name_or_path: str | os.PathLike[str],
    pruner: str | os.PathLike[str] = 'none',
    budget: TokenBudget | None = None,
    prompt: str | os.PathLike[str] | None = None,
    device: str = 'auto',
    engine: str = 'torch',
    threads: int = 0,
) -> AnyPolicy:
    """Return the policy of a checkpoint given by path or shipped name, of whichever kind its config.json says.

    pruner: as in `make_pruner`; 'recon' is the checkpoint's own (its folder `pruner`).  prompt: template file of a
    vision-language model; by default `prompt.yaml` in its folder, else config/prompts/default.yaml.  device: as in
    `choose_device`.  engine: one of `ENGINES`; where graphs cannot drive, torch does, and the policy's `engine` says
    why.  threads: of the graphs' arithmetic, 0: one per core (torch's are the process's: `torch.set_num_threads`).
    Raises InvalidInput as `load_model`, `load_qwen_policy`, `make_pruner`, `set_pruning` and `choose_device` do, and
    for a prompt where none is used.
    """
    if engine not in ENGINES:
        raise InvalidInput(f'engine {engine!r}, allowed: {", ".join(ENGINES)}')
    folder, where = resolve_checkpoint(name_or_path), choose_device(device)
    if checkpoint_kind(folder) in QWEN_TYPES:
        from vla_driver.model.pruning.registry import make_pruner
        from vla_driver.policies.qwen import load_qwen_policy

        own = folder / PROMPT_FILE
        qwen = load_qwen_policy(folder, prompt or (own if own.is_file() else None), where)
        qwen.set_pruning(make_pruner(pruner, folder / PRUNER_FOLDER, qwen.parts.model.config), budget)
        if engine == 'onnx':
            qwen.engine_note = 'vision-language models are not exported'
        return qwen
    if prompt:
        raise InvalidInput(f'prompt {os.fspath(prompt)!r}: checkpoint {folder} reads no words; leave it out')
    note = ''
    if engine != 'torch':
        graphs, note = _with_graphs(folder, str(where), engine, threads)
        if graphs is not None:
            _prune(graphs, pruner, budget, folder)
            return graphs
    from vla_driver.policies.in_torch import load_native

    policy = load_native(folder, where)
    _prune(policy, pruner, budget, folder)
    policy.engine_note = note
    return policy


def _prune(policy: AnyPolicy, pruner: str | os.PathLike[str], budget: TokenBudget | None, folder: Path) -> None:
    spec = os.fspath(pruner)
    if spec == 'none':
        return
    from vla_driver.types import PrunablePolicy

    if not isinstance(policy, PrunablePolicy):
        raise InvalidInput(f'pruner {spec!r}: the blind control has no visual tokens; run it without a pruner')
    made: Any = policy.own_pruner(spec)
    if made is None:
        from vla_driver.model.pruning.registry import make_pruner

        made = make_pruner(spec, folder / PRUNER_FOLDER)
    policy.set_pruning(made, budget)


def _with_graphs(
    folder: Path, device: str, engine: str, threads: int
) -> tuple[OnnxPolicy | OnnxBlindPolicy | None, str]:
    """Return the policy of a checkpoint's graphs, or None and why there is none."""
    from vla_driver.model.export.making import find_or_make
    from vla_driver.model.export.manifest import RefusedGraphs
    from vla_driver.model.export.opened import OpenedGraphs
    from vla_driver.model.export.session import Wanted
    from vla_driver.policies.onnx import open_policy

    try:
        graphs = find_or_make(folder, make=engine == 'onnx')
        if graphs is None:
            return None, f'checkpoint {folder.name} has no graphs: vla_driver export makes them'
        return open_policy(graphs, OpenedGraphs(graphs, folder, Wanted(device, precision(device), threads))), ''
    except RefusedGraphs as error:
        return None, f'refused: {error}'
