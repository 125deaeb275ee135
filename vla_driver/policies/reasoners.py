# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The slow half of a checkpoint, of whichever kind its config.json says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vla_driver.model.checkpoint import PROMPT_FILE, QWEN_TYPES, checkpoint_kind, resolve_checkpoint
from vla_driver.model.device import choose_device
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.policies.native_reasoner import NativeReasoner
    from vla_driver.policies.qwen import QwenPolicy

    AnyReasoner = NativeReasoner | QwenPolicy


def load_reasoner(
    name_or_path: str | os.PathLike[str], prompt: str | os.PathLike[str] | None = None, device: str = 'auto'
) -> AnyReasoner:
    """Return the reasoner of a checkpoint given by path or shipped name.

    prompt: template file of a vision-language model (default: its own, or config/prompts/default.yaml); device: as in
    `choose_device`.  Raises InvalidInput as `load_model` and `load_qwen_policy` do, for a native checkpoint without
    words or without eyes, and for a prompt where none is used.
    """
    folder, where = resolve_checkpoint(name_or_path), choose_device(device)
    if checkpoint_kind(folder) in QWEN_TYPES:
        from vla_driver.policies.qwen import load_qwen_policy

        own = folder / PROMPT_FILE
        return load_qwen_policy(folder, prompt or (own if own.is_file() else None), where)
    if prompt:
        raise InvalidInput(f'prompt {os.fspath(prompt)!r}: checkpoint {folder} reads no words; leave it out')
    from vla_driver.model.native.loading import load_model
    from vla_driver.policies.native_reasoner import NativeReasoner

    model = load_model(folder, auxiliary=False)
    if model.config.blind:
        raise InvalidInput(f'checkpoint {folder} is blind (it was trained without images): it has nothing to speak of')
    return NativeReasoner(model, where)
