# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What surrounds the code agrees with it: versions, pins, scripts and the cmake relocation."""

import configparser
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import vla_driver

ROOT = Path(__file__).parents[2]
PIN = re.compile(
    r'[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*(; (python_version == "3\.1[0-2]"|platform_machine == "x86_64"))?'
)


def test_the_version_is_the_same_everywhere() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert setup['metadata']['version'] == vla_driver.__version__
    assert package.findtext('version') == vla_driver.__version__
    assert re.search(rf'^{re.escape(vla_driver.__version__)}\b', (ROOT / 'CHANGELOG.rst').read_text(), re.MULTILINE)


@pytest.mark.parametrize('name', ['requirements', 'requirements-ros', 'requirements-ros-kilted'])
def test_every_requirement_is_pinned_and_none_forgotten(name: str) -> None:
    lines = [line for line in (ROOT / f'{name}.txt').read_text().splitlines() if not line.startswith('#')]
    assert lines
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    pinned = {re.split('==', line)[0] for line in lines}
    direct = [line.split('#')[0].strip() for line in (ROOT / f'{name}.in').read_text().splitlines()]
    asked = {re.split(r'[=<>!~;\[ ]', line)[0].lower() for line in direct if line}
    assert asked - pinned == set(), 'run scripts/pin_requirements.py'


def test_every_set_of_ros_wheels_is_asked_for_the_same() -> None:
    jazzy, kilted = (
        {re.split('==', line)[0] for line in (ROOT / f'{name}.in').read_text().splitlines() if line.startswith('ros-')}
        for name in ('requirements-ros', 'requirements-ros-kilted')
    )
    assert kilted - jazzy == {'ros-ament-cmake-ros-core'}
    assert jazzy - kilted == set()


def test_the_ros_wheels_here_are_one_set() -> None:
    marker = Path(sys.prefix) / 'ros_distro'
    if not marker.exists():
        pytest.skip('ROS 2 is not from wheels here')
    name = {'jazzy': 'requirements-ros', 'kilted': 'requirements-ros-kilted'}[marker.read_text().strip()]
    here = {
        f'{distribution.name}=={distribution.version}'
        for distribution in importlib.metadata.distributions()
        if distribution.name.startswith('ros-')
    }
    pinned = {line for line in (ROOT / f'{name}.txt').read_text().splitlines() if line.startswith('ros-')}
    assert here == pinned, 'run make setup'


def test_cmake_builds_every_message_file() -> None:
    listed = re.findall(r'msg/(\w+)\.msg', (ROOT / 'CMakeLists.txt').read_text())
    assert sorted(listed) == sorted(path.stem for path in (ROOT / 'msg').glob('*.msg'))


@pytest.mark.parametrize(
    'script', sorted([*(ROOT / 'scripts').glob('*.sh'), ROOT / '.ci' / 'run']), ids=lambda p: p.name
)
def test_scripts_are_valid_shell(script: Path) -> None:
    shell = 'bash' if 'bash' in script.read_text().split('\n', 1)[0] or script.name == 'ros_env.sh' else 'sh'
    done = subprocess.run([shell, '-n', str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.access(script, os.X_OK) or script.name == 'ros_env.sh', 'not executable'


def test_setup_without_a_fitting_python_says_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / 'python3.8'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.0"\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        [str(ROOT / 'scripts' / 'make_venv.sh')],
        env={'PATH': '/usr/bin:/bin', 'PYTHON': str(old)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'is Python 3.8.0; Python 3.10, 3.11 or 3.12 is needed' in done.stderr


def make_venv(folder: Path, sourced: str | None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script, in a folder with nothing else, beside an rclpy in name only if one is to be sourced."""
    script = folder / 'tree' / 'scripts' / 'make_venv.sh'
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / 'scripts' / 'make_venv.sh', script)
    # What is accepted goes on to the interpreter, and ends there.
    old = folder / 'python3.8'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.0"\nexit 1\n')
    old.chmod(0o755)
    environment = {'PATH': f'{Path(sys.executable).parent}:/usr/bin:/bin', 'PYTHON': str(old), **variables}
    if sourced is not None:
        (folder / 'ros' / 'rclpy').mkdir(parents=True)
        (folder / 'ros' / 'rclpy' / '__init__.py').touch()
        environment |= {'PYTHONPATH': str(folder / 'ros'), 'ROS_DISTRO': sourced}
    return subprocess.run([str(script)], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ('distribution', 'said'),
    [
        ('humble', 'ROS 2 humble is sourced; ROS 2 Jazzy or newer is needed'),
        ('iron', 'ROS 2 iron is sourced; ROS 2 Jazzy or newer is needed'),
        ('jazzy', 'is Python 3.8.0'),
        ('rolling', 'is Python 3.8.0'),
    ],
)
def test_setup_refuses_a_ros_whose_rclpy_is_too_old(tmp_path: Path, distribution: str, said: str) -> None:
    done = make_venv(tmp_path, distribution)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / 'tree' / '.venv').exists()


@pytest.mark.parametrize(
    ('wanted', 'sourced', 'said'),
    [
        ('humble', None, 'there are wheels for ROS=jazzy (the default) and ROS=kilted'),
        ('kilted', 'jazzy', 'ROS=kilted asks for its wheels, but ROS 2 jazzy is sourced'),
        ('kilted', 'kilted', 'is Python 3.8.0'),
        ('kilted', None, 'is Python 3.8.0'),
    ],
)
def test_setup_refuses_wheels_that_it_would_not_install(
    tmp_path: Path, wanted: str, sourced: str | None, said: str
) -> None:
    done = make_venv(tmp_path, sourced, ROS=wanted)
    assert done.returncode == 1
    assert said in done.stderr


def test_make_refuses_another_distribution_before_it_touches_anything() -> None:
    stamps = sorted((ROOT / '.stamps').glob('*'))
    # `make test` runs this test: what it tells its children (the directory, its flags) is not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith('MAKE')}
    done = subprocess.run(
        ['make', 'setup', 'ROS=foxy'], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0 and 'ROS=foxy; there are wheels for' in done.stderr
    assert not done.stdout and sorted((ROOT / '.stamps').glob('*')) == stamps


def test_relocation_points_cmake_files_at_this_environment(tmp_path: Path) -> None:
    numpy = '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include'
    cmake = tmp_path / 'share' / 'some_msgs' / 'cmake' / 'export.cmake'
    cmake.parent.mkdir(parents=True)
    cmake.write_text(f'set(I "/opt/python/cp312-cp312/include/python3.12;{numpy}")\nset(J "/opt/other")\n')
    sys.path.insert(0, str(ROOT / 'scripts'))
    try:
        from relocate_ros_wheels import relocate
    finally:
        sys.path.pop(0)
    import sysconfig

    assert relocate(tmp_path) == 1
    paths = sysconfig.get_paths()
    include = f'{paths["purelib"]}/numpy/_core/include'
    assert cmake.read_text() == f'set(I "{paths["include"]};{include}")\nset(J "/opt/other")\n'
    assert relocate(tmp_path) == 0
