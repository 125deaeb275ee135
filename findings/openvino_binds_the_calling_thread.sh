#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# openvino 2026.4.1: while infer() runs on the CPU, the thread that called it is bound to fewer cores than the process has.
#
# Every process chooses by itself, so two of them that infer with one thread each meet on the same core while the other
# one idles.  ENABLE_CPU_PINNING=NO leaves the thread alone; INFERENCE_NUM_THREADS=1 does not.
#
# Seen (November 2026, Python 3.11, x86-64, two cores; the machine needs at least two):
#   as it comes: bound to fewer cores during infer: True, after it: False
#   ENABLE_CPU_PINNING=NO: bound to fewer cores during infer: False, after it: False
# Fails if either line changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
cat >"$work/bound.py" <<'PY'
import os
import threading
import time

import numpy as np
import openvino
from openvino import opset13

x = opset13.parameter([256, 512], np.float32, name='x')
y = x
for _ in range(40):
    y = opset13.relu(opset13.matmul(y, opset13.constant(np.full((512, 512), 1e-3, np.float32)), False, False))
model = openvino.Model([y], [x], 'products')
mine = threading.get_native_id()


def fewest_cores(request):
    """How many cores this thread may use at least, looked at every millisecond of fifty inferences."""
    seen, done = [], threading.Event()

    def look():
        while not done.is_set():
            seen.append(len(os.sched_getaffinity(mine)))
            time.sleep(0.001)

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(50):
        request.infer([np.ones((256, 512), np.float32)])
    done.set()
    watcher.join()
    return min(seen)


for name, setting in (('as it comes', {}), ('ENABLE_CPU_PINNING=NO', {'ENABLE_CPU_PINNING': 'NO'})):
    before = len(os.sched_getaffinity(0))
    compiled = openvino.Core().compile_model(model, 'CPU', {'INFERENCE_NUM_THREADS': 1, **setting})
    during, after = fewest_cores(compiled.create_infer_request()), len(os.sched_getaffinity(0))
    print(f'{name}: bound to fewer cores during infer: {during < before}, after it: {after < before}')
PY
env -i PATH="$PATH" HOME="$work" "$work/env/bin/python" "$work/bound.py" | tee "$work/seen.txt"
diff <(printf '%s\n' 'as it comes: bound to fewer cores during infer: True, after it: False' \
  'ENABLE_CPU_PINNING=NO: bound to fewer cores during infer: False, after it: False') "$work/seen.txt"
