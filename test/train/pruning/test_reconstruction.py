# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What a pruner is trained by: the losses of the paper, and what is added to them here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vla_driver.data.foreground.frames import open_frames
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.pruning.trained.recon_layers import LayerSpec
from vla_driver.model.tokens import VisualTokens
from vla_driver.train.pruning.recon_batches import make_batch
from vla_driver.train.pruning.reconstruction import (
    ReconDecoder,
    Targets,
    branch_loss,
    guidance,
    picture_loss,
    recall,
    recalls,
    reconstruction_losses,
    token_shares,
)
from vla_driver.train.pruning.ssim import ssim
from vla_driver.train.pruning.token_encoder import NativeEncoder

_SQUARES = (((4, 4), ('front',)),)


@pytest.fixture
def parts(native_encoder: NativeEncoder, episodes: Path) -> Any:
    """(batch, tokens, decoder, scores) of two frames."""
    torch.manual_seed(0)
    batch = make_batch(open_frames([episodes]), [3, 17], native_encoder, cell=4)
    tokens = native_encoder.encode(batch.inputs)
    scores = torch.randn(tokens.features.shape[:2]).requires_grad_()
    return batch, tokens, ReconDecoder(native_encoder.spec, native_encoder.groups, layers=1, cell=4, channels=3), scores


