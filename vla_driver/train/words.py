# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How sure a model may be of its words: the temperature of its logits, fitted to drives that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from vla_driver.model.native.training import Dropouts, perceive
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.model.words.labels import shown_cameras
from vla_driver.model.words.losses import score, word_weights

#: Temperatures that are tried, evenly in their logarithm.
_LOWEST, _HIGHEST, _TRIED = 0.25, 4.0, 65
#: With fewer words than these, a temperature would be chance.
_LEAST: Final = 50


@torch.inference_mode()
def fit_temperature(model: VlaModel, batches: Iterable[ClipBatch]) -> float | None:
    """Return the temperature at which the words that are right are likeliest, None where too few are known.

    Numbers do not count, and training's weights are undone, as in the confidence of what is said (decoding.py).
    """
    was_training, device, speaker = model.training, next(model.parameters()).device, model.words
    model.eval()
    judged, right = [], []
    numbers = torch.tensor([word.isdecimal() for word in speaker.grammar.vocabulary.words], device=device)
    for on_cpu in batches:
        batch = to_device(on_cpu, device)
        with autocast(device):
            ego = model.ego(batch.inputs)
            seen, memory, kept = perceive(model, Dropouts(), batch, ego)
            tokens = None if seen is None else seen.tokens
            prefix = model.prefill(ego, tokens, memory, kept)
            shown = shown_cameras(tokens, len(ego), len(model.config.camera_names), device, kept)
            scores = score(speaker, model.language.layers, prefix, batch, shown)
        counted = scores.spoken.choice & ~numbers[scores.spoken.said]
        judged.append((scores.logits - word_weights(speaker).log())[counted])
        right.append(scores.spoken.said[counted])
    model.train(was_training)
    logits, words = torch.cat(judged), torch.cat(right)
    if len(words) < _LEAST:
        return None
    tried = np.geomspace(_LOWEST, _HIGHEST, _TRIED).tolist()
    return min(tried, key=lambda temperature: float(F.cross_entropy(logits / temperature, words)))
