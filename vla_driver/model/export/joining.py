# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Two ONNX graphs made one: what the first puts out goes into the second, and both put out what they did."""

from __future__ import annotations

from typing import Any


def joined(first: Any, second: Any, without: tuple[str, ...] = ()) -> Any:
    """Return the onnx.ModelProto that runs `first` and then `second` on it.

    Inputs of the same name are one; an input of `second` that `first` puts out is taken from there.  Names inside the
    second graph are set apart.  without: outputs that nobody wants any more; runtimes leave out what only they need.
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
    outputs = [one for one in (*first.graph.output, *second.graph.output) if one.name not in without]
    del graph.output[:]
    graph.output.extend(outputs)
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
