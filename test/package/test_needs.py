# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the code imports is named where ROS and pip look (package.xml, setup.cfg, requirements), and nothing else is."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]

#: Import name -> (rosdep key, pip's name), where these are not `python3-<name>` and the name itself.
NAMES = {
    'PIL': ('python3-pil', 'pillow'),
    'carla_driver_interface': ('', 'carla-driver-interface'),
    'grpc': ('', 'grpcio'),
    'onnxruntime_ep_openvino': ('', 'onnxruntime-ep-openvino'),
    'cv2': ('python3-opencv', 'opencv-python-headless'),
    'yaml': ('python3-yaml', 'pyyaml'),
}
#: Needs that no import shows.
UNSEEN = {
    'onnxscript': 'torch.onnx writes graphs with it',
    'opengl': "the simulator's cameras are drawn with it, through moderngl",
    'ros2launch': '`ros2 launch`',
    'rosidl_default_runtime': 'the messages built here',
}
#: What ROS distributions have and PyPI has not; the code says so where it looks for them.
NOT_ON_PYPI = {
    *('ackermann_msgs', 'autoware_planning_msgs', 'carla_msgs', 'ffmpeg_image_transport_msgs', 'foxglove_msgs'),
    *('launch', 'launch_ros', 'tf2_msgs'),
}
#: What tests import and another need always brings.
BROUGHT = {'tokenizers': 'transformers'}


def imported(*folders: str) -> dict[str, str]:
    """Return first part of the name -> a file, for all that is imported and neither Python's own nor the project's."""
    own = {'vla_driver', *(path.stem for folder in ('scripts', 'test') for path in (ROOT / folder).iterdir())}
    found: dict[str, str] = {}
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob('*.py')):
        for name in _names(ast.parse(path.read_text(encoding='utf-8'))):
            root = name.split('.')[0]
            if root not in sys.stdlib_module_names and root not in own:
                found.setdefault(root, str(path.relative_to(ROOT)))
    return found


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ''
        elif isinstance(node, ast.Call) and (
            quoted := re.fullmatch(r"importlib\.import_module\('([\w.]+)'\)", ast.unparse(node))
        ):
            yield quoted[1]


def rosdep_keys(*tags: str) -> set[str]:
    """Return what package.xml names with these tags."""
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    return {element.text or '' for tag in tags for element in root.iter(tag)}


def without_key(kind: str) -> set[str]:
    """Return what package.xml names in its comments, in lines that begin with `kind:` and say why there is no key."""
    builder = ElementTree.TreeBuilder(insert_comments=True)
    root = ElementTree.parse(ROOT / 'package.xml', ElementTree.XMLParser(target=builder)).getroot()
    comments = '\n'.join(element.text or '' for element in root.iter() if element.tag is ElementTree.Comment)
    return set(re.findall(rf'^ *{kind}: (\S+) +\S', comments, re.MULTILINE))


def distribution(line: str) -> str:
    """Return the name in a line of requirements as pip compares it."""
    return re.sub(r'[-_.]+', '-', re.split(r'[=<>!~;\[ #]', line)[0]).lower()


def requirements(file: str) -> set[str]:
    lines = (line.split('#')[0].strip() for line in (ROOT / file).read_text(encoding='utf-8').splitlines())
    return {distribution(line) for line in lines if line}


