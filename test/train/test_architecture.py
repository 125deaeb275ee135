# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A model grown from a checkpoint keeps what fits and says what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.models import SMALL_ACTION, SMALL_LANGUAGE, make_small_model

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.experts import ExpertsFeedForward
from vla_driver.model.layers.feed_forward import SwiGlu
from vla_driver.model.native.vla import VlaModel
from vla_driver.train.architecture import grown, read_architecture, upcycle
from vla_driver.types import InvalidInput


def test_what_fits_is_kept_and_the_rest_is_said(
    small_model: Callable[..., VlaModel], capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model()
    result = grown(model, {'view_config': {'coverage': True, 'reads': 'kept'}, 'action_config': {'num_anchors': 9}})
    assert result.config.reads_kept and result.config.view_config.coverage
    assert result.config.language_config.hidden_size == model.config.language_config.hidden_size
    torch.testing.assert_close(result.view.read.weight, model.view.read.weight)
    assert result.flow.anchors.shape[0] == 9
    said = capsys.readouterr().err
    assert 'start afresh (flow.anchors' in said and 'left behind (flow.anchors' in said


def test_what_is_no_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    for content, words in (('{', r'a\.json'), ('[1]', 'a list, expected an object')):
        path.write_text(content)
        with pytest.raises(InvalidInput, match=words):
            read_architecture(path)
    with pytest.raises(InvalidInput, match=r'a\.json'):
        read_architecture(tmp_path / 'none' / 'a.json')


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        ({'langauge_config': {}}, r'langauge_config: there is no such entry \(did you mean language_config\?\)'),
        (
            {'language_config': {'num_expert': 4}},
            r'language_config\.num_expert: .*did you mean num_experts.*; allowed: ',
        ),
        ({'wings': 2}, 'wings: there is no such entry; allowed: action_config, auxiliary, blind'),
    ],
)
def test_entries_that_nobody_heeds_are_refused(tmp_path: Path, entries: dict[str, object], words: str) -> None:
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(entries))
    with pytest.raises(InvalidInput, match=words):
        read_architecture(path)
    assert read_architecture(Path('config/nano.json'))['view_config']


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        (
            {'language_config': {'num_attention_heads': 3}},
            'language_config.num_attention_heads is 3, expected a divisor',
        ),
        ({'vision_config': {'num_attention_heads': 5}}, 'vision_config.num_attention_heads is 5, expected a divisor'),
        ({'vision_config': {'dense_cells': 2}}, 'vision_config.dense_cells is 2, expected 4'),
    ],
)
def test_sizes_that_do_not_fit_are_named(entries: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        VlaConfig(**entries)


def test_no_parameter_is_a_single_number_without_a_dimension() -> None:
    """DeepSpeed cannot send one from process to process (findings/deepspeed_broadcasts_no_0d_parameter.sh)."""
    whole = make_small_model(
        language_config={**SMALL_LANGUAGE, 'num_experts': 4, 'expert_size': 16, 'shared_size': 16},
        action_config={**SMALL_ACTION, 'num_agents': 2},
        words_config={'grammar': 1},
        intent=True,
    )
    assert [name for name, one in whole.named_parameters() if one.ndim == 0] == []


def test_what_is_grown_drives_by_the_reflex_until_it_is_trained(
    small_model: Callable[..., VlaModel], capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model()
    # What is added leaves what is there at work.
    for added in ({'view_config': {'coverage': True, 'reads': 'kept'}}, {'action_config': {'num_agents': 2}}):
        torch.testing.assert_close(grown(model, added).flow.hidden.weight, model.flow.hidden.weight)
    assert 'reflex alone' not in capsys.readouterr().err
    deeper = grown(model, {'language_config': {'num_experts': 4, 'expert_size': 16, 'shared_size': 16}})
    assert 'by the reflex alone until stage policy or all has run' in capsys.readouterr().err
    hidden = torch.randn(2, model.config.action_config.horizon, model.config.action_config.hidden_size)
    reflex = deeper.reflexes(torch.randn(2, deeper.config.view_config.hidden_size), torch.randn(2, 4, 32))
    torch.testing.assert_close(deeper.flow.classify(hidden, reflex), reflex.votes)
    torch.testing.assert_close(deeper.flow.condition(hidden, reflex)[:, :1], deeper.flow.condition(None, reflex))


@pytest.mark.parametrize('scale', [1.0, 2.5])
def test_experts_cut_out_of_a_network_are_the_whole_where_all_are_asked(scale: float) -> None:
    """Shared half and two lots: with a router that weighs both alike, the answer is that of the network."""
    torch.manual_seed(0)
    network = SwiGlu(12, 64)
    experts = ExpertsFeedForward(12, 2, 2, 16, 32, route_scale=scale)
    experts.router.weight.data.zero_()
    upcycle(network, experts)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(experts(x), network(x))
    # The shared network has the channels that weigh most.
    assert experts.shared is not None
    assert experts.shared.down.weight.norm() > 1.05 * experts.experts.down.norm() / (2 / scale)


def test_of_many_experts_a_random_choice_is_the_whole_in_the_mean() -> None:
    torch.manual_seed(1)
    network, x = SwiGlu(12, 64), torch.randn(1, 40, 12)
    answers = []
    for _ in range(200):
        experts = ExpertsFeedForward(12, 8, 2, 16, 32)
        experts.router.weight.data *= 1e-3
        experts.router.bias = torch.randn(8)
        upcycle(network, experts)
        answers.append(experts(x))
    whole = network(x)
    far = torch.stack([(answer - whole).norm() for answer in answers]).mean()
    assert (torch.stack(answers).mean(0) - whole).norm() < 0.15 * far
    fresh = torch.stack([(ExpertsFeedForward(12, 8, 2, 16, 32)(x) - whole).norm() for _ in range(20)]).mean()
    assert far < 0.9 * fresh


def test_a_shared_network_wider_than_what_it_replaces_is_all_of_it() -> None:
    network, experts = SwiGlu(12, 24), ExpertsFeedForward(12, 4, 2, 16, 32)
    upcycle(network, experts)
    assert experts.shared is not None
    x = torch.randn(3, 12)
    torch.testing.assert_close(experts.shared(x), network(x))


def test_growing_says_what_experts_are_cut_from(
    small_model: Callable[..., VlaModel], capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model()
    layers = {'num_experts': 4, 'experts_per_token': 2, 'expert_size': 8, 'shared_size': 16, 'expert_layers': [0]}
    result = grown(model, {'language_config': layers})
    assert 'experts of language.layers.0.mlp begin as parts of the networks' in capsys.readouterr().err
    down = result.language.layers[0].mlp.experts.down
    theirs = model.language.layers[0].mlp.down.weight
    towards = torch.nn.functional.normalize(theirs.T, dim=-1) @ torch.nn.functional.normalize(down[0], dim=0)
    torch.testing.assert_close(towards.amax(dim=0), torch.ones(8))
