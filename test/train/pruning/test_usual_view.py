# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint whose panorama knows what usually stands where tokens were dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vla_driver.data.foreground.frames import open_frames
from vla_driver.model.native.loading import load_model
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.train.pruning.token_encoder import NativeEncoder
from vla_driver.train.pruning.usual_view import write_usual_view
from vla_driver.types import InvalidInput


@pytest.fixture
def checkpoint(episode_checkpoint: Callable[..., Path]) -> Path:
    """A small native checkpoint with a folder beside its weights, as shipped ones have for their pruners."""
    folder = episode_checkpoint()
    (folder / 'pruner').mkdir()
    (folder / 'pruner/config.json').write_text('{}')
    return folder


def test_the_copy_knows_the_mean_of_each_place_and_is_the_same_unpruned(
    checkpoint: Path, episodes: Path, tmp_path: Path
) -> None:
    copy = tmp_path / 'copy'
    assert write_usual_view(str(checkpoint), [episodes], copy, moments=11) == 11
    before, after = (load_model(folder, auxiliary=False) for folder in (checkpoint, copy))
    assert after.config.view_config.reads == 'usual'
    assert (copy / 'pruner/config.json').read_text() == '{}'

    encoder, frames = NativeEncoder(before), open_frames([episodes])
    numbers = [round(k * (len(frames) - 1) / 10) for k in range(11)]
    tokens = [encoder.encode(encoder.prepare([frames.frame(number)])) for number in numbers]
    with torch.no_grad():
        falls = torch.cat([before.view.spread(t.rays, t.origins)[0] for t in tokens])
        squeezed = torch.cat([before.view.squeeze(t.features)[0] for t in tokens])
        usual = falls.T @ squeezed / falls.sum(dim=0).clamp(min=1e-6).unsqueeze(-1)
        torch.testing.assert_close(after.view.usual, usual, atol=1e-2, rtol=2e-2)  # stored in bfloat16
        assert usual.abs().max() > 0.1

        ego = torch.randn(1, 3, before.config.language_config.hidden_size)
        for model in (before, after):
            model.float()
        first, second = (model.prefill(ego, tokens[0], None) for model in (before, after))
        assert first.read is not None
        assert second.read is not None
        torch.testing.assert_close(first.read, second.read, atol=2e-2, rtol=2e-2)
        kept = make_pruner('random').select(tokens[0], TokenBudget(ratio=0.75))
        pruned = after.prefill(ego, tokens[0], None, kept).read
        after.view.usual.zero_()
        holes = after.prefill(ego, tokens[0], None, kept).read
        assert pruned is not None
        assert holes is not None
        assert (pruned - second.read).norm() < (holes - second.read).norm()


def test_what_cannot_be_is_refused(checkpoint: Path, episodes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f'--out {tmp_path} exists; name a folder that does not'):
        write_usual_view(str(checkpoint), [episodes], tmp_path)
    with pytest.raises(InvalidInput, match='--moments is 0, expected 1 or more'):
        write_usual_view(str(checkpoint), [episodes], tmp_path / 'new', moments=0)
    with pytest.raises(InvalidInput, match='the blind control has no visual tokens'):
        write_usual_view('nano-blind', [episodes], tmp_path / 'new')
