# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Measure what the slow half of a checkpoint says against what the expert reacted to.

On every recorded tick the model says a sentence; right or wrong are what to do, what for, and which camera shows it.
Beside the model stand controls: the same model with black pictures, with the pictures of another drive, and what is
right most often; --blind adds a checkpoint that was trained without pictures. Also reported: confusion, how far its
confidence can be trusted, passes a sentence, and what its gate saves and costs.

  vla_driver evaluate words --split test --checkpoint nano --json words.json --report out/words
  vla_driver evaluate words --data my_episodes --checkpoint runs/all
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_driver.commands.common import add_json_argument, positive_int, progress, provenance, write_json
from vla_driver.policies.registry import DEFAULT_CHECKPOINTS
from vla_driver.settings.nodes.reasoner import ReasonerParameters
from vla_driver.settings.options import add_options
from vla_driver.settings.policy import PolicyParameters
from vla_driver.settings.scenario import ScenarioParameters
from vla_driver.statistics import bracketed
from vla_driver.types import InvalidInput

#: Of each recorded drive, simulated seconds; ticks are 0.5 s apart.
_DRIVE_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_options(parser, ReasonerParameters, 'checkpoint', defaults={'checkpoint': DEFAULT_CHECKPOINTS['model']})
    parser.add_argument('--blind', metavar='CKPT', help='one more control: a checkpoint with words but without eyes')
    parser.add_argument(
        '--data', type=Path, nargs='+', metavar='DIR', help='folders of episodes instead of drives of --split'
    )
    add_options(parser, ScenarioParameters, 'split', 'seed')
    parser.add_argument(
        '--scenarios', type=positive_int, default=20, metavar='N', help='drives of the split (default: 20)'
    )
    parser.add_argument('--jobs', type=positive_int, default=2, help='worker processes that record (default: 2)')
    parser.add_argument(
        '--work',
        type=Path,
        default=Path('out/words_work'),
        metavar='DIR',
        help='folder in which recorded drives are kept (default: out/words_work)',
    )
    parser.add_argument('--report', type=Path, metavar='DIR', help='write report.html with pictures and words')
    add_options(parser, PolicyParameters, 'device')
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vla_driver.evaluate.words import figures as of
    from vla_driver.evaluate.words.ticks import VARIANTS, grammar_of, open_drives, speak_through
    from vla_driver.model.device import choose_device
    from vla_driver.model.native.loading import load_model
    from vla_driver.policies.native_reasoner import NativeReasoner

    device = choose_device(args.device)

    def reasoner(checkpoint: str) -> NativeReasoner:
        return NativeReasoner(load_model(checkpoint, auxiliary=False), device)

    model, gated = reasoner(args.checkpoint), reasoner(args.checkpoint)
    if model.config.blind:
        raise InvalidInput(f'--checkpoint {args.checkpoint} is blind; give it as --blind, beside one that sees')
    blind = None if args.blind is None else reasoner(args.blind)
    if blind is not None and not blind.config.blind:
        raise InvalidInput(f'--blind {args.blind} sees: it is no control; train one with --blind')
    drives = open_drives(_episodes(args))
    variants = [name for name in VARIANTS if name != 'other' or len(drives) > 1]
    spoken = {}
    total = sum(map(len, drives))
    with progress(total * (len(variants) + (blind is not None)), 'tick', 'words') as bar:
        for name in variants:
            bar.set_postfix_str(name, refresh=False)
            spoken[name] = speak_through(model, drives, name, gated if name == 'model' else None, bar.update)
        if blind is not None:
            bar.set_postfix_str('blind', refresh=False)
            spoken['blind'] = speak_through(blind, drives, 'model', None, bar.update)
    seen = spoken['model']
    accuracy = {name: of.accuracies(of.pairs_of(ticks)) for name, ticks in spoken.items()}
    accuracy['majority'] = of.accuracies(of.majority(seen))
    found: dict[str, Any] = {
        'checkpoint': args.checkpoint,
        'blind': args.blind,
        'split': None if args.data else args.split,
        'drives': len(drives),
        'ticks': total,
        'accuracy': accuracy,
        'confusion': of.confusion(seen),
        'reliability': of.reliability(seen),
        'numbers': of.numbers(seen),
        'decoding': of.decoding(seen),
        'gate': of.gating(seen),
        'ask_above': model.ask_above,
        'provenance': provenance(),
    }
    _print(found)
    if args.report is not None:
        from vla_driver.evaluate.words.report import write_words_report

        where = f'{len(drives)} drives, {total} ticks' + ('' if args.data else f', split {args.split}')
        path = args.report / 'report.html'
        write_words_report(path, found, seen, drives, grammar_of(model), f'{args.checkpoint}: {where}')
        print(f'report: {path}')
    write_json(args.json, found)
    return 0


def _episodes(args: argparse.Namespace) -> list[Path]:
    if args.data:
        from vla_driver.data.clips import find_episodes

        return find_episodes(args.data)
    from vla_driver.evaluate.words.drives import record_episodes
    from vla_driver.sim.world.scenario import scenarios

    chosen = scenarios(args.split, args.scenarios, seed=args.seed, length_m=400.0)
    with progress(len(chosen), 'drive', 'recording') as bar:
        return record_episodes(chosen, args.work, seconds=_DRIVE_S, jobs=args.jobs, on_done=bar.update)


def _print(found: Mapping[str, Any]) -> None:
    accuracy = found['accuracy']
    print(f'{found["checkpoint"]}: {found["ticks"]} ticks of {found["drives"]} drives')
    print(f'  {"":<32}' + ''.join(f'{name:>22}' for name in accuracy))
    names = [name for name, value in accuracy['model'].items() if isinstance(value, float) and not name.endswith('_ci')]
    for name in names:
        cells = []
        for figures in accuracy.values():
            interval = bracketed(figures.get(f'{name}_ci'), '.2f')
            cells.append(f'{figures[name]:.3f}{interval}' if name in figures else '-')
        print(f'  {name.replace("_", " "):<32}' + ''.join(f'{cell:>22}' for cell in cells))
    decoding, gate = found['decoding'], found['gate']
    print(
        f'  {decoding["passes"]:.2f} passes for {decoding["words"]:.1f} words; calibration error '
        f'{found["reliability"]["calibration_error"]:.3f}'
    )
    print(
        f'  gate: asks on {gate["asked_share"]:.0%} of the ticks; what holds is right on {gate["gate"]:.1%} '
        f'(always thinking: {gate["always"]:.1%}, a timer that thinks as often: {gate["timer"]:.1%})'
    )
