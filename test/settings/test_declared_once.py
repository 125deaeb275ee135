# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A knob is written once: launch files, commands and nodes take name, default and words from the tables."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from vla_driver.settings.knob import explained, knobs
from vla_driver.settings.nodes.parameter_file import TABLES

ROOT = Path(__file__).parents[2]
#: Where knobs are used; where they are declared is vla_driver/settings/.
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ('launch', 'vla_driver/commands', 'vla_driver/ros')
    for path in (ROOT / folder).rglob('*.py')
)
KNOBS = [knob for table in TABLES.values() for knob in knobs(table).values()]
#: Options that are called like a knob's, and are about something else.
OTHERS = {
    'vla_driver/commands/common.py': {'--topics': 'a file that maps inputs to topics'},
    'vla_driver/commands/evaluate/efficiency.py': {
        '--device': 'also `meta`, which computes nothing',
        '--model': 'whose sizes are measured, with random weights',
    },
    'vla_driver/commands/evaluate/engines.py': {'--bag': 'that is driven through'},
    'vla_driver/commands/evaluate/fast_slow.py': {'--bag': 'on whose pictures ticks are timed'},
    'vla_driver/commands/evaluate/moe.py': {
        '--engine': 'several, whose ticks are timed',
        '--seed': 'of weights, data and noise',
        '--threads': 'of training, where the default is that of torch',
    },
    'vla_driver/commands/evaluate/flow.py': {
        '--checkpoint': 'the model whose flow is measured',
        '--seed': 'of the samples',
    },
    'vla_driver/commands/evaluate/latency.py': {
        '--bag': 'whose pictures are sent',
        '--rate': 'of the source of pictures',
        '--seconds': 'of measuring',
    },
    'vla_driver/commands/train/reinforce.py': {'--model': 'that is fine-tuned, and must be given'},
    'vla_driver/commands/evaluate/tick_time.py': {
        '--bag': 'whose pictures are seen',
        '--threads': 'several, each in processes of its own',
    },
    'vla_driver/commands/record.py': {'--rate': 'pictures per second'},
    'vla_driver/commands/train/arguments.py': {'--threads': 'of training, where the default is that of torch'},
    'vla_driver/commands/train/collect.py': {'--model': 'that drives in a round of DAgger; none is the expert alone'},
    'vla_driver/commands/train/early_head.py': {'--model': 'whose encoder is pruned'},
    'vla_driver/commands/train/plan_pruner.py': {'--model': 'that is measured'},
    'vla_driver/commands/train/pruner.py': {'--model': 'whose tokens are pruned'},
    'vla_driver/commands/train/usual_view.py': {'--model': 'that is copied'},
    'vla_driver/ros/runs/image_source.py': {
        '--rate': 'of the source of pictures',
        '--seconds': 'of sending',
    },
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the name of what is called, and the call."""
    for entry in ast.walk(ast.parse((ROOT / path).read_text(encoding='utf-8'))):
        if isinstance(entry, ast.Call):
            name = entry.func.attr if isinstance(entry.func, ast.Attribute) else getattr(entry.func, 'id', '')
            yield name, entry


def first_word(call: ast.Call) -> str:
    """Return a call's first argument, if that is a text."""
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ''


def options(path: Path) -> set[str]:
    """Return the options that a file adds by hand and that are called like a knob's."""
    flags = {knob.flag for knob in KNOBS}
    return {first_word(call) for name, call in calls(path) if name == 'add_argument'} & flags


def defaults(path: Path) -> Iterator[tuple[str, object]]:
    """Yield names with their literal defaults: of functions' arguments and of classes' fields."""
    for entry in ast.walk(ast.parse((ROOT / path).read_text(encoding='utf-8'))):
        if isinstance(entry, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [*entry.args.posonlyargs, *entry.args.args]
            pairs = list(zip(names[len(names) - len(entry.args.defaults) :], entry.args.defaults, strict=True))
            pairs += [(name, value) for name, value in zip(entry.args.kwonlyargs, entry.args.kw_defaults) if value]
            found = [(name.arg, value) for name, value in pairs]
        elif isinstance(entry, ast.ClassDef):
            fields = [field for field in entry.body if isinstance(field, ast.AnnAssign) and field.value]
            found = [(ast.unparse(field.target), field.value) for field in fields]
        else:
            continue
        yield from ((name, value.value) for name, value in found if isinstance(value, ast.Constant))


def test_there_is_something_to_look_at() -> None:
    assert len(KNOBS) > 60
    assert {path.parts[0] for path in FILES} == {'launch', 'vla_driver'}
    assert len(FILES) > 40


@pytest.mark.parametrize('path', FILES, ids=str)
def test_no_file_writes_a_knob_again(path: Path) -> None:
    assert not [call for name, call in calls(path) if name == 'parameter'], 'a knob belongs into vla_driver/settings/'
    by_hand = options(path) - OTHERS.get(str(path), {}).keys()
    assert not by_hand, f'{by_hand}: take it from the table (vla_driver/settings/options.py)'
    names = {knob.launch_name for knob in KNOBS} - {''}
    declared = {first_word(call) for name, call in calls(path) if name in ('DeclareLaunchArgument', 'argument')}
    assert not declared & names, f'{declared & names}: take it from the table (vla_driver/ros/runs/launching.py)'


@pytest.mark.parametrize('path', FILES, ids=str)
def test_no_file_repeats_what_a_knob_says_of_itself(path: Path) -> None:
    said = {knob.rule.description for knob in KNOBS}
    said |= {explained(table, name) for table in TABLES.values() for name in knobs(table)}
    tree = ast.parse((ROOT / path).read_text(encoding='utf-8'))
    texts = {entry.value for entry in ast.walk(tree) if isinstance(entry, ast.Constant)}
    assert not texts & said


@pytest.mark.parametrize('path', FILES, ids=str)
def test_no_file_repeats_a_default(path: Path) -> None:
    of_knobs = {(knob.name, type(knob.default), knob.default) for knob in KNOBS if knob.default not in ('', False)}
    again = {(name, value) for name, value in defaults(path) if (name, type(value), value) in of_knobs}
    assert not again, f'{again}: a default such as PlannerParameters.max_skew_s says it once'


@pytest.mark.parametrize('path', OTHERS, ids=str)
def test_the_exceptions_are_still_there(path: str) -> None:
    assert options(Path(path)) == OTHERS[path].keys()
