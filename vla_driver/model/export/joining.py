# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs made of others: two of them made one, one for all tokens, one that puts out less."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla_driver.model.export.session import KEPT
from vla_driver.types import InvalidInput


def joined(first: Any, second: Any) -> Any:
    """Return the onnx.ModelProto that runs `first` and then `second` on it, and puts out what both do.

    Inputs of the same name are one; an input of `second` that `first` puts out is taken from there.  Names inside the
    second graph are set apart.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(first)
    graph, outer = model.graph, {one.name for one in (*first.graph.input, *first.graph.output)}
    more = [one for one in second.graph.input if one.name not in outer]
    shared = outer | {one.name for one in (*more, *second.graph.output)}

    def apart(name: str) -> str:
        return name if not name or name in shared else f'second/{name}'

    graph.input.extend(more)
    graph.output.extend(second.graph.output)
    for tensor in second.graph.initializer:
        kept = graph.initializer.add()
        kept.CopyFrom(tensor)
        kept.name = apart(tensor.name)
    # Shapes within: OpenVINO's provider takes what has none for a single number.
    for inner in second.graph.value_info:
        known_shape = graph.value_info.add()
        known_shape.CopyFrom(inner)
        known_shape.name = apart(inner.name)
    for node in second.graph.node:
        kept = graph.node.add()
        kept.CopyFrom(node)
        kept.name = apart(node.name) if node.name else ''
        kept.input[:] = [apart(name) for name in node.input]
        kept.output[:] = [apart(name) for name in node.output]
    known = {(one.domain, one.version) for one in model.opset_import}
    model.opset_import.extend(one for one in second.opset_import if (one.domain, one.version) not in known)
    names = {(one.domain, one.name) for one in model.functions}
    model.functions.extend(one for one in second.functions if (one.domain, one.name) not in names)
    return model


def keeping_all(model: Any, count: int, same: Mapping[str, str]) -> Any:
    """Return the graph behind a cut (an onnx.ModelProto) for the case that all tokens stay.

    It no longer asks which tokens stay (`kept_index`), and its shapes are those of `count` tokens.
    same: inputs that are then the same as other ones, such as the kept features.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    every = np.arange(count, dtype=np.int64)[None]
    graph.initializer.append(onnx.numpy_helper.from_array(every, 'kept_index'))
    asked = [one for one in graph.input if one.name not in ('kept_index', *same)]
    del graph.input[:]
    graph.input.extend(asked)
    nodes = [onnx.helper.make_node('Identity', [other], [name]) for name, other in same.items()]
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = _size(size.dim_param, count)
    return fixed


def only(model: Any, outputs: Sequence[str]) -> Any:
    """Return the graph (an onnx.ModelProto) that gives these outputs alone, without what only others need.

    Inputs stay where something reads them.
    """
    import onnx

    lean = onnx.ModelProto()
    lean.CopyFrom(model)
    graph = lean.graph
    ends = {one.name: one for one in graph.output}
    del graph.output[:]
    graph.output.extend(ends[name] for name in outputs)
    needed, nodes = set(outputs), []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        nodes.append(node)
        needed.update(_read_by(node))
    for part, kept in (
        (graph.node, nodes[::-1]),
        (graph.initializer, [one for one in graph.initializer if one.name in needed]),
        (graph.input, [one for one in graph.input if one.name in needed]),
        (graph.value_info, [one for one in graph.value_info if one.name in needed]),
    ):
        kept = [_copy(one) for one in kept]
        del part[:]
        part.extend(kept)
    return lean


def _copy(value: Any) -> Any:
    """Return a copy of a message, which the clearing of the list that holds it leaves alone."""
    copied = type(value)()
    copied.CopyFrom(value)
    return copied


def _read_by(node: Any) -> set[str]:
    """Return the names that a node reads, those inside its branches and loops, too."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            names.update(name for one in inner.node for name in _read_by(one))
            names.update(one.name for one in inner.output)  # a branch may hand on what is outside
    return names


def _size(expression: str, count: int) -> int:
    """Return what the exporter's expression of a size, such as 2*K + 140, is for so many tokens."""

    def value(node: ast.AST) -> int:
        match node:
            case ast.Expression(body=inside):
                return value(inside)
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name) if name == KEPT:
                return count
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return value(left) + value(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return value(left) - value(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return value(left) * value(right)
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                return value(left) // value(right)
        raise InvalidInput(
            f'the size {expression!r} of a graph: expected sums and products of numbers and {KEPT}; '
            'this checkpoint runs in torch alone'
        )

    return value(ast.parse(expression, mode='eval'))
