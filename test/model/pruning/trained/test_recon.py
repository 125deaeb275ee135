# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_driver.model.config import VlaConfig
from vla_driver.model.pruning.base import Pruner
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import make_pruner as make_by_name
from vla_driver.model.pruning.trained.recon import ReconPruner, load_recon_pruner, straight_through
from vla_driver.model.pruning.trained.recon_layers import LayerSpec, NativeStack, layer_spec, rotary_ids
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import CAMERA_NAMES, InvalidInput

_TEXT = {
    'hidden_size': 32,
    'intermediate_size': 48,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'vocab_size': 50,
    'max_position_embeddings': 512,
}


def native_spec(width: int = 32) -> LayerSpec:
    language = {
        'hidden_size': width,
        'num_attention_heads': 4,
        'num_key_value_heads': 2,
        'intermediate_size': 48,
    }
    return layer_spec(VlaConfig(language_config=language))


def qwen_spec(kind: str) -> LayerSpec:
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

    rope = {'rope_type': 'default', 'rope_theta': 1e4, 'mrope_section': [1, 1, 2]}
    if kind == 'qwen2_5_vl':
        return layer_spec(Qwen2_5_VLConfig(text_config={**_TEXT, 'rope_parameters': rope}))
    rope['mrope_interleaved'] = True
    return layer_spec(Qwen3VLConfig(text_config={**_TEXT, 'head_dim': 8, 'rope_parameters': rope}))


SPECS: dict[str, Callable[[], LayerSpec]] = {
    'native': native_spec,
    'qwen2_5_vl': lambda: qwen_spec('qwen2_5_vl'),
    'qwen3_vl': lambda: qwen_spec('qwen3_vl'),
}


def make_tokens(width: int = 32, batch: int = 2, seed: int = 0, names: tuple[str, ...] = CAMERA_NAMES) -> VisualTokens:
    """Six cameras of 2 x 3 tokens."""
    generator = torch.Generator().manual_seed(seed)
    cell = torch.cartesian_prod(torch.arange(len(names)), torch.arange(2), torch.arange(3))
    count = len(cell)
    rays = torch.nn.functional.normalize(torch.randn(batch, count, 3, generator=generator), dim=-1)
    return VisualTokens(
        features=torch.randn(batch, count, width, generator=generator),
        camera=cell[:, 0],
        row=cell[:, 1],
        column=cell[:, 2],
        rays=rays,
        origins=torch.randn(batch, count, 3, generator=generator),
        valid=torch.ones(batch, count, dtype=torch.bool),
        names=names,
    )


def make_pruner(spec: LayerSpec, seed: int = 0) -> ReconPruner:
    torch.manual_seed(seed)
    pruner = ReconPruner(spec).eval()
    with torch.no_grad():
        for parameter in pruner.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return pruner


@pytest.mark.parametrize('backbone', SPECS)
def test_the_score_is_the_papers(backbone: str) -> None:
    """Eq. 1 and 2 step by step: the layer over [Q; V], the product with Q*, the linear scorer."""
    pruner, tokens = make_pruner(SPECS[backbone]()), make_tokens()
    mixed = pruner.stack(tokens.features, tokens, pruner.query)
    expected = pruner.scorer(mixed[:, 1:] * mixed[:, :1]).squeeze(-1)
    torch.testing.assert_close(pruner.score(tokens), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('backbone', SPECS)
def test_the_straight_through_gradient_reaches_scorer_query_and_layer(backbone: str) -> None:
    """A known third-party version gathers by index: its scorer and query get no gradient at all."""
    pruner, tokens = make_pruner(SPECS[backbone]()), make_tokens()
    mask = straight_through(pruner.score(tokens))
    (mask.unsqueeze(-1) * tokens.features).square().sum().backward()
    for name, parameter in pruner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_straight_through_is_hard_forward_and_identity_backward() -> None:
    scores = torch.tensor([[-2.0, 0.0, 1e-6, 3.0, 1e6]], requires_grad=True)
    mask = straight_through(scores)
    assert mask.tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0]]
    weights = torch.tensor([[1.0, -2.0, 3.0, 0.5, -7.0]])
    (mask * weights).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == weights.tolist()


