# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vla_driver.data.frames import open_frames
from vla_driver.model.config import VlaConfig
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.trained.recon import ReconPruner, load_recon_pruner
from vla_driver.model.pruning.trained.recon_layers import LayerSpec
from vla_driver.model.tokens import VisualTokens
from vla_driver.train import pruner as command
from vla_driver.train.pruner_trainer import PrunerConfig, PrunerTrainer, cosine_factor, make_batch
from vla_driver.train.reconstruction import (
    ReconDecoder,
    Targets,
    branch_loss,
    guidance,
    picture_loss,
    recall,
    reconstruction_losses,
    token_shares,
)
from vla_driver.train.ssim import ssim
from vla_driver.train.token_encoder import NativeEncoder
from vla_driver.types import InvalidInput

_SQUARES = (((4, 4), ('front',)),)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory, small_model_file: Path) -> Path:
    """A small native checkpoint with random weights."""
    folder = tmp_path_factory.mktemp('checkpoint')
    torch.manual_seed(0)
    VlaModel(VlaConfig(**json.loads(small_model_file.read_text()), auxiliary=False)).save_pretrained(folder)
    return folder


@pytest.fixture(scope='module')
def encoder(checkpoint: Path) -> NativeEncoder:
    from vla_driver.train.token_encoder import open_encoder

    found = open_encoder(str(checkpoint))
    assert isinstance(found, NativeEncoder)
    return found


@pytest.fixture
def train(checkpoint: Path, episodes: Path) -> Any:
    """Run the command with small settings: (out, *more arguments) -> figures of the last validation."""

    def run(out: Path, *more: str, data: Path = episodes) -> dict[str, float]:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        common = ['--data', str(data), '--model', str(checkpoint), '--out', str(out), '--batch', '2', '--cell', '4']
        common += [
            '--decoder-layers',
            '1',
            '--validate',
            '4',
            '--device',
            'cpu',
            '--threads',
            '1',
            '--decoder-steps',
            '1',
        ]
        return command.train_pruner(parser.parse_args([*common, *more]))

    return run


def test_ssim_is_the_direct_formula() -> None:
    """Wang et al. 2004, written out window by window."""
    generator = np.random.default_rng(0)
    x, y = generator.random((2, 2, 14, 17))
    y = 0.7 * x + 0.3 * y
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for channel in range(2):
        for top in range(4):
            for left in range(7):
                a, b = (z[channel, top : top + 11, left : left + 11] for z in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                cov = (window * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 0.01**2)
                    * (2 * cov + 0.03**2)
                    / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
                )
    pictures = [torch.from_numpy(z).float().unsqueeze(0) for z in (x, y)]
    assert float(ssim(*pictures)[0]) == pytest.approx(np.mean(values), abs=1e-5)
    assert float(ssim(pictures[0], pictures[0])[0]) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(InvalidInput, match='SSIM of 17x10 pictures'):
        ssim(pictures[0][..., :10, :], pictures[1][..., :10, :])


