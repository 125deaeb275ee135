# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""README and docs: short enough, links lead somewhere, commands and parameters exist, quoted messages are said."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from vla_driver import cli
from vla_driver.settings.knob import knobs
from vla_driver.settings.launch_arguments import launched
from vla_driver.settings.nodes.parameter_file import TABLES

ROOT = Path(__file__).parents[2]
README = ROOT / 'README.md'
DOCS = sorted((ROOT / 'docs').rglob('*.md'))
#: Written by people, unlike docs/reference.
PROSE = [README, *(path for path in DOCS if path.parent.name != 'reference')]
PAGES = [README, *DOCS, *sorted((ROOT / 'models').glob('*/README.md'))]

_FENCE = re.compile(r'^ *```.*?^ *```', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'!?\[[^\]]*\]\(([^)\s]+)\)')
#: What may stand before a command: variables of the environment.
_COMMAND = re.compile(r'^(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?vla_driver +(?P<words>.*)$')
_INLINE = re.compile(r'`(?:\.venv/bin/)?vla_driver ([^`]+)`')


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines of fenced and indented code, continued lines joined, without comments."""
    fenced = '\n'.join('    ' + line for block in _FENCE.findall(text) for line in block.splitlines()[1:-1])
    for line in re.sub(r' *\\\n *', ' ', f'{_FENCE.sub("", text)}\n{fenced}').splitlines():
        if line.startswith('    '):
            yield re.split(r'\s#\s', line.strip())[0].strip()


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', _FENCE.sub('', path.read_text(encoding='utf-8')), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser of the command that `words` begin with, and the other words."""
    command = cli._wanted(words)
    assert command is not None, f'vla_driver {" ".join(words)}: there is no such command'
    parser = argparse.ArgumentParser(
        prog=f'vla_driver {" ".join(command.words)}', exit_on_error=False, allow_abbrev=False
    )
    importlib.import_module(command.module).add_arguments(parser)
    return parser, words[len(command.words) :]


def refusal(parser: argparse.ArgumentParser, words: list[str]) -> str:
    """Return why the parser refuses the words, '' if it does not."""
    try:
        parser.parse_args(words)
    except argparse.ArgumentError as error:
        return str(error)
    except SystemExit as end:
        return 'refused, see above' if end.code else ''
    return ''


def test_the_readme_has_at_most_700_words() -> None:
    assert len(README.read_text(encoding='utf-8').split()) <= 700


@pytest.mark.parametrize('path', [README, *DOCS], ids=name_of)
def test_lines_are_at_most_120_characters(path: Path) -> None:
    lines = path.read_text(encoding='utf-8').splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith('|')] == []