def test_the_limit_stops_what_drives_scores_out_and_nothing_else() -> None:
    scores = torch.tensor([3.0, 3.0, -3.0, -3.0, 1.0], requires_grad=True)
    # Descent would move the scores up, down, up, down, up.
    (straight_through(scores, limit=2.0) * torch.tensor([-1.0, 1.0, -1.0, 1.0, -1.0])).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [0.0, 1.0, -1.0, 0.0, -1.0]


@pytest.mark.parametrize('backbone', SPECS)
def test_score_is_the_formula(backbone: str) -> None:
    pruner, tokens = make_pruner(SPECS[backbone]()), make_tokens()
    with torch.no_grad():
        mixed = pruner.stack(tokens.features, tokens, pruner.query)
        query, values = mixed[:, 0], mixed[:, 1:]
        expected = torch.einsum('bnd,bd,d->bn', values, query, pruner.scorer.weight[0]) + pruner.scorer.bias
        scores = pruner.score(tokens)
    assert scores.shape == (2, 36) and scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('backbone', SPECS)
def test_attention_is_bidirectional(backbone: str) -> None:
    """The first token's score depends on the last token: with causal attention it would not."""
    pruner, tokens = make_pruner(SPECS[backbone]()), make_tokens()
    changed = tokens.features.clone()
    changed[:, -1] += 1.0
    with torch.no_grad():
        before, after = pruner.score(tokens), pruner.score(dataclasses.replace(tokens, features=changed))
    assert (before - after)[:, :-1].abs().min() > 1e-6


@pytest.mark.parametrize('backbone', ['qwen2_5_vl', 'qwen3_vl'])
def test_the_layer_is_that_of_transformers_with_full_attention(backbone: str) -> None:
    """Against the real text model with one layer and an all-visible mask, final norm taken out."""
    from transformers import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel, Qwen3VLTextConfig, Qwen3VLTextModel

    spec = SPECS[backbone]()
    pruner, tokens = make_pruner(spec), make_tokens()
    config_type, model_type = (
        (Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel)
        if backbone == 'qwen2_5_vl'
        else (Qwen3VLTextConfig, Qwen3VLTextModel)
    )
    config = config_type(**{**_TEXT, **spec.layer, 'num_hidden_layers': 1})
    config._attn_implementation = 'eager'
    model = model_type(config).eval()
    model.layers[0].load_state_dict(pruner.stack.layers[0].state_dict())
    model.norm = torch.nn.Identity()
    ids = torch.cat([torch.zeros(3, 1, dtype=torch.int64), rotary_ids(tokens, CAMERA_NAMES)], dim=1)
    sequence = torch.cat([pruner.query.expand(2, 1, -1), tokens.features], dim=1)
    visible = torch.zeros(2, 1, 37, 37)
    with torch.no_grad():
        expected = model(
            inputs_embeds=sequence, position_ids=ids.unsqueeze(1).expand(-1, 2, -1), attention_mask=visible
        ).last_hidden_state
        mixed = pruner.stack(tokens.features, tokens, pruner.query)
    torch.testing.assert_close(mixed, expected, rtol=1e-4, atol=1e-5)


def test_rotary_ids_follow_the_cameras_names_not_their_numbers() -> None:
    names = ('front', 'front_left')
    tokens = make_tokens(names=names)
    ids = rotary_ids(tokens, ('front_left', 'front'))
    # front_left comes first (1), and takes max(2, 3) = 3 places.
    left, front = ids[:, 6:], ids[:, :6]
    assert left.T.tolist() == [[1, 1 + row, 1 + column] for row in range(2) for column in range(3)]
    assert front.T.tolist() == [[4, 4 + row, 4 + column] for row in range(2) for column in range(3)]
    with pytest.raises(InvalidInput, match="'roof'"):
        rotary_ids(dataclasses.replace(tokens, names=('front', 'roof')), CAMERA_NAMES)


def test_select_keeps_the_best_within_the_budget() -> None:
    pruner, tokens = make_pruner(native_spec()), make_tokens()
    assert isinstance(pruner, Pruner)
    kept = pruner.select(tokens, TokenBudget(ratio=0.5))
    scores = pruner.score(tokens).detach()
    assert kept.index.shape == (2, 18)
    for row in range(2):
        index = kept.index[row].tolist()
        assert index == sorted(set(index))
        cameras = tokens.camera[kept.index[row]].tolist()
        assert set(cameras) == set(range(6))
        # Nothing outside beats anything inside, but for the best token of a camera, which is its floor.
        best = {int(scores[row].masked_fill(tokens.camera != camera, -1e9).argmax()) for camera in range(6)}
        inside = [float(scores[row, i]) for i in index if i not in best]
        outside = [float(scores[row, i]) for i in range(36) if i not in index]
        assert not inside or min(inside) >= max(outside)


