# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Exported graphs at work: the providers that this machine has, best first, and sessions on them.  Without torch.

On a CPU:
1. OpenVINO itself: on processors of any vendor, and it starts in half the time, for it keeps what it has compiled.
2. ONNX Runtime with the OpenVINO execution provider, where OpenVINO's own package is not installed: the same
   operations, as fast.  It is a plugin: named in `providers=[...]` it is silently not used, so it is registered, its
   CPU device looked up and added, and the session asked what it runs on.  The plugin offers devices of Intel alone.
3. ONNX Runtime's own CPU provider.
On an NVIDIA GPU: ONNX Runtime with TensorRT, then CUDA.

None of them spins: threads that wait awake for the next operation would take the cores from rclpy.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from vla_driver.types import InvalidInput

Array = npt.NDArray[Any]

OPENVINO_EP, OPENVINO, CPU_EP = 'OpenVINOExecutionProvider', 'OpenVINO', 'CPUExecutionProvider'
CUDA_EP, TENSORRT_EP = 'CUDAExecutionProvider', 'TensorrtExecutionProvider'
#: The one free dimension that graphs have.
KEPT: Final = 'K'
#: Beside the graphs: what OpenVINO has compiled of them.
COMPILED: Final = 'compiled'
#: Their names of precisions.
_OPENVINO_PRECISION: Final = {'float32': 'f32', 'bfloat16': 'bf16'}


class NoProvider(InvalidInput):
    """Nothing on this machine runs the graph so."""


@dataclass(frozen=True)
class Wanted:
    """How graphs are to be run: device 'cpu' or 'cuda:N', precision, threads (0: one per core of this process)."""

    device: str = 'cpu'
    precision: str = 'float32'
    threads: int = 0
    #: How many tokens stay (K), where that is settled: fixed shapes run a tenth faster than free ones.
    kept: int | None = None

    @property
    def thread_count(self) -> int:
        """How many threads compute."""
        return self.threads or len(os.sched_getaffinity(0))


class Session(Protocol):
    """One graph, ready to run; two threads that do so at once wait for each other."""

    provider: str
    precision: str

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name; feeds may hold more than the graph takes."""


#: Opens a graph's file.
Opener = Callable[[Path, Wanted], Session]


class OrtSession:
    """A session of ONNX Runtime."""

    def __init__(self, session: Any, provider: str, precision: str) -> None:
        got = session.get_providers()[0]
        if got != provider:
            raise NoProvider(f'ONNX Runtime runs the graph on {got}, not on {provider}')
        self.provider, self.precision = provider, precision
        self._session = session
        self._inputs = [one.name for one in session.get_inputs()]
        self._outputs = [one.name for one in session.get_outputs()]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Session`."""
        given = self._session.run(self._outputs, {name: feeds[name] for name in self._inputs})
        return dict(zip(self._outputs, given, strict=True))


def _output_name(output: Any) -> str:
    """Return what the graph calls an output: operations that do nothing are left out, and their names remain."""
    name = str(output.node.friendly_name).partition('/')[0]
    return name if name in output.names else str(output.any_name)


def _input_name(value: Any) -> str:
    """Return what the graph calls an input; where operations on it do nothing, it has their names as well."""
    name = str(value.node.friendly_name)
    return name if name in value.names else str(value.any_name)


