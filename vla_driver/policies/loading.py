# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The policy of a checkpoint, of whichever kind its config.json says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vla_driver.model.checkpoint import PROMPT_FILE, PRUNER_FOLDER, QWEN_TYPES, checkpoint_kind, resolve_checkpoint
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.model.pruning.budget import TokenBudget
    from vla_driver.policies.blind import BlindPolicy
    from vla_driver.policies.native import NativePolicy
    from vla_driver.policies.qwen import QwenPolicy


def load_policy(
    name_or_path: str | os.PathLike[str],
    pruner: str | os.PathLike[str] = 'none',
    budget: TokenBudget | None = None,
    prompt: str | os.PathLike[str] | None = None,
    device: str = 'auto',
) -> NativePolicy | BlindPolicy | QwenPolicy:
    """Return the policy of a checkpoint given by path or shipped name, of whichever kind its config.json says.

    pruner: as in `make_pruner`; 'recon' is the checkpoint's own (its folder `pruner`).  prompt: template file of a
    vision-language model; by default `prompt.yaml` in its folder, else config/prompts/default.yaml.  device: as in
    `choose_device`.  Raises InvalidInput as `load_model`, `load_qwen_policy`, `make_pruner`, `set_pruning` and
    `choose_device` do, and for a prompt where none is used.
    """
    from vla_driver.model.device import choose_device
    from vla_driver.model.pruning.registry import make_pruner

    folder, where = resolve_checkpoint(name_or_path), choose_device(device)
    if checkpoint_kind(folder) in QWEN_TYPES:
        from vla_driver.policies.qwen import load_qwen_policy

        own = folder / PROMPT_FILE
        qwen = load_qwen_policy(folder, prompt or (own if own.is_file() else None), where)
        qwen.set_pruning(make_pruner(pruner, folder / PRUNER_FOLDER, qwen.parts.model.config), budget)
        return qwen
    if prompt:
        raise InvalidInput(f'prompt {os.fspath(prompt)!r}: checkpoint {folder} reads no words; leave it out')
    from vla_driver.model.native.loading import load_model
    from vla_driver.policies.blind import BlindPolicy
    from vla_driver.policies.native import NativePolicy

    model = load_model(folder, auxiliary=False)
    if model.config.blind:
        if os.fspath(pruner) != 'none':
            raise InvalidInput(
                f'pruner {os.fspath(pruner)!r}: the blind control has no visual tokens; run it without a pruner'
            )
        return BlindPolicy(model, where)
    native = NativePolicy(model, where)
    native.set_pruning(make_pruner(pruner, folder / PRUNER_FOLDER, native.config), budget)
    return native
