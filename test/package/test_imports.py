# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The table of rooms in docs/architecture.md is true: imports point down and never in a circle; only ros/ knows ROS."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'vla_driver'

#: What the table's families of libraries stand for; ROS also means every package of messages.
FAMILIES = {
    'ROS': {'rclpy', 'ament_index_python', 'builtin_interfaces', 'launch', 'launch_ros', 'rcl_interfaces'},
    'SUMO': {'libsumo', 'sumolib', 'sumo_data', 'traci'},
}
_ROW = re.compile(r'^\| `([\w/]+)` \|[^|]*\|([^|]*)\|$', re.MULTILINE)


def rooms() -> dict[str, tuple[int, set[str]]]:
    """Return room -> (its height, the libraries it may use), from the table; the lowest room is 0."""
    rows = _ROW.findall((ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8'))
    return {
        room: (len(rows) - 1 - number, {name.strip() for name in libraries.split(',') if name.strip()})
        for number, (room, libraries) in enumerate(rows)
    }


ROOMS = rooms()


def modules() -> dict[str, Path]:
    """Return dotted name -> path of every module of the package, packages included."""
    paths = sorted(PACKAGE.rglob('*.py'))
    return {'.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path for path in paths}


MODULES = modules()


def room_of(module: str) -> str:
    """Return the room of a module: the longest name in the table that its path begins with."""
    place = module.removeprefix('vla_driver.').replace('.', '/')
    fitting = [room for room in ROOMS if place == room or place.startswith(f'{room}/')]
    assert fitting, f'{module} is in no room; add one to the table in docs/architecture.md'
    return max(fitting, key=len)


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names a module imports: at its top, in functions, and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import; write the full name'
            assert node.module is not None
            for alias in node.names:
                name = f'{node.module}.{alias.name}'
                yield name if name in MODULES else node.module


@pytest.mark.parametrize('name', sorted(set(MODULES) - {'vla_driver'}))
def test_imports_point_down(name: str) -> None:
    room = room_of(name)
    height, libraries = ROOMS[room]
    allowed = libraries | set().union(*(FAMILIES.get(one, set()) for one in libraries))
    for target in imports(MODULES[name]):
        root = target.split('.')[0]
        if target == 'vla_driver.msg' or target.startswith('vla_driver.msg.') or root.endswith('_msgs'):
            assert 'ROS' in libraries, f'{name} imports {target}; only rooms with ROS in the table may'
        elif root == 'vla_driver':
            if target != 'vla_driver':
                other = room_of(target)
                assert ROOMS[other][0] <= height, f'{name} imports {target}: {other} lies above {room}'
        elif root not in sys.stdlib_module_names:
            assert root in allowed, f'{name} imports {root}, which the table does not allow in {room}'


def test_no_circles() -> None:
    graph = {name: {t for t in imports(path) if t in MODULES and t != name} for name, path in MODULES.items()}
    for targets in graph.values():
        targets.discard('vla_driver')
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle


def test_the_table_has_no_empty_rooms() -> None:
    assert len(ROOMS) > 15
    used = {room_of(name) for name in MODULES if name != 'vla_driver'}
    assert used == set(ROOMS)


def test_nodes_rest_on_nothing_of_evaluation_training_and_data() -> None:
    for name, path in MODULES.items():
        if name.startswith('vla_driver.ros'):
            above = [
                t for t in imports(path) if t.startswith(('vla_driver.evaluate', 'vla_driver.train', 'vla_driver.data'))
            ]
            assert not above, f'{name} imports {above}'


def test_the_package_imports_without_ros() -> None:
    # A machine with pip only: rclpy and the built messages cannot be imported.
    code = """
import importlib, sys
sys.modules['rclpy'] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
assert not any(name.startswith('vla_driver.ros') for name in sys.modules)
"""
    names = ['vla_driver', 'vla_driver.types', 'vla_driver.geometry', 'vla_driver.planning.guard', 'vla_driver.cli']
    done = subprocess.run([sys.executable, '-c', code, *names], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
