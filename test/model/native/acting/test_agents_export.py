# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The part of a tick that plans for everybody can be exported, and gives what torch gives."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import torch

from vla_driver.model.config import VlaConfig
from vla_driver.model.export.export import OPSET
from vla_driver.model.native.acting.reflex import Reflex
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.tokens import Prefix


class _Everybody(torch.nn.Module):
    """Prefix and reflex to the ego's controls, the others' states and theirs."""

    def __init__(self, model: VlaModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, keys: torch.Tensor, values: torch.Tensor, condition: torch.Tensor, bend: torch.Tensor) -> Any:
        model = self.model
        layers = model.config.language_config.num_hidden_layers
        hidden = model.action(Prefix((keys,) * layers, (values,) * layers, condition), condition)
        votes = bend.new_zeros(1, model.config.action_config.num_anchors)
        trunk = bend.new_zeros(1, model.config.view_config.hidden_size)
        decoded = model.decode_all(hidden, Reflex(bend, votes, trunk))
        assert decoded.agents is not None
        return decoded.controls, decoded.agents.table(), decoded.agent_controls


def test_everybodys_flow_is_exported(tiny_settings: Callable[[], dict[str, Any]]) -> None:
    settings = tiny_settings()
    settings['action_config']['num_agents'] = 3
    torch.manual_seed(0)
    model = VlaModel(VlaConfig(**settings)).eval()
    with torch.no_grad():
        model.flow.anchors.normal_()
        for parameter in model.flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    heads = model.config.language_config.num_key_value_heads
    shape = (1, heads, 9, model.config.language_config.hidden_size // heads)
    given = (torch.randn(shape), torch.randn(shape), torch.randn(1, 32), torch.randn(1, 20))
    graph = _Everybody(model).eval()
    with torch.no_grad():
        expected = graph(*given)
        program = torch.onnx.export(
            graph, given, dynamo=True, opset_version=OPSET, external_data=False, verbose=False, optimize=False
        )
    assert program is not None
    data = io.BytesIO()
    data.write(program.model_proto.SerializeToString())
    session = onnxruntime.InferenceSession(data.getvalue(), providers=['CPUExecutionProvider'])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, {name: value.numpy() for name, value in zip(names, given, strict=True)})
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-4)
