# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs made of others compute what these do one after the other, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from vla_driver.model.export.joining import _size, joined, keeping_all, only
from vla_driver.types import InvalidInput


def _value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], inner: list[Any] | None = None) -> Any:
    two = helper.make_tensor('two', TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph(nodes, 'small', inputs, outputs, [two], value_info=inner or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)


def encoder() -> Any:
    """x -> features = 2 x, and their sum, which takes a step in between."""
    nodes = [
        helper.make_node('Mul', ['x', 'two'], ['features']),
        helper.make_node('Mul', ['features', 'two'], ['between']),
        helper.make_node('ReduceSum', ['between'], ['text'], keepdims=0),
    ]
    return _model(nodes, [_value('x', 1, 5)], [_value('features', 1, 5), _value('text')])


def reader() -> Any:
    """features, kept_index, kept_features -> half of the features at the index, and the kept ones as they are."""
    nodes = [
        helper.make_node('GatherElements', ['features', 'kept_index'], ['between'], axis=1),
        helper.make_node('Div', ['between', 'two'], ['controls']),
        helper.make_node('Concat', ['kept_features', 'kept_features'], ['twice'], axis=1),
    ]
    inputs = [_value('features', 1, 5), _value('kept_index', 1, 'K', kind=TensorProto.INT64)]
    outputs = [_value('controls', 1, 'K'), _value('twice', 1, '2*K')]
    return _model(nodes, [*inputs, _value('kept_features', 1, 'K')], outputs, [_value('between', 1, 'K')])


def run(model: Any, **feeds: Any) -> dict[str, Any]:
    onnx.checker.check_model(model, full_check=True)
    outputs = [one.name for one in model.graph.output]
    return dict(zip(outputs, ReferenceEvaluator(model).run(None, feeds), strict=True))


X = np.arange(5, dtype=np.float32)[None]


def test_two_graphs_are_one_though_names_within_are_the_same() -> None:
    model = joined(encoder(), reader())
    assert [one.name for one in model.graph.input] == ['x', 'kept_index', 'kept_features']
    index = np.array([[3, 1]])
    made = run(model, x=X, kept_index=index, kept_features=X[:, :2])
    np.testing.assert_array_equal(made['features'], 2 * X)
    assert made['text'] == 4 * X.sum()
    np.testing.assert_array_equal(made['controls'], [[3.0, 1.0]])
    np.testing.assert_array_equal(made['twice'], [[0.0, 1.0, 0.0, 1.0]])


def test_all_tokens_stay_and_nobody_is_asked_which() -> None:
    model = joined(encoder(), keeping_all(reader(), 5, {'kept_features': 'features'}))
    assert [one.name for one in model.graph.input] == ['x']
    sizes = {
        one.name: [size.dim_value for size in one.type.tensor_type.shape.dim]
        for one in (*model.graph.output, *model.graph.value_info)
    }
    assert (sizes['controls'], sizes['twice'], sizes['second/between']) == ([1, 5], [1, 10], [1, 5])
    made = run(model, x=X)
    np.testing.assert_array_equal(made['controls'], X)
    np.testing.assert_array_equal(made['twice'], np.concatenate([2 * X, 2 * X], axis=1))


def test_what_only_other_outputs_need_goes() -> None:
    both = joined(encoder(), keeping_all(reader(), 5, {'kept_features': 'features'}))
    lean = only(both, ('controls',))
    assert [one.name for one in lean.graph.output] == ['controls']
    names = {name for node in lean.graph.node for name in node.output}
    assert names == {'features', 'second/between', 'controls'}
    assert {one.name for one in lean.graph.initializer} == {'two', 'second/two', 'second/kept_index'}
    np.testing.assert_array_equal(run(lean, x=X)['controls'], X)
    assert [one.name for one in both.graph.output] == ['features', 'text', 'controls', 'twice']  # left as it was


def test_what_a_branch_reads_stays() -> None:
    inner = helper.make_graph(
        [helper.make_node('Mul', ['features', 'two'], ['inside'])], 'branch', [], [_value('inside', 1, 5)]
    )
    nodes = [
        helper.make_node('Mul', ['x', 'two'], ['features']),
        helper.make_node('Mul', ['x', 'x'], ['other']),
        helper.make_node('If', ['whether'], ['chosen'], then_branch=inner, else_branch=inner),
    ]
    inputs = [_value('x', 1, 5), _value('whether', kind=TensorProto.BOOL)]
    lean = only(_model(nodes, inputs, [_value('chosen', 1, 5), _value('other', 1, 5)]), ('chosen',))
    assert [node.op_type for node in lean.graph.node] == ['Mul', 'If']
    np.testing.assert_array_equal(run(lean, x=X, whether=np.array(True))['chosen'], 4 * X)


@pytest.mark.parametrize(('text', 'size'), [('K', 7), ('K + 22', 29), ('2*K + 140', 154), ('(K - 1)//2*3', 9)])
def test_sizes_of_so_many_tokens(text: str, size: int) -> None:
    assert _size(text, 7) == size


@pytest.mark.parametrize('text', ['u0', 'K**2', 'Max(1, K)'])
def test_a_size_that_hangs_on_something_else_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=r'the size .* of a graph'):
        _size(text, 7)
