# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Routed experts in ONNX: sorted by expert, then one slice and two products for each, whatever the engine.

The lengths of the slices are known only when the graph runs; all other shapes are those of the tokens.  No expert
reads a token that was not sent to it, and none is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vla_driver.model.layers.experts import routed_experts  # registers the operation


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table for `torch.onnx.export` of what it does not know itself."""
    assert routed_experts is not None
    return {torch.ops.vla_driver.routed_experts.default: _routed_experts}


def _routed_experts(x: Any, index: Any, weight: Any, gate_up: Any, down: Any) -> Any:
    """Return the nodes for `layers.experts.routed_experts`: x [T, D], index and weight [T, K] -> [T, D]."""
    import onnxscript

    op: Any = onnxscript.opset20  # as `export.OPSET`; its own types are too narrow for what it is given here

    experts, k, width = int(gate_up.shape[0]), int(index.shape[1]), int(x.shape[1])

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    chosen = op.Reshape(index, ints(-1))  # [T * K]
    hot = op.Cast(op.Equal(op.Unsqueeze(chosen, ints(1)), ints(*range(experts))), to=6)  # int32 [T * K, N]
    counts = op.Cast(op.ReduceSum(hot, ints(0), keepdims=0), to=7)
    ends = op.CumSum(counts, op.Constant(value_int=0))
    starts = op.Sub(ends, counts)
    # A stable sort by counting: engines break ties of `TopK` each in its own way.
    before = op.Sub(op.CumSum(hot, op.Constant(value_int=0)), op.Constant(value=_tensor(np.int32(1))))
    within = op.Reshape(op.GatherElements(before, op.Unsqueeze(chosen, ints(1)), axis=1), ints(-1))
    place = op.Add(op.Cast(within, to=7), op.Gather(starts, chosen))
    rows = op.Range(op.Constant(value_int=0), op.Squeeze(op.Shape(chosen), ints(0)), op.Constant(value_int=1))
    order = op.ScatterElements(op.Mul(rows, op.Constant(value_int=0)), place, rows)
    token = op.Div(order, op.Constant(value_int=k))

    def each(values: Any, weights: Any) -> Any:
        parts = []
        for number in range(experts):
            start, end = (op.Slice(cuts, ints(number), ints(number + 1)) for cuts in (starts, ends))
            own = op.Transpose(op.Gather(weights, op.Constant(value_int=number)), perm=[1, 0])
            parts.append(op.MatMul(op.Slice(values, start, end, ints(0)), own))
        return op.Concat(*parts, axis=0)

    gate, up = op.Split(each(op.Gather(x, token), gate_up), axis=1, num_outputs=2)
    counted = op.CastLike(op.Unsqueeze(op.Gather(op.Reshape(weight, ints(-1)), order), ints(1)), x)
    hidden = op.Mul(op.Mul(op.Mul(gate, op.Sigmoid(gate)), up), counted)
    answers = op.Reshape(op.Gather(each(hidden, down), place), ints(-1, k, width))
    return op.ReduceSum(answers, ints(1), keepdims=0)


def _tensor(value: Any) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.asarray(value))