def test_tokens_of_a_missing_camera_come_last() -> None:
    pruner, tokens = make_pruner(native_spec()), make_tokens(batch=1)
    tokens = dataclasses.replace(tokens, valid=(tokens.camera != 2).unsqueeze(0))
    kept = pruner.select(tokens, TokenBudget(count=30))
    assert (tokens.camera[kept.index[0]] == 2).sum() == 1  # its floor; the other 30 would fill the budget
    assert len(kept.index[0]) == 30


def test_scores_survive_bfloat16() -> None:
    pruner, tokens = make_pruner(native_spec()), make_tokens()
    with torch.no_grad():
        exact = pruner.score(tokens)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            rough = pruner.score(dataclasses.replace(tokens, features=tokens.features.bfloat16()))
    assert rough.dtype == torch.float32
    assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > 0.999


@pytest.mark.parametrize('backbone', SPECS)
def test_saved_and_loaded_scores_alike(backbone: str, tmp_path: Path) -> None:
    pruner, tokens = make_pruner(SPECS[backbone]()), make_tokens()
    pruner.notes['objective'] = 'both'
    pruner.save_pretrained(tmp_path / 'pruner')
    assert sorted(path.name for path in (tmp_path / 'pruner').iterdir()) == ['config.json', 'model.safetensors']
    loaded = load_recon_pruner(tmp_path / 'pruner')
    assert loaded.spec == pruner.spec and loaded.notes == {'objective': 'both'}
    assert torch.equal(loaded.score(tokens), pruner.score(tokens))


def test_another_width_or_backbone_is_refused(tmp_path: Path) -> None:
    make_pruner(native_spec()).save_pretrained(tmp_path)
    load_recon_pruner(tmp_path, _config(32))
    with pytest.raises(InvalidInput, match='width 32 does not fit a vla_driver checkpoint of width 64'):
        load_recon_pruner(tmp_path, _config(64))
    from transformers import Qwen2_5_VLConfig

    with pytest.raises(InvalidInput, match='vla_driver of width 32 does not fit a qwen2_5_vl checkpoint'):
        load_recon_pruner(tmp_path, Qwen2_5_VLConfig(text_config=_TEXT))
    from transformers import BertConfig

    with pytest.raises(InvalidInput, match="a 'bert' checkpoint; ReconPruner knows vla_driver, qwen2_5_vl, qwen3_vl"):
        load_recon_pruner(tmp_path, BertConfig())
    with pytest.raises(InvalidInput, match='tokens of width 48, but this ReconPruner was trained for width 32'):
        make_pruner(native_spec()).select(make_tokens(width=48), TokenBudget(ratio=0.5))


def _config(width: int) -> VlaConfig:
    return VlaConfig(language_config={'hidden_size': width, 'num_attention_heads': 4, 'num_key_value_heads': 2})


def _write(folder: Path, entries: Any) -> None:
    (folder / 'config.json').write_text(entries if isinstance(entries, str) else json.dumps(entries))


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='is no folder'):
        load_recon_pruner(tmp_path / 'nowhere')
    with pytest.raises(InvalidInput, match=r'holds no model\.safetensors'):
        load_recon_pruner(tmp_path)
    (tmp_path / 'pruner.pt').write_bytes(b'x')
    with pytest.raises(InvalidInput, match=r'pickles \(pruner\.pt\).*refused'):
        load_recon_pruner(tmp_path)
    make_pruner(native_spec()).save_pretrained(tmp_path)
    good = json.loads((tmp_path / 'config.json').read_text())
    for entries, message in (
        ('{', 'is no configuration of a ReconPruner'),
        ({**good, 'model_type': 'vla_driver'}, "holds a 'vla_driver' model"),
        ({**good, 'backbone': 'llava'}, "backbone 'llava'; layers are known for"),
        ({**good, 'layer': {'hidden_size': 32}}, 'entries .*intermediate_size.* are missing'),
        ({**good, 'layer': {**good['layer'], 'intermediate_size': 40}}, r'do not fit its config\.json'),
        ({key: value for key, value in good.items() if key != 'camera_names'}, 'camera_names'),
    ):
        _write(tmp_path, entries)
        with pytest.raises(InvalidInput, match=message):
            load_recon_pruner(tmp_path)
    _write(tmp_path, good)
    save_file({'query': torch.zeros(32)}, tmp_path / 'model.safetensors')
    with pytest.raises(InvalidInput, match=r'do not fit its config\.json'):
        load_recon_pruner(tmp_path)


