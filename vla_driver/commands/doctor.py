# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Check every part this package stands on, by using it, and say what to do about what fails.

Parts: Python and its packages, ROS 2 and this package's messages, a message over DDS, shared memory,
OpenGL (EGL), SUMO, torch, the shipped checkpoints. Exit code 1 if a part fails that everything needs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from vla_driver.commands.common import add_json_argument, provenance, write_json
from vla_driver.types import VlaDriverError

_SETUP: Final = 'run `make setup` in the source tree'
_PROBE_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Finding:
    """One part.  state: 'ok', 'limited' (something optional is missing) or 'fault'."""

    part: str
    state: str
    detail: str
    remedy: str = ''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    findings = []
    for check in CHECKS:
        finding = check()
        findings.append(finding)
        print(f'{_MARKS[finding.state]} {finding.part:<12} {finding.detail}', flush=True)
        if finding.remedy:
            print(f'  {"":<14} -> {finding.remedy}', flush=True)
    faults = [finding.part for finding in findings if finding.state == 'fault']
    print(f'\n{"all parts work" if not faults else "faults: " + ", ".join(faults)}')
    if args.json is not None:
        write_json(args.json, {'findings': [asdict(f) for f in findings], 'faults': faults, 'provenance': provenance()})
    return 1 if faults else 0


_MARKS: Final = {'ok': '  ok    ', 'limited': 'limited ', 'fault': ' FAULT  '}


def _probe(code: str) -> tuple[bool, str]:
    """Run code in a fresh interpreter (native libraries may take it down); return success and its last line."""
    try:
        done = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f'no answer within {_PROBE_TIMEOUT_S:.0f} s'
    if done.returncode < 0:
        return False, f'crashed with signal {-done.returncode}'
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f'exit code {done.returncode} without a word'


def _python() -> Finding:
    return Finding('python', 'ok', f'{platform.python_version()} at {sys.executable}')


def _packages() -> Finding:
    needed = (
        'numpy',
        'scipy',
        'opencv-python-headless',
        'simplejpeg',
        'pillow',
        'rosbags',
        'mcap',
        'lz4',
        'zstandard',
        'PyYAML',
        'tqdm',
    )
    found, missing = [], []
    for name in needed:
        try:
            found.append(f'{name} {importlib.metadata.version(name)}')
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding('packages', 'fault', f'missing: {", ".join(missing)}', _SETUP)
    return Finding('packages', 'ok', ', '.join(found))


#: The distributions before Jazzy, whose rclpy lacks what the nodes are made of; scripts/make_venv.sh has the same list.
_TOO_OLD: Final = ('ardent', 'bouncy', 'crystal', 'dashing', 'eloquent', 'foxy', 'galactic', 'humble', 'iron')

# By what it can do, too: a ROS 2 built from source may be called anything.
_ROS_PROBE: Final = """
import importlib.util, os, rclpy
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier as rmw
able = hasattr(Node, 'add_post_set_parameters_callback') and importlib.util.find_spec('rclpy.event_handler')
assert able, f'ROS 2 Jazzy or newer is needed; older is {rclpy.__file__}'
print(os.environ.get('ROS_DISTRO') or 'wheels', rmw(), rclpy.__file__)
"""


def _ros() -> Finding:
    sourced = os.environ.get('ROS_DISTRO', '')
    if sourced in _TOO_OLD:
        remedy = f'source ROS 2 Jazzy or newer; or, in a shell where none is sourced, {_SETUP}'
        return Finding('ros', 'fault', f'ROS 2 {sourced} is sourced; ROS 2 Jazzy or newer is needed', remedy)
    good, line = _probe(_ROS_PROBE)
    if not good:
        return Finding('ros', 'fault', line, f'{_SETUP}, or source ROS 2 Jazzy or newer (/opt/ros/jazzy/setup.bash)')
    return Finding('ros', 'ok', line)


def _messages() -> Finding:
    good, line = _probe(
        'from vla_driver.msg import DrivingPlan, TurnCommand; import vla_driver.msg as m; print(m.__path__[0])'
    )
    if not good:
        return Finding('messages', 'fault', line, f'{_SETUP} (it runs colcon build), or source install/setup.bash')
    return Finding('messages', 'ok', line)


_DDS_PROBE: Final = """
import os, time
from vla_driver.ros.wire.transport import use_shared_memory_profile
use_shared_memory_profile(os.environ)
import rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node('vla_driver_doctor')
got = []
node.create_subscription(String, f'vla_driver_doctor_{os.getpid()}', lambda m: got.append(m.data), 10)
publisher = node.create_publisher(String, f'vla_driver_doctor_{os.getpid()}', 10)
started = time.monotonic()
while not got and time.monotonic() - started < 10:
    publisher.publish(String(data=str(time.monotonic())))
    rclpy.spin_once(node, timeout_sec=0.1)
assert got, 'a message did not come back within 10 s'
print(f'a message came back after {time.monotonic() - started:.2f} s, domain {os.environ.get("ROS_DOMAIN_ID") or "0"}')
rclpy.shutdown()
"""


