# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Sessions: their thread may go to any core, so that two processes do not meet on one; inputs have their own names."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vla_driver.model.export.session import OPENVINO_EP, Wanted, _openvino_devices, open_graph, providers_for

WIDTH = 256


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A chain of products, long enough to be seen at work."""
    weight = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), 'weight')
    nodes = [helper.make_node('MatMul', [f'x{k}', 'weight'], [f'x{k + 1}']) for k in range(8)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [WIDTH, WIDTH]) for name in ('x0', 'x8')]
    model = helper.make_model(
        helper.make_graph(nodes, 'chain', ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid('', 18)],
        ir_version=10,
    )
    path = tmp_path / 'chain.onnx'
    onnx.save(model, path)
    return path


def _providers() -> list[str]:
    """Return the providers that a CPU has; OpenVINO's plugin offers devices of Intel alone."""
    return [one for one in providers_for('cpu') if one != OPENVINO_EP or _openvino_devices()]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='with one core there is nothing to choose')
@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('provider', _providers())
def test_the_thread_that_runs_a_graph_is_bound_to_no_core(graph: Path, provider: str, threads: int) -> None:
    session = open_graph(graph, provider, Wanted(threads=threads))
    allowed, runner = os.sched_getaffinity(0), threading.get_native_id()
    seen: set[frozenset[int]] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(frozenset(os.sched_getaffinity(runner)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(100):
            session.run({'x0': np.ones((WIDTH, WIDTH), np.float32)})
    finally:
        done.set()
        watcher.join()
    assert seen == {frozenset(allowed)}


@pytest.mark.parametrize('provider', _providers())
@pytest.mark.parametrize('kept', [None, 3])
def test_inputs_keep_their_names_where_what_follows_does_nothing(
    tmp_path: Path, provider: str, kept: int | None
) -> None:
    """OpenVINO gives an input the names of what it leaves out, and the first in the alphabet is not the input's."""
    nodes = [helper.make_node('Identity', ['x'], ['a']), helper.make_node('Relu', ['a'], ['y'])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 'K']) for name in 'xy')
    model = helper.make_model(
        helper.make_graph(nodes, 'nothing', [x], [y]), opset_imports=[helper.make_opsetid('', 20)], ir_version=10
    )
    path = tmp_path / 'nothing.onnx'
    onnx.save(model, path)
    session = open_graph(path, provider, Wanted(threads=1, kept=kept))
    np.testing.assert_array_equal(session.run({'x': np.float32([[-1, 0, 2]])})['y'], [[0, 0, 2]])