def test_positions_matter_and_a_missing_camera_has_none() -> None:
    pruner, tokens = make_pruner(native_spec()), make_tokens()
    assert isinstance(pruner.stack, NativeStack)

    def score(**changes: Tensor) -> Tensor:
        return pruner.score(dataclasses.replace(tokens, **changes)).detach()

    turned = tokens.rays.roll(1, dims=1)
    assert (score(rays=turned) - score()).abs().max() > 1e-4
    nobody = torch.zeros_like(tokens.valid)
    assert torch.equal(score(rays=turned, valid=nobody), score(valid=nobody))


def _by_score_and_difference(
    scores: Tensor, tokens: VisualTokens, budget: TokenBudget, share: float
) -> list[list[int]]:
    """The rule in plain loops: the best `share`, then always the token least like any kept one; missing ones last."""
    rows = []
    camera, total = tokens.camera.tolist(), budget.total(len(tokens.camera))
    for score, features, valid in zip(scores.detach(), tokens.features, tokens.valid.tolist(), strict=True):
        least = [budget.floor] * 6  # a missing camera's, too: it gives no more than that
        chosen: list[int] = []

        def may(token: int, chosen: list[int] = chosen, least: list[int] = least) -> bool:
            owed = [max(0, least[n] - sum(camera[t] == n for t in chosen)) for n in range(6)]
            return token not in chosen and (total - len(chosen) > sum(owed) or owed[camera[token]] > 0)

        by_score = sorted(range(len(camera)), key=lambda token: (not valid[token], -float(score[token])))
        for token in by_score[: round(share * total)]:
            if may(token):
                chosen.append(token)
        while len(chosen) < total:
            unlike = {}
            for token in filter(may, range(len(camera))):
                kept = features[chosen]
                alike = torch.nn.functional.cosine_similarity(features[token].unsqueeze(0), kept, dim=1)
                distance = (1.0 - alike) * torch.tensor([float(valid[token] and valid[other]) for other in chosen])
                unlike[token] = float(distance.min())
            chosen.append(max(unlike, key=lambda token: unlike[token]))
        rows.append(sorted(chosen))
    return rows


@pytest.mark.parametrize(
    'budget', [TokenBudget(ratio=0.5), TokenBudget(count=13, floor=2), TokenBudget(count=30)], ids=str
)
@pytest.mark.parametrize('missing', [False, True])
def test_a_share_goes_by_score_and_the_rest_by_difference(tmp_path: Path, budget: TokenBudget, missing: bool) -> None:
    made, tokens = make_pruner(native_spec()), make_tokens(seed=4)
    made.save_pretrained(tmp_path)
    if missing:
        valid = tokens.valid.clone()
        valid[:, tokens.camera == 2] = False
        tokens = dataclasses.replace(tokens, valid=valid)
    for share in (25, 50, 100):
        pruner = make_by_name(f'recon:{share}', tmp_path)
        assert isinstance(pruner, ReconPruner)
        kept = pruner.select(tokens, budget).index
        if share == 100:
            assert torch.equal(kept, made.select(tokens, budget).index)
        else:
            assert kept.tolist() == _by_score_and_difference(made.score(tokens), tokens, budget, share / 100)
    # Where all are alike, there is no difference to go by: the best one stays, and the budget is filled, each once.
    alike = dataclasses.replace(tokens, features=tokens.features[:, :1].expand_as(tokens.features).contiguous())
    kept = make_by_name('recon:1', tmp_path).select(alike, budget).index
    best = made.score(alike).masked_fill(~alike.valid, -torch.inf).argmax(dim=1)
    for row, first in zip(kept.tolist(), best.tolist(), strict=True):
        assert first in row
        assert len(set(row)) == budget.total(36)


@pytest.mark.parametrize('argument', ['0', '101', 'half', '-5', '50.0'])
def test_shares_that_are_none_are_refused(tmp_path: Path, argument: str) -> None:
    make_pruner(native_spec()).save_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match=r'allowed: 1 to 100; recon takes the per cent'):
        make_by_name(f'recon:{argument}', tmp_path)