def setup_cfg() -> tuple[set[str], set[str]]:
    """Return what setup.cfg requires always, and what its extras need besides."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    always, extras = setup['options']['install_requires'], setup['options.extras_require'].values()
    return {distribution(line) for line in always.split('\n') if line}, {
        distribution(line) for extra in extras for line in extra.split('\n') if line
    }


IMPORTED = imported('vla_driver', 'launch')
KEYS = rosdep_keys('depend', 'exec_depend')
ALWAYS, EXTRAS = setup_cfg()


def is_of_ros(name: str) -> bool:
    return name in NOT_ON_PYPI or f'ros-{distribution(name)}' in requirements('requirements-ros.in')


def key_of(name: str) -> str:
    return name if is_of_ros(name) else NAMES.get(name, (f'python3-{name}', ''))[0]


def pip_name_of(name: str) -> str:
    return distribution(NAMES.get(name, ('', name))[1])


def test_the_walk_finds_imports() -> None:
    # Of every kind: at the top, in a function, by a name in quotes, in launch files.
    assert {'numpy', 'cv2', 'rclpy', 'libsumo', 'carla_msgs', 'launch_ros'} <= set(IMPORTED)


@pytest.mark.parametrize('name', sorted(IMPORTED))
def test_what_is_imported_is_named_in_package_xml(name: str) -> None:
    named = key_of(name) in KEYS or pip_name_of(name) in without_key('pip') or name in without_key('optional')
    assert named, f'{IMPORTED[name]} imports {name}; package.xml names neither a rosdep key nor says why there is none'


@pytest.mark.parametrize('name', sorted(set(IMPORTED) - NOT_ON_PYPI))
def test_what_is_imported_is_installed_by_pip(name: str) -> None:
    named = pip_name_of(name) in ALWAYS | EXTRAS or f'ros-{pip_name_of(name)}' in requirements('requirements-ros.in')
    assert named, f'{IMPORTED[name]} imports {name}; neither setup.cfg nor requirements-ros.in names it'


def test_package_xml_names_nothing_that_is_not_imported() -> None:
    assert KEYS - {key_of(name) for name in IMPORTED} - set(UNSEEN) == set()
    assert without_key('pip') - {pip_name_of(name) for name in IMPORTED} - set(UNSEEN) == set()
    assert without_key('optional') - set(IMPORTED) == set()


def test_package_xml_names_nothing_twice() -> None:
    assert KEYS & {key_of(name) for name in IMPORTED if pip_name_of(name) in without_key('pip')} == set()


def test_setup_cfg_names_nothing_that_is_not_imported() -> None:
    assert (ALWAYS | EXTRAS) - {pip_name_of(name) for name in IMPORTED} - set(UNSEEN) == set()
    assert not ALWAYS & EXTRAS


def test_what_setup_cfg_names_is_pinned() -> None:
    assert (ALWAYS | EXTRAS) - requirements('requirements.in') == set()


def test_what_tests_import_is_named() -> None:
    for name, file in imported('test').items():
        need = BROUGHT.get(name, name)
        named = need in IMPORTED or key_of(need) in rosdep_keys('test_depend')
        assert named, f'{file} imports {name}; package.xml has no test_depend for it'


def test_the_plugin_that_ends_hanging_tests_is_named() -> None:
    # Without it pytest would refuse pyproject.toml's `timeout` (--strict-config).
    assert re.search('^timeout = ', (ROOT / 'pyproject.toml').read_text(encoding='utf-8'), re.MULTILINE)
    assert 'python3-pytest-timeout' in rosdep_keys('test_depend')


def test_nodes_of_a_vehicle_do_without_the_extras() -> None:
    pytest.importorskip('rclpy', reason='needs ROS 2')
    absent = sorted(name for name in IMPORTED if pip_name_of(name) in EXTRAS)
    executable = (ROOT / 'scripts' / 'node_executable.in').read_text(encoding='utf-8')
    assert "start('@node@')" in executable
    starts = re.findall(r'^from (\S+) import start$', executable, re.MULTILINE)[0]
    nodes = [starts, *(f'vla_driver.ros.nodes.{node}' for node in ('planner', 'controller', 'bag_player'))]
    code = f'import sys\nfor name in {absent}: sys.modules[name] = None\nimport vla_driver.cli, {", ".join(nodes)}'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_package_xml_says_where_the_project_lives() -> None:
    urls = ElementTree.parse(ROOT / 'package.xml').getroot().findall('url')
    assert {url.get('type') for url in urls} == {'website', 'repository', 'bugtracker'}