@pytest.mark.parametrize('path', PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in _LINK.findall(_FENCE.sub('', path.read_text(encoding='utf-8'))):
        if '://' in target:
            continue
        file, _, anchor = target.partition('#')
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f'{name_of(path)}: {target}: no such file'
        assert there.is_relative_to(ROOT), f'{name_of(path)}: {target} lies outside the repository'
        if anchor:
            assert anchor in anchors(there), f'{name_of(path)}: {target}: no such heading'


@pytest.mark.parametrize('path', [path for path in PAGES if path.parent.name != 'reference'], ids=name_of)
def test_commands_exist_and_take_these_options(path: Path) -> None:
    text = path.read_text(encoding='utf-8')
    for line in code_lines(text):
        if (match := _COMMAND.match(line)) is None:
            continue
        parser, words = parser_of(shlex.split(match['words']))
        assert not (why := refusal(parser, words)), f'{name_of(path)}: {line}: {why}'
    for inline in _INLINE.findall(' '.join(_FENCE.sub('', text).split())):
        if not inline[0].isalpha():
            continue  # `vla_driver --help`
        parser, words = parser_of(inline.split())
        unknown = {word for word in words if word.startswith('--')} - set(parser._option_string_actions)
        assert not unknown, f'{name_of(path)}: vla_driver {inline}: unknown options {unknown}'


@pytest.mark.parametrize('path', PROSE, ids=name_of)
def test_files_and_classes_exist(path: Path) -> None:
    text = _FENCE.sub('', path.read_text(encoding='utf-8'))
    for file in re.findall(r'`((?:\w+/)+\w+(?:\.\w+)+)`', text):
        places = [ROOT / file, ROOT / 'vla_driver' / file]
        assert any(place.exists() for place in places) or file.startswith('out/'), (
            f'{name_of(path)}: there is no {file}'
        )
    for file, stages in re.findall(r'^\| `([\w/]+\.py)` \| (`[^|]+) \|', text, re.MULTILINE):
        code = (ROOT / 'vla_driver' / file).read_text(encoding='utf-8')
        missing = [name for name in re.findall(r'\w+', stages) if f'class {name}' not in code]
        assert not missing, f'{name_of(path)}: {file} has no {", ".join(missing)}'


def launch_arguments(name: str) -> set[str]:
    """Return the arguments of a launch file: those of its tables, of the driver's, and those written in the files."""
    nodes = [
        'planner',
        'reasoner',
        'controller',
        {'replay': 'bag_player', 'sim': 'simulator', 'carla': 'carla_bridge'}.get(name.split('.')[0], 'planner'),
    ]
    known = {knob.launch_name for node in nodes for knob in launched(TABLES[node]).values()}
    for file in {f'launch/{name}', 'launch/driver.launch.py', 'vla_driver/ros/runs/launching.py'}:
        text = (ROOT / file).read_text(encoding='utf-8')
        known |= set(re.findall(r"argument\((?:\w+, )?'(\w+)'", text))
        known |= {f'{topic}_topic' for topic in re.findall(r"^    '(\w+)': ['\"]", text, re.MULTILINE)}
        known |= set(re.findall(r"'(use_sim_time)'", text))
    return known


@pytest.mark.parametrize('path', PROSE, ids=name_of)
def test_launch_files_make_targets_and_scripts_exist(path: Path) -> None:
    text = path.read_text(encoding='utf-8')
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(encoding='utf-8'), re.MULTILINE))
    for line in [*code_lines(text), *re.findall(r'`([^`]+)`', _FENCE.sub('', text))]:
        if match := re.match(r'ros2 launch vla_driver (\S+)(.*)', ' '.join(line.split())):
            assert (ROOT / 'launch' / match[1]).is_file(), line
            given = set(re.findall(r'(?:^| )(\w+):=', match[2]))
            assert given <= launch_arguments(match[1]), f'{line}: unknown {given - launch_arguments(match[1])}'
        elif match := re.match(r'make ([a-z ]+)', line):
            assert set(match[1].split()) <= targets, line
        for script in re.findall(r'(?:^|[ /])(scripts/[\w.]+)', line):
            assert (ROOT / script).is_file(), line


def test_parameters_named_in_how_tos_exist() -> None:
    known = {name for table in TABLES.values() for name in knobs(table)}
    for path in PROSE:
        for name in re.findall(r'ros2 param set /\w+ (\w+)|-p (\w+):=', path.read_text(encoding='utf-8')):
            assert set(filter(None, name)) <= known, f'{name_of(path)}: {name}'


def test_quoted_messages_are_said_somewhere() -> None:
    page = ROOT / 'docs' / 'how-to' / 'why-is-nothing-published.md'
    quoted = re.findall(r'^\| `([^`]+)` \|', page.read_text(encoding='utf-8'), re.MULTILINE)
    assert len(quoted) > 15
    code = ''.join(path.read_text(encoding='utf-8') for path in sorted((ROOT / 'vla_driver').rglob('*.py')))
    plain = re.sub(r"'\s*\n\s*f?'|\"\s*\n\s*f?\"", '', code)  # strings that go on in the next line
    assert [message for message in quoted if message not in plain] == []
