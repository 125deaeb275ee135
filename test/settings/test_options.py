# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Options from a table: names, types, defaults and help, and what they refuse."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import pytest

from vla_driver.settings.knob import parameter
from vla_driver.settings.options import add_options, settings_from
from vla_driver.types import InvalidInput


@dataclass(frozen=True)
class Table:
    """One knob of each kind."""

    length_m: float = parameter(220.0, 'how long', low=50.0, high=300.0, flag='--length', metavar='M')
    share: float = parameter(0.5, 'share of 100 %', low=0.0)
    count: int = parameter(0, 'how many', low=0, high=5, unset='as `length_m` says')
    mode: str = parameter('auto', 'which', choices=('auto', 'raw'))
    model: str = parameter('', 'what', unset='the shipped one', metavar='DIR')
    names: tuple[str, ...] = parameter(('',), 'which ones', unset='all', metavar='NAME')
    weights: tuple[str, ...] = parameter(('',), 'name=weight', unset='alike', flag='--weight', metavar='W', repeat=True)
    loop: bool = parameter(False, 'whether')
    render: bool = parameter(True, 'whether')


NAMES = ('length_m', 'share', 'count', 'mode', 'model', 'names', 'weights', 'loop')


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_options(made, Table, *NAMES)
    return made


def test_options_that_are_not_given_leave_the_tables_defaults() -> None:
    args = parser().parse_args([])
    assert settings_from(args, Table) == Table()
    # What stands for nothing given is None: whether it was given makes a difference to commands.
    assert (args.count, args.model, args.names, args.weights) == (None, None, None, None)
    assert (args.length_m, args.share, args.mode, args.loop) == (220.0, 0.5, 'auto', False)


def test_options_become_settings() -> None:
    words = ['--length', '60', '--count', '2', '--mode', 'raw', '--model', 'mine', '--names', 'a', 'b', '--loop']
    words += ['--weight', 'a=1', '--weight', 'b=2', '--share', '7']
    settings = settings_from(parser().parse_args(words), Table)
    assert settings == Table(60.0, 7.0, 2, 'raw', 'mine', ('a', 'b'), ('a=1', 'b=2'), True)
    assert isinstance(settings.length_m, float)


def test_a_second_parse_begins_anew() -> None:
    made = parser()
    assert made.parse_args(['--weight', 'a=1']).weights == ['a=1']
    assert made.parse_args(['--weight', 'b=1']).weights == ['b=1']


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--length', '-5'], r'^--length -5: expected 50 to 300 m \(how long\)$'),
        (['--length', '301'], '^--length 301: expected 50 to 300 m'),
        (['--length', 'nan'], '^--length nan: expected 50 to 300 m'),
        (['--share', '-1'], r'^--share -1: expected 0 or more \(share of 100 %\)$'),
        (['--share', 'inf'], '^--share inf: expected 0 or more'),
        (['--count', '6'], '^--count 6: expected 0 to 5'),
        # Nobody who says 0 tokens means all of them.
        (['--count', '0'], r'^--count 0: expected more than that \(how many\); leave it out for: as --length says$'),
    ],
)
def test_a_range_is_named_with_value_and_meaning(words: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parser().parse_args(words)


@pytest.mark.parametrize('words', [['--mode', 'rwa'], ['--count', '1.5'], ['--names']])
def test_what_argparse_knows_better_is_left_to_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    assert words[0] in capsys.readouterr().err


def test_help_says_what_the_table_says() -> None:
    text = ' '.join(parser().format_help().split())
    assert '--length M how long (default: 220 m)' in text
    assert '--share SHARE share of 100 % (default: 0.5)' in text
    assert '--count COUNT how many (default: as --length says)' in text
    assert '--mode {auto,raw} which (default: auto)' in text
    assert '--model DIR what (default: the shipped one)' in text
    assert '--names NAME [NAME ...] which ones (default: all)' in text
    assert '--weight W name=weight (repeatable; default: alike)' in text
    assert '--loop whether' in text


def test_a_command_may_have_its_own_choices_and_defaults() -> None:
    made = argparse.ArgumentParser()
    add_options(
        made,
        Table,
        'length_m',
        'count',
        'mode',
        choices={'mode': ('auto', 'expert')},
        defaults={'mode': 'expert', 'count': 3},
        instead={'length_m': "the road's own"},
    )
    args = made.parse_args([])
    assert (args.length_m, args.count, args.mode) == (None, 3, 'expert')
    text = ' '.join(made.format_help().split())
    assert "how long (default: the road's own)" in text
    assert 'how many (default: 3)' in text
    with pytest.raises(SystemExit):
        made.parse_args(['--mode', 'raw'])
    with pytest.raises(InvalidInput, match=r'^--count 0: expected more than that \(how many\)$'):
        made.parse_args(['--count', '0'])


def test_a_switch_that_is_on_has_no_option_that_switches_it_on() -> None:
    with pytest.raises(TypeError, match=r'Table.render is on already'):
        add_options(argparse.ArgumentParser(), Table, 'render')
