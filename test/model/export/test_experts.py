# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Experts in a graph: the same sum as in torch, for as many tokens as there are, with experts that nobody asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from vla_driver.model.export.experts import translations
from vla_driver.model.export.export import OPSET
from vla_driver.model.layers.experts import ExpertsFeedForward


@pytest.mark.parametrize('backend', ['grouped', 'dense'])
def test_a_graph_gives_what_torch_gives(tmp_path: Path, backend: str) -> None:
    torch.manual_seed(0)
    layer = ExpertsFeedForward(32, 6, 2, 16, 24, backend=backend).eval()
    layer.router.bias.normal_(std=0.2)
    layer.router.bias[3] = -100.0  # nobody asks it
    file = tmp_path / 'experts.onnx'
    torch.onnx.export(
        layer,
        (torch.randn(1, 13, 32),),
        file,
        input_names=['x'],
        output_names=['y'],
        dynamic_shapes=({1: torch.export.Dim('K', min=2, max=200)},),
        custom_translation_table=translations(),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
    )
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    layer.experts.backend = 'loop'
    for tokens in (2, 13, 40):
        x = torch.randn(1, tokens, 32)
        (y,) = session.run(None, {'x': x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(y, layer(x).numpy(), atol=1e-5)
    routing = layer.last_routing
    assert routing is not None
    assert int(routing.counts()[3]) == 0
    # Experts that compute for others than their own tokens would show as products of all experts at once.
    products = [node for node in onnx.load(file).graph.node if node.op_type == 'MatMul']
    assert (len(products) > 2 * 6) is (backend == 'grouped')