def test_picture_loss_weighs_its_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 3, 16, 16, generator=generator).unbind(0)
    expected = 0.2 * (1 - ssim(x, y)) + 0.8 * ((x - y) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(picture_loss(x, y), expected)
    assert float(picture_loss(x, x).abs().max()) < 1e-5


def test_targets_decoder_and_shares_agree_on_where_a_token_lies(encoder: NativeEncoder, episodes: Path) -> None:
    """The decoder's pixels of token n land where token n looks, in a picture of which only that part is foreground."""
    batch = make_batch(open_frames([episodes]), [3, 17], encoder, cell=4)
    tokens = encoder.encode(batch.inputs)
    decoder = ReconDecoder(encoder.spec, encoder.groups, layers=1, cell=4, channels=1)
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


@pytest.fixture
def parts(encoder: NativeEncoder, episodes: Path) -> Any:
    """(batch, tokens, decoder, scores) of two frames."""
    torch.manual_seed(0)
    batch = make_batch(open_frames([episodes]), [3, 17], encoder, cell=4)
    tokens = encoder.encode(batch.inputs)
    scores = torch.randn(tokens.features.shape[:2]).requires_grad_()
    return batch, tokens, ReconDecoder(encoder.spec, encoder.groups, layers=1, cell=4, channels=3), scores


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


def test_ablations(parts: Any, encoder: NativeEncoder) -> None:
    batch, tokens, decoder, scores = parts
    both = reconstruction_losses(scores, tokens, decoder, batch.targets)
    pixels = reconstruction_losses(scores, tokens, decoder, batch.targets, objective='pixels-only')
    assert pixels.keys() == {'loss', 'fore'}
    assert torch.equal(pixels['loss'], both['fore'])
    masks = ReconDecoder(encoder.spec, encoder.groups, layers=1, cell=4, channels=1)
    with torch.no_grad():
        torch.nn.init.zeros_(masks.head.weight)
    losses = reconstruction_losses(scores, tokens, masks, batch.targets, objective='adversarial-only')
    # Logits of zero: the entropy of a coin in both branches, whatever the mask.
    assert float(losses['fore'].detach()) == pytest.approx(np.log(2), abs=1e-5)
    assert float(losses['back'].detach()) == pytest.approx(np.log(2), abs=1e-5)
    perfect = tuple(40.0 * areas[:, :, :1] - 20.0 for areas in batch.targets.areas)
    assert float(branch_loss(perfect, batch.targets, foreground=True, pixels=False)) < 1e-6
    assert float(branch_loss(perfect, batch.targets, foreground=False, pixels=False)) > 10.0


def test_centred_scores_keep_and_drop_whatever_the_bias(encoder: NativeEncoder, episodes: Path) -> None:
    """A bias that would keep nothing changes neither which tokens are kept in training nor what is learned."""
    kept = {}
    for centre, bias in ((True, 0.0), (True, -50.0), (False, -50.0)):
        config = PrunerConfig(steps=4, batch=2, decoder_layers=1, cell=4, decoder_steps=0, centre=centre)
        trainer = PrunerTrainer(encoder, config)
        tokens = encoder.encode(make_batch(open_frames([episodes]), [3, 17], encoder, cell=4).inputs)
        with torch.no_grad():
            trainer.pruner.scorer.bias += bias
            kept[centre, bias] = trainer._centred(trainer.pruner.score(tokens), tokens) > 0
    assert torch.equal(kept[True, 0.0], kept[True, -50.0])
    assert 0.1 < kept[True, 0.0].float().mean() < 0.9
    assert not kept[False, -50.0].any()


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


def test_guidance_is_learned_beside_the_reconstruction(encoder: NativeEncoder, episodes: Path) -> None:
    """With guidance both losses fall; without it there is no such loss."""
    batch = make_batch(open_frames([episodes]), [3, 17, 25, 33], encoder, cell=4)
    for guide in (0.0, 1.0):
        config = PrunerConfig(
            steps=30, batch=4, decoder_layers=1, cell=4, learning_rate=5e-3, warmup=1, decoder_steps=0, guide=guide
        )
        trainer = PrunerTrainer(encoder, config)
        values = [trainer.train_step(batch) for _ in range(30)]
        assert all(('guide' in row) is (guide > 0) for row in values)
        assert values[-1]['loss'] < 0.8 * values[0]['loss']
    assert values[-1]['guide'] < 0.8 * values[0]['guide']


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


def test_cosine_schedule() -> None:
    factors = [cosine_factor(step, 1000, 100) for step in range(1001)]
    assert factors[0] == pytest.approx(0.01, rel=0.01)
    assert max(factors) == pytest.approx(factors[99], rel=0.02)
    assert factors[550] == pytest.approx(0.5, abs=0.1) and factors[1000] == pytest.approx(0.02)


def test_training_lowers_the_loss_and_starts_undecided(encoder: NativeEncoder, episodes: Path) -> None:
    config = PrunerConfig(steps=12, batch=2, decoder_layers=1, cell=4, learning_rate=5e-3, warmup=1, decoder_steps=0)
    trainer = PrunerTrainer(encoder, config)
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    batch = make_batch(open_frames([episodes]), [3, 17], encoder, cell=4)
    steps = [trainer.train_step(batch) for _ in range(12)]
    assert 0.4 < steps[0]['kept'] < 0.6  # neither all nor nothing, where no token could be told from another
    assert steps[-1]['loss'] < 0.8 * steps[0]['loss']
    assert 0.0 < steps[-1]['kept'] < 1.0
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    assert {'fore', 'back', 'lr', 'grad_norm'} <= steps[0].keys()


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


def test_resuming_is_exact(train: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Four steps, and two, an interruption and two more, end in the same weights and moments."""
    whole, halves = tmp_path / 'whole', tmp_path / 'halves'
    train(whole, '--steps', '4')
    step = PrunerTrainer.train_step

    def interrupt(self: PrunerTrainer, batch: Any) -> dict[str, float]:
        if self.step == 2:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(PrunerTrainer, 'train_step', interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(halves, '--steps', '4')
    monkeypatch.setattr(PrunerTrainer, 'train_step', step)
    assert json.loads((halves / 'state/state.json').read_text())['step'] == 2
    with pytest.raises(InvalidInput, match='already holds a run'):
        train(halves, '--steps', '4')
    with pytest.raises(InvalidInput, match=r'alpha: 0\.5 there, 0\.2 here'):
        train(halves, '--steps', '4', '--alpha', '0.2', '--resume')
    train(halves, '--steps', '4', '--resume')
    one, other = (load_file(folder / 'state/state.safetensors') for folder in (whole, halves))
    assert one.keys() == other.keys() and any(name.startswith('optimizer.exp_avg_sq.pruner.') for name in one)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0.0, atol=1e-6, msg=name)


def test_writes_a_pruner_that_others_load(train: Any, tmp_path: Path, encoder: NativeEncoder, episodes: Path) -> None:
    figures = train(tmp_path / 'run', '--steps', '2', '--adversarial-only')
    for share in (25, 50, 75):
        assert 0 <= figures[f'foreground_recall_{share}'] <= 1
    assert 0 <= figures['kept'] <= 1
    pruner = load_recon_pruner(tmp_path / 'run', encoder.model.config)
    assert pruner.notes['objective'] == 'adversarial-only' and pruner.notes['step'] == 2
    tokens = encoder.encode(make_batch(open_frames([episodes]), [0], encoder, cell=4).inputs)
    assert pruner.select(tokens, TokenBudget(ratio=0.75)).index.shape == (1, 33)
    kinds = [json.loads(line)['kind'] for line in (tmp_path / 'run/log.jsonl').read_text().splitlines()]
    assert kinds == ['start', 'train', 'validation']


def test_cached_features_train_alike(train: Any, tmp_path: Path) -> None:
    train(tmp_path / 'plain', '--steps', '1', '--decoder-steps', '0')
    train(tmp_path / 'cached', '--steps', '1', '--decoder-steps', '0', '--features', str(tmp_path / 'features'))
    assert len(list((tmp_path / 'features').rglob('*.npy'))) == 4
    losses = [
        json.loads((tmp_path / name / 'log.jsonl').read_text().splitlines()[1])['loss'] for name in ('plain', 'cached')
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # float16, and batches of another size


def test_wrong_settings_are_named(train: Any, tmp_path: Path) -> None:
    for words, message in (
        (('--steps', '0'), '--steps is 0, expected a positive number'),
        (('--steps', '9', '--decoder-steps', '9'), '--decoder-steps is 9, expected 0 or more and less than'),
        (('--alpha', '2'), 'expected 0 or more, and 0 to 1'),
        (('--guide-road', '0'), '--guide-road is 0.0, expected above 0 and at most 1'),
        (('--picture-size', '10x10'), '--picture-size is for Qwen-VL'),
        (('--picture-size', 'big'), "--picture-size 'big', expected WIDTHxHEIGHT"),
        (('--resume',), 'holds no training state to resume'),
    ):
        with pytest.raises(InvalidInput, match=message):
            train(tmp_path / 'out', *words)
