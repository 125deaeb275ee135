#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# openvino 2026.4.1: any_name of a compiled ONNX model's input may be the name of a tensor behind it.
#
# Where an operation on an input does nothing, OpenVINO leaves it out and gives the input the names of its result, too;
# any_name is the first of all in alphabetical order.  So who keeps the names of compiled.inputs to look up what to feed
# finds the name of an inner tensor, in one graph and not in another one that computes the same, and already the shape
# of a reshape decides.  compiled.inputs[k].node.friendly_name stays the name in the file.
#
# Seen (November 2026, Python 3.11, x86-64):
#   Identity, result "a": model input x, compiled input a, friendly name x
#   Identity, result "z": model input x, compiled input x, friendly name x
#   Reshape to the same shape, result "a": model input x, compiled input a, friendly name x
#   Reshape to another shape, result "a": model input x, compiled input x, friendly name x
# Fails if a line changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6 \
  2>"$work/pip.txt" || { cat "$work/pip.txt" >&2; exit 1; }
cat >"$work/names.py" <<'PY'
import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper


def model(operation, result, shape=None):
    constants, read = [], ['x']
    if shape is not None:
        constants, read = [numpy_helper.from_array(np.array(shape), 'shape')], ['x', 'shape']
    nodes = [helper.make_node(operation, read, [result]), helper.make_node('Relu', [result], ['y'])]
    x = helper.make_tensor_value_info('x', TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info('y', TensorProto.FLOAT, shape or [2, 3])
    graph = helper.make_graph(nodes, 'g', [x], [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


core = openvino.Core()
for title, one in (
    ('Identity, result "a"', model('Identity', 'a')),
    ('Identity, result "z"', model('Identity', 'z')),
    ('Reshape to the same shape, result "a"', model('Reshape', 'a', [2, 3])),
    ('Reshape to another shape, result "a"', model('Reshape', 'a', [3, 2])),
):
    read = core.read_model(one)
    before = read.inputs[0].any_name
    compiled = core.compile_model(read, 'CPU')
    port = compiled.inputs[0]
    print(f'{title}: model input {before}, compiled input {port.any_name}, friendly name {port.node.friendly_name}')
PY
"$work/env/bin/python" "$work/names.py" | tee "$work/seen.txt"
cat >"$work/wanted.txt" <<'TXT'
Identity, result "a": model input x, compiled input a, friendly name x
Identity, result "z": model input x, compiled input x, friendly name x
Reshape to the same shape, result "a": model input x, compiled input a, friendly name x
Reshape to another shape, result "a": model input x, compiled input x, friendly name x
TXT
diff "$work/wanted.txt" "$work/seen.txt"