def test_picture_loss_weighs_its_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 3, 16, 16, generator=generator).unbind(0)
    expected = 0.2 * (1 - ssim(x, y)) + 0.8 * ((x - y) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(picture_loss(x, y), expected)
    assert float(picture_loss(x, x).abs().max()) < 1e-5


def test_targets_decoder_and_shares_agree_on_where_a_token_lies(native_encoder: NativeEncoder, episodes: Path) -> None:
    """The decoder's pixels of token n land where token n looks, in a picture of which only that part is foreground."""
    batch = make_batch(open_frames([episodes]), [3, 17], native_encoder, cell=4)
    tokens = native_encoder.encode(batch.inputs)
    decoder = ReconDecoder(native_encoder.spec, native_encoder.groups, layers=1, cell=4, channels=1)
    share = token_shares(batch.targets, 4)
    assert share.shape == (2, tokens.features.shape[1], 2)
    for n in (0, 13, 60, 74, 134):
        with torch.no_grad():
            torch.nn.init.zeros_(decoder.head.weight)
            decoder.head.bias.fill_(0.0)
            decoder.stack = _OneToken(n)
            decoder.norm = torch.nn.Identity()
            decoder.head.weight[:] = 1.0
            pictures = decoder(tokens, torch.ones(2, share.shape[1]))
        lit = [(g, *where) for g, picture in enumerate(pictures) for where in picture[0, :, 0].nonzero().tolist()]
        camera, row, column = int(tokens.camera[n]), int(tokens.row[n]), int(tokens.column[n])
        group, slot = (0, 0) if camera == 0 else (1, camera - 1)
        expected = [(group, slot, row * 4 + y, column * 4 + x) for y in range(4) for x in range(4)]
        assert sorted(lit) == sorted(expected)
        area = batch.targets.areas[group][0, slot, 0, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
        assert float(share[0, n, 0]) == pytest.approx(float(area.mean()), abs=1e-6)


class _OneToken(torch.nn.Module):
    """A stack that lights one token."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def forward(self, features: Tensor, tokens: Any, query: Tensor | None = None) -> Tensor:
        out = torch.zeros_like(features)
        out[:, self.number] = 1.0
        return out


def test_the_losses_are_the_papers(parts: Any) -> None:
    """Eq. 5 to 8 by hand: hard masks on the tokens, black where the picture is not meant, alpha between."""
    batch, tokens, decoder, scores = parts
    losses = reconstruction_losses(scores, tokens, decoder, batch.targets, alpha=0.3)
    hard = (scores.detach() > 0).float()
    for name, mask, back in (('fore', hard, False), ('back', 1 - hard, True)):
        total = pixels = 0.0
        rebuilt = [values.detach() for values in decoder(tokens, mask)]
        for out, picture, areas in zip(rebuilt, batch.targets.pictures, batch.targets.areas, strict=True):
            area = 1 - areas[:, :, :1] if back else areas[:, :, :1]
            target = (picture / 255.0 * area).flatten(0, 1)
            each = picture_loss(out.flatten(0, 1), target)
            total += float(each.sum()) * target.shape[-1] * target.shape[-2]
            pixels += len(each) * target.shape[-1] * target.shape[-2]
        assert float(losses[name].detach()) == pytest.approx(total / pixels, rel=1e-5)
    values = {name: float(value.detach()) for name, value in losses.items()}
    assert values['loss'] == pytest.approx(0.3 * values['fore'] + 0.7 * values['back'], rel=1e-5)
    losses['loss'].backward()
    assert scores.grad is not None and (scores.grad != 0).all()


def test_ablations(parts: Any, native_encoder: NativeEncoder) -> None:
    batch, tokens, decoder, scores = parts
    both = reconstruction_losses(scores, tokens, decoder, batch.targets)
    pixels = reconstruction_losses(scores, tokens, decoder, batch.targets, objective='pixels-only')
    assert pixels.keys() == {'loss', 'fore'}
    assert torch.equal(pixels['loss'], both['fore'])
    masks = ReconDecoder(native_encoder.spec, native_encoder.groups, layers=1, cell=4, channels=1)
    with torch.no_grad():
        torch.nn.init.zeros_(masks.head.weight)
    losses = reconstruction_losses(scores, tokens, masks, batch.targets, objective='adversarial-only')
    # Logits of zero: the entropy of a coin in both branches, whatever the mask.
    assert float(losses['fore'].detach()) == pytest.approx(np.log(2), abs=1e-5)
    assert float(losses['back'].detach()) == pytest.approx(np.log(2), abs=1e-5)
    perfect = tuple(40.0 * areas[:, :, :1] - 20.0 for areas in batch.targets.areas)
    assert float(branch_loss(perfect, batch.targets, foreground=True, pixels=False)) < 1e-6
    assert float(branch_loss(perfect, batch.targets, foreground=False, pixels=False)) > 10.0


def test_errors_on_objects_may_weigh_more(parts: Any) -> None:
    batch, tokens, decoder, scores = parts
    one, five = (
        reconstruction_losses(scores, tokens, decoder, batch.targets, object_weight=weight)['fore'].item()
        for weight in (1.0, 5.0)
    )
    rebuilt = [values.detach() for values in decoder(tokens, (scores.detach() > 0).float())]
    extra = pixels = 0.0
    for out, picture, areas in zip(rebuilt, batch.targets.pictures, batch.targets.areas, strict=True):
        squared = (out - picture / 255.0 * areas[:, :, :1]).square().mean(dim=2, keepdim=True)
        extra += float((squared * areas[:, :, 1:2]).sum())
        pixels += areas[:, :, :1].numel()
    assert five - one == pytest.approx(0.8 * 4.0 * extra / pixels, rel=1e-3)
    assert extra > 0


def test_guidance_wants_things_whole_and_road_by_its_share() -> None:
    share = torch.tensor([[[0.0, 0.0], [0.3, 0.0], [0.1, 0.03], [0.1, 0.01], [1.0, 1.0]]])
    valid = torch.tensor([[True, True, True, True, False]])
    scores = torch.zeros(1, 5, requires_grad=True)
    loss = guidance(scores, share, valid)
    assert float(loss.detach()) == pytest.approx(np.log(2))
    loss.backward()
    # The gradient of a cross-entropy by its logit: probability minus what is wanted; 4 tokens are there.
    torch.testing.assert_close(scores.grad, torch.tensor([[0.5, 0.2, -0.5, 0.4, 0.0]]) / 4)
    scores.grad = None
    guidance(scores, share, valid, road=0.5).backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[0.5, 0.35, -0.5, 0.45, 0.0]]) / 4)


def test_a_missing_camera_does_not_count(parts: Any) -> None:
    batch, tokens, decoder, _ = parts
    predicted = decoder(tokens, torch.ones(tokens.features.shape[:2]))
    present = (batch.targets.present[0], batch.targets.present[1].clone())
    present[1][:, 2] = False
    targets = dataclasses.replace(batch.targets, present=present)
    spoiled = [values.clone() for values in predicted]
    spoiled[1][:, 2] = 100.0
    one = branch_loss(predicted, targets, foreground=True, pixels=True)
    other = branch_loss(tuple(spoiled), targets, foreground=True, pixels=True)
    assert torch.equal(one, other)


def test_recall() -> None:
    share = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    found = recall(torch.tensor([[0, 2], [0, 1]]), share)
    assert float(found[0]) == 0.75 and bool(found[1].isnan())
    both = torch.stack([share, torch.tensor([[0.0, 0.0, 0.1, 0.3], [0.0, 0.0, 0.0, 0.0]])], dim=-1)
    named = recalls(torch.tensor([[0, 2], [0, 1]]), both)
    assert named['foreground_recall'][0] == 0.75 and float(named['object_recall'][0]) == pytest.approx(0.25)


def _coloured_squares(count: int, generator: torch.Generator) -> tuple[VisualTokens, Targets, Tensor]:
    """Pictures of 4 x 4 squares, one token each, which knows its colour and whether it is foreground [B, 16]."""
    foreground = torch.rand(count, 16, generator=generator) < 0.4
    colour = torch.rand(count, 16, 3, generator=generator)
    code = torch.randn(4, 32, generator=torch.Generator().manual_seed(5))
    features = torch.cat([colour - 0.5, foreground.float().unsqueeze(-1)], dim=-1) @ code + 1.0
    cell = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    rays = torch.stack([torch.ones(16), cell[:, 1] / 4 - 0.4, cell[:, 0] / 4 - 0.4], dim=-1)
    tokens = VisualTokens(
        features=features,
        camera=torch.zeros(16, dtype=torch.int64),
        row=cell[:, 0],
        column=cell[:, 1],
        rays=torch.nn.functional.normalize(rays, dim=-1).expand(count, -1, -1),
        origins=torch.zeros(count, 16, 3),
        valid=torch.ones(count, 16, dtype=torch.bool),
        names=('front',),
    )

    def picture(values: Tensor) -> Tensor:
        grid = values.reshape(count, 4, 4, -1).permute(0, 3, 1, 2)
        return grid.repeat_interleave(4, 2).repeat_interleave(4, 3).unsqueeze(1)

    area = picture(foreground.float().unsqueeze(-1)).expand(-1, -1, 2, -1, -1)
    targets = Targets(((255 * picture(colour)).to(torch.uint8),), (area,), (torch.ones(count, 1, dtype=torch.bool),))
    return tokens, targets, foreground


def test_reconstruction_teaches_what_is_foreground() -> None:
    """From scores that rank foreground last, in some dozen steps, without ever being told what it is.

    About as many tokens are then kept as are foreground, 40 %: neither all nor nothing.
    """
    torch.manual_seed(0)
    layer = {'hidden_size': 32, 'num_attention_heads': 2, 'num_key_value_heads': 2, 'intermediate_size': 64}
    spec = LayerSpec('vla_driver', {**layer, 'rms_norm_eps': 1e-6}, ('front',), 2)
    pruner, decoder = ReconPruner(spec), ReconDecoder(spec, _SQUARES, layers=1, cell=4, channels=3)
    generator = torch.Generator().manual_seed(1)

    def separation(tokens: VisualTokens, foreground: Tensor) -> float:
        scores = pruner.score(tokens).detach()
        return float((scores[foreground][:, None] > scores[~foreground][None]).float().mean())

    tokens, _, foreground = _coloured_squares(64, generator)
    with torch.no_grad():
        scores = pruner.score(tokens)
        sign = -1.0 if separation(tokens, foreground) > 0.5 else 1.0
        pruner.scorer.weight *= sign / scores.std()
        pruner.scorer.bias[0] = -pruner.score(tokens).median()
    assert separation(tokens, foreground) < 0.5
    optimizer = torch.optim.AdamW([{'params': pruner.parameters(), 'lr': 3e-4}, {'params': decoder.parameters()}], 3e-3)
    for step in range(150):
        batch, targets, _ = _coloured_squares(16, generator)
        scores = pruner.score(batch) if step >= 60 else torch.randn(16, 16, generator=generator)
        losses = reconstruction_losses(scores, batch, decoder, targets, score_limit=2.0)
        losses['loss'].backward()
        torch.nn.utils.clip_grad_norm_(pruner.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    kept = float((pruner.score(tokens) > 0).float().mean())
    assert separation(tokens, foreground) > 0.95
    assert 0.25 < kept < 0.6