class OpenVinoSession:
    """A session of OpenVINO, without ONNX Runtime between.

    Inputs have places of their own, into which they are copied: that takes a third of a millisecond less than handing
    over twenty arrays at every tick.  What is read-only (a rig's constants) and has not changed is not copied again.
    """

    def __init__(self, compiled: Any, precision: str) -> None:
        self.provider, self.precision = OPENVINO, precision
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()
        self._inputs = [_input_name(one) for one in compiled.inputs]
        self._outputs = [_output_name(one) for one in compiled.outputs]
        self._places: dict[str, Array] = {}
        self._constant: dict[str, Array] = {}  # read-only arrays that lie in their places already

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Session`."""
        with self._lock:
            for name in self._inputs:
                self._put(name, feeds[name])
            self._request.infer()
            # Copies: the next tick overwrites these places, too.
            return {name: self._request.get_tensor(name).data.copy() for name in self._outputs}

    def _put(self, name: str, value: Array) -> None:
        if self._constant.get(name) is value:
            return
        place = self._places.get(name)
        if place is None or place.shape != value.shape or place.dtype != value.dtype:
            import openvino

            place = self._places[name] = np.array(value)
            self._request.set_tensor(name, openvino.Tensor(place, shared_memory=True))
        else:
            np.copyto(place, value)
        if value.flags.writeable:
            self._constant.pop(name, None)
        else:
            self._constant[name] = value


def _ort_options(wanted: Wanted) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = wanted.thread_count
    options.inter_op_num_threads = 1
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.inter_op.allow_spinning', '0')
    if wanted.kept is not None:
        options.add_free_dimension_override_by_name(KEPT, wanted.kept)
    return options


@functools.cache
def _openvino_devices() -> tuple[Any, ...]:
    """Return the plugin's devices that are CPUs; none where it is not installed or offers none."""
    import onnxruntime

    try:
        import onnxruntime_ep_openvino as plugin
    except ImportError:
        return ()
    onnxruntime.register_execution_provider_library(OPENVINO_EP, plugin.get_library_path())
    cpu = onnxruntime.OrtHardwareDeviceType.CPU
    return tuple(one for one in onnxruntime.get_ep_devices() if one.ep_name == OPENVINO_EP and one.device.type == cpu)


def _open_openvino_ep(path: Path, wanted: Wanted) -> Session:
    import onnxruntime

    devices = _openvino_devices()
    if not devices:
        raise NoProvider('it offers no device for this processor')
    options = _ort_options(wanted)
    # Precision and threads are taken from `load_config` alone.
    options.add_provider_for_devices(devices[:1], {'load_config': json.dumps({'CPU': _openvino_settings(wanted)})})
    return OrtSession(onnxruntime.InferenceSession(path, options), OPENVINO_EP, wanted.precision)


def _openvino_settings(wanted: Wanted) -> dict[str, str]:
    return {
        'INFERENCE_PRECISION_HINT': _OPENVINO_PRECISION[wanted.precision],
        'INFERENCE_NUM_THREADS': str(wanted.thread_count),
        'NUM_STREAMS': '1',
        'PERFORMANCE_HINT': 'LATENCY',
        # Else the thread that asks is bound to the first core, in every process to the same one.
        'ENABLE_CPU_PINNING': 'NO',
    }


@functools.cache
def _openvino_core() -> Any:
    # The package would load its converter of models, which takes longer than the rest of it; it does without.
    sys.modules.setdefault('openvino.tools.ovc', None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core()


def _open_openvino(path: Path, wanted: Wanted) -> Session:
    core = _openvino_core()
    if 'CPU' not in core.available_devices:
        raise NoProvider('OpenVINO has no device CPU here')
    settings = _openvino_settings(wanted)
    if wanted.kept is not None:
        model = core.read_model(path)
        model.reshape(
            {
                _input_name(one): [size.get_length() if size.is_static else wanted.kept for size in one.partial_shape]
                for one in model.inputs
                if one.partial_shape.is_dynamic
            }
        )
        return OpenVinoSession(core.compile_model(model, 'CPU', settings), wanted.precision)
    if os.access(path.parent, os.W_OK):
        # What it compiled for this processor is kept beside the graphs, and goes with them: half of the start.  Not so
        # what is compiled for one number of tokens: there would be 40 MB for every budget that somebody tries.
        kept = {**settings, 'CACHE_DIR': str(path.parent / COMPILED)}
        with contextlib.suppress(Exception):  # damaged, or written by another version: compiled again below
            return OpenVinoSession(core.compile_model(path, 'CPU', kept), wanted.precision)
    return OpenVinoSession(core.compile_model(path, 'CPU', settings), wanted.precision)


def _open_cpu_ep(path: Path, wanted: Wanted) -> Session:
    import onnxruntime

    # It has no bfloat16 for most operations: what was asked for is said by the precision that comes back.
    session = onnxruntime.InferenceSession(path, _ort_options(wanted), providers=[CPU_EP])
    return OrtSession(session, CPU_EP, 'float32')


def _opener_on_gpu(provider: str) -> Opener:
    def opened(path: Path, wanted: Wanted) -> Session:
        import onnxruntime

        if provider not in onnxruntime.get_available_providers():
            raise NoProvider(f'this build of ONNX Runtime has no {provider}')
        number = int(wanted.device.partition(':')[2] or 0)
        chosen = [(provider, {'device_id': number}), CPU_EP]
        session = onnxruntime.InferenceSession(path, _ort_options(wanted), providers=chosen)
        return OrtSession(session, provider, 'float32')

    return opened


_ON_CPU: Final[Mapping[str, Opener]] = {
    OPENVINO: _open_openvino,
    OPENVINO_EP: _open_openvino_ep,
    CPU_EP: _open_cpu_ep,
}
_ON_GPU: Final[Mapping[str, Opener]] = {
    TENSORRT_EP: _opener_on_gpu(TENSORRT_EP),
    CUDA_EP: _opener_on_gpu(CUDA_EP),
}


def providers_for(device: str) -> tuple[str, ...]:
    """Return the providers to try on a device, best first."""
    return tuple(_ON_GPU if device.startswith('cuda') else _ON_CPU)


def open_graph(path: Path, provider: str, wanted: Wanted) -> Session:
    """Return a session of a graph's file on one provider.

    Raises `NoProvider`, with the reason, where it does not run here.
    """
    opener = {**_ON_CPU, **_ON_GPU}[provider]
    try:
        return opener(path, wanted)
    except NoProvider:
        raise
    except ImportError as error:
        raise NoProvider(f'{error.name or error} is not installed') from error
    except Exception as error:  # other people's code, which must not keep torch from driving
        reason = ' '.join(str(error).split())[-200:]
        raise NoProvider(f'{path.name} does not open: {reason}') from error