def _dds() -> Finding:
    good, line = _probe(_DDS_PROBE)
    if not good:
        return Finding('dds', 'fault', line, 'check ROS_DOMAIN_ID, RMW_IMPLEMENTATION and the firewall (UDP)')
    return Finding('dds', 'ok', line)


def _shared_memory() -> Finding:
    try:
        from vla_driver.ros.wire.transport import PROFILE_VARIABLES, shared_memory_problem
    except ModuleNotFoundError as error:
        return Finding('shared mem', 'limited', str(error), _SETUP)
    chosen = next((os.environ[v] for v in PROFILE_VARIABLES if v in os.environ), '')
    if chosen and not Path(chosen).is_file():
        return Finding('shared mem', 'fault', f'the profile {chosen} does not exist', f'unset {PROFILE_VARIABLES[0]}')
    problem = shared_memory_problem()
    if problem:
        return Finding('shared mem', 'limited', problem, 'raw camera images may be lost; JPEG topics still work')
    return Finding('shared mem', 'ok', f'profile: {chosen or "config/fastdds_shm.xml, set by every command"}')


def _gl() -> Finding:
    good, line = _probe(
        'import moderngl; c = moderngl.create_standalone_context(backend="egl"); '
        'print(c.info["GL_RENDERER"], "- OpenGL", c.version_code)'
    )
    if not good:
        remedy = 'only the simulator needs it: sudo scripts/install_gl.sh (Mesa, no display or GPU needed)'
        return Finding('opengl', 'limited', line, remedy)
    return Finding('opengl', 'ok', line)


def _sumo() -> Finding:
    good, line = _probe(
        'import libsumo; from vla_driver.sim.world.towns import TOWNS, load_network, town_path; '
        'n = load_network(town_path(TOWNS["val"][0])); '
        'print(libsumo.simulation.getVersion()[1] if hasattr(libsumo.simulation, "getVersion") else "SUMO", '
        '"-", len(n.getEdges()), "roads in", TOWNS["val"][0])'
    )
    if not good:
        return Finding('sumo', 'limited', line, f'only the simulator needs it: {_SETUP}')
    return Finding('sumo', 'ok', line)


def _torch() -> Finding:
    good, line = _probe(
        'import json, torch; from pathlib import Path; cpu = Path("/proc/cpuinfo"); '
        'bf16 = cpu.exists() and "avx512_bf16" in cpu.read_text(); '
        'print(json.dumps([torch.__version__, torch.cuda.is_available(), bf16]))'
    )
    if not good:
        return Finding('torch', 'fault', line, _SETUP)
    version, cuda, bf16 = json.loads(line)
    detail = f'{version}, {"CUDA" if cuda else "CPU"}, {len(os.sched_getaffinity(0))} cores'
    if not cuda:
        detail += ', AVX512-BF16' if bf16 else ', no AVX512-BF16: float32 is faster here, and half as fast as with it'
    return Finding('torch', 'ok', detail)


def _precision() -> Finding:
    try:
        from vla_driver.model.device import choose_device
        from vla_driver.model.precision import VARIABLE, precision
    except ImportError as error:
        return Finding('precision', 'fault', str(error), _SETUP)
    try:
        return Finding('precision', 'ok', f'models compute in {precision(choose_device("auto"))}')
    except VlaDriverError as error:
        return Finding('precision', 'fault', str(error), f'unset {VARIABLE}, or set it to one of these')


def _checkpoints() -> Finding:
    from vla_driver.model.checkpoint import shipped_models
    from vla_driver.policies.registry import DEFAULT_CHECKPOINTS, make_policy

    loaded: dict[str, str] = {}
    problems = []
    for name, checkpoint in DEFAULT_CHECKPOINTS.items():
        try:
            loaded[checkpoint] = make_policy(name).engine.describe()
        except (VlaDriverError, ImportError, OSError) as error:
            problems.append(f'{checkpoint}: {error}')
    if problems:
        state = 'limited' if DEFAULT_CHECKPOINTS['model'] in loaded else 'fault'
        there = set(DEFAULT_CHECKPOINTS.values()) <= set(shipped_models())
        remedy = 'mend what is said above first' if there else 'a complete clone has them in models/'
        return Finding('checkpoints', state, '; '.join(problems), remedy)
    return Finding('checkpoints', 'ok', ', '.join(f'{checkpoint}: {engine}' for checkpoint, engine in loaded.items()))


CHECKS: Final[tuple[Callable[[], Finding], ...]] = (
    _python,
    _packages,
    _ros,
    _messages,
    _dds,
    _shared_memory,
    _gl,
    _sumo,
    _torch,
    _precision,
    _checkpoints,
)
