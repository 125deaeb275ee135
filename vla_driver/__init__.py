# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Drive from six cameras: a vision-language-action model with ROS 2 nodes, a simulator and a bench."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

__version__ = '0.1.0'


def _installed_packages() -> Iterator[Path]:
    """Yield where colcon may have installed this package for the running Python, best first."""
    version = f'python{sys.version_info.major}.{sys.version_info.minor}'
    checkout = Path(__file__).resolve().parents[1]
    prefixes = [Path(p) for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    prefixes += [checkout / 'install' / 'vla_driver', checkout / 'install']  # plain, --merge-install
    for prefix in prefixes:
        # venv and Jazzy; Debian's and Ubuntu's patched Python
        yield prefix / 'lib' / version / 'site-packages' / 'vla_driver'
        yield prefix / 'local' / 'lib' / version / 'dist-packages' / 'vla_driver'
        yield prefix / 'lib' / version / 'dist-packages' / 'vla_driver'


def _find_messages() -> None:
    """Make `vla_driver.msg` importable from a source tree.

    colcon installs the messages' generated modules beside a copy of this package.  When the package
    is imported from the source tree (pip install -e, pytest), that place joins the package's path,
    behind the sources.  Without a build nothing happens: only `vla_driver.ros` needs the messages.
    """
    here = Path(__file__).resolve().parent
    if (Path(__file__).parent / 'msg' / '__init__.py').exists():
        return  # this is the installed copy itself
    for folder in _installed_packages():
        if folder.resolve() != here and (folder / 'msg' / '__init__.py').exists():
            __path__.append(str(folder))
            return


_find_messages()
