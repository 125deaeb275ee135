# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Imports point down the layers and never up, and only vla_driver.ros knows ROS."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / 'vla_driver'

#: Part of the package -> layer; a module may import from its own layer and those below.
LAYERS = {
    'types': 0,
    'resources': 0,
    'geometry': 1,
    'camera': 2,
    'model': 2,
    'planning': 3,
    'bag': 4,
    'evaluate': 4,
    'sim': 4,
    'train': 4,
    'ros': 5,
    'commands': 6,
    'cli': 6,
}
ROS = {'rclpy', 'ament_index_python', 'builtin_interfaces', 'lifecycle_msgs', 'rcl_interfaces', 'rosgraph_msgs'}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield (dotted name below vla_driver, path) of every module of the package."""
    for path in sorted(PACKAGE.rglob('*.py')):
        name = '.'.join(path.relative_to(PACKAGE).with_suffix('').parts).removesuffix('__init__').rstrip('.')
        if name:
            yield name, path


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names a module imports, inside functions too; those for type checkers are left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import; write the full name'
            yield node.module or ''
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


@pytest.mark.parametrize(('name', 'path'), list(modules()), ids=lambda value: value if isinstance(value, str) else '')
def test_imports_point_down(name: str, path: Path) -> None:
    part = name.split('.')[0]
    assert part in LAYERS, f'vla_driver.{part} has no layer; add it to LAYERS'
    for target in imports(path):
        root, *rest = target.split('.')
        if root == 'vla_driver' and rest and rest[0] in LAYERS:
            assert LAYERS[rest[0]] <= LAYERS[part], f'vla_driver.{name} imports {target}, a layer above its own'
        if part != 'ros' and (root in ROS or root.endswith('_msgs') or target == 'vla_driver.msg'):
            pytest.fail(f'vla_driver.{name} imports {target}; only vla_driver.ros may know ROS')


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
