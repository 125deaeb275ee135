# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A model grown from a checkpoint keeps what fits and says what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.models import SMALL_ACTION, SMALL_LANGUAGE, make_small_model

from vla_driver.model.native.vla import VlaModel
from vla_driver.train.architecture import grown, read_architecture
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
