# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Write requirements.txt and requirements-ros*.txt: every package, direct or not, at an exact version.

Asks pip how it would install the .in files on each supported Python, and merges the answers; a
package whose version differs between Pythons gets a line each, with markers.  For maintainers;
`make setup` only reads the result.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The wheels of one distribution each, every one resolved together with requirements.in.
DISTRIBUTIONS = ('requirements-ros', 'requirements-ros-kilted')
PYTHONS = ('3.10', '3.11', '3.12')  # Humble's, the tested one, Jazzy's; all must be on PATH
#: What CUDA builds of torch bring; torch itself names their exact versions, CPU builds have none.
OF_CUDA_TORCH = re.compile(r'(nvidia|cuda)-.*|triton')
HEADER = """\
# Exact versions of everything in {source} and of what that needs in turn.
# Written by scripts/pin_requirements.py; edit {source} and run that instead.
"""


def direct_requirements(path: Path) -> list[str]:
    """Return the requirement lines of a .in file."""
    lines = (line.split('#')[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def resolve(requirements: list[str], python: str) -> dict[str, str]:
    """Return name -> version of all packages pip would install on `python`."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / 'requirements.txt', Path(folder) / 'report.json'
        wanted.write_text('\n'.join(requirements))
        # pip reads the markers of the Python it runs for, so it needs a real one of each version.
        subprocess.run([f'python{python}', '-m', 'venv', '--without-pip', f'{folder}/venv'], check=True)
        subprocess.run(
            [
                sys.executable, '-m', 'pip', '--python', f'{folder}/venv/bin/python', 'install', '--quiet',
                '--dry-run', '--report', str(report), '--requirement', str(wanted),
            ],
            check=True,
        )  # fmt: skip
        chosen = [item['metadata'] for item in json.loads(report.read_text())['install']]
    versions = {}
    for metadata in chosen:
        name = re.sub(r'[-_.]+', '-', metadata['name']).lower()
        if not OF_CUDA_TORCH.fullmatch(name):
            versions[name] = metadata['version'].split('+')[0]  # 2.13.0+cpu -> 2.13.0
    return versions


def pins(resolved: dict[str, dict[str, str]]) -> list[str]:
    """Merge python -> name -> version into requirement lines, with markers where they differ."""
    lines = []
    for name in sorted(set().union(*resolved.values())):
        by_python = {python: versions[name] for python, versions in resolved.items() if name in versions}
        if len(by_python) == len(resolved) and len(set(by_python.values())) == 1:
            lines.append(f'{name}=={next(iter(by_python.values()))}')
        else:
            lines += [f'{name}=={version}; python_version == "{python}"' for python, version in by_python.items()]
    return lines


def of_platforms(direct: list[str]) -> dict[str, str]:
    """Return name -> marker of the requirements that are for some processors alone, which pip's answer does not say."""
    found = (re.match(r'([\w.-]+)[^;]*(; platform_machine .*)', line) for line in direct)
    return {one[1]: one[2] for one in found if one is not None}


def write(name: str, lines: list[str]) -> None:
    """Write the .txt file of this name."""
    (ROOT / f'{name}.txt').write_text(HEADER.format(source=f'{name}.in') + '\n'.join(lines) + '\n')
    print(f'{name}.txt: {len(lines)} lines')


def main() -> None:
    """Resolve and write all files."""
    common: list[str] = []
    platforms = of_platforms(direct_requirements(ROOT / 'requirements.in'))
    for name in DISTRIBUTIONS:
        direct = direct_requirements(ROOT / 'requirements.in') + direct_requirements(ROOT / f'{name}.in')
        resolved = {}
        for python in PYTHONS:
            print(f'resolving {name}.in for Python {python} ...', flush=True)
            resolved[python] = resolve(direct, python)
        lines = [line + platforms.get(line.partition('=')[0], '') for line in pins(resolved)]
        write(name, [line for line in lines if line.startswith('ros-')])
        others = [line for line in lines if not line.startswith('ros-')]
        if common and others != common:
            sys.exit(f'error: {name}.in wants other packages beside it: {sorted(set(others) ^ set(common))}')
        common = others
    write('requirements', common)


if __name__ == '__main__':
    main()
