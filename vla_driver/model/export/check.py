# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Whether graphs give what torch does: the sample's two ticks, on every way through the graphs.  Without torch.

The same function runs them in torch at export, in ONNX Runtime right after, and on the provider of the machine that is
to drive, so that all three did the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.geometry.unicycle import integrate
from vla_driver.model.export.manifest import Manifest, RefusedGraphs
from vla_driver.model.export.sample import Arrays

#: One graph at work: arrays by name in, outputs by name out; more may be given than it takes.
Given = Mapping[str, npt.NDArray[Any]]
Run = Callable[[Given], Given]

#: What is no plan: how far it may be off, as a share of its length.  Scores order tokens and are no distances.
_SCORES_OFF = {'float32': 1e-3, 'bfloat16': 0.1}
#: Who reads a token may hang on the last digit of its scores: so many of the choices, at most, may be others.
#: Of two layers with experts, one choice of the last, which has six, is 8 %.  Of a trained model with twice 26 experts
#: no choice moved in float32, and 1.2 % in bfloat16.
_LOAD = 'expert_load'
_CHOICES_OFF = {'float32': 0.1, 'bfloat16': 0.5}
#: The graph that says where others will be, from what any deciding graph puts out.
OTHERS: Final = 'others'
#: Outputs that are plans.
_PLANS = ('controls', 'first')
#: What a decision may hold beside the plan.
_BESIDE = ('agents', 'agent_controls', 'uncertainty', 'wants_words', _LOAD)


def run_paths(runs: Mapping[str, Run], sample: Arrays) -> Arrays:
    """Return what the graphs that are there make of the sample: '<graph>.<output>' of the last graph of every way.

    runs: by name, as `export.graphs_of` names them; a way whose graphs are not all there is left out.
    """
    first, second = (
        {name.partition('.')[2]: value for name, value in sample.items() if name.startswith(f'{tick}.')}
        for tick in ('first', 'second')
    )
    made: Arrays = {}

    def decision(way: str, given: Given) -> Arrays:
        """Return what a way gives, the plan and what is beside it, under the way's name."""
        if OTHERS in runs:
            given = {**given, **runs[OTHERS](given)}
        return {f'{way}.{name}': given[name] for name in ('controls', *_BESIDE) if name in given}

    if 'blind' in runs:
        return decision('blind', runs['blind'](second))
    rig = runs['rig']({'rays': sample['rays'], 'origins': sample['origins']})
    first, second = {**first, **rig}, {**second, **rig}
    index = sample['kept_index']

    def remembering(pooled: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return the second tick with the first one's tokens remembered."""
        ticks = second['remembered_features'].shape[1]
        return {**second, 'remembered_features': np.repeat(pooled[:, None], ticks, axis=1)}

    if 'tick' in runs:
        before = runs['tick'](first)
        made['tick.first'] = before['controls']
        made |= decision('tick', runs['tick'](remembering(before['pooled'])))
    if 'recon' in runs:
        position = runs['recon_rig'](rig)
        first, second = {**first, **position}, {**second, **position}
    for encode in ('encode', 'encode_attention', 'recon'):
        if encode not in runs or 'rest' not in runs:
            continue
        before = _behind(runs[encode], runs['rest'], first, index)
        seen = _behind(runs[encode], runs['rest'], remembering(before['pooled']), index)
        made |= decision(encode, seen)
        for scores in ('attention', 'scores'):
            if scores in seen:
                made[f'{encode}.scores'] = seen[scores]
        if encode == 'encode' and 'plan' in runs:
            made['plan.contributions'] = runs['plan']({**second, **seen})['contributions']
    for name, late in runs.items():
        if not name.startswith('late'):
            continue
        block = name.removeprefix('late')
        early = f'early{block}'
        for way in (early, f'head{block}'):
            if way not in runs:
                continue
            before = _early(runs[way], late, first, sample)
            after = _early(runs[way], late, remembering(before['pooled']), sample)
            made |= decision(way, after)
            if 'scores' in after:
                made[f'{way}.scores'] = after['scores']
    return made


def _behind(encode: Run, rest: Run, given: Given, index: npt.NDArray[Any]) -> Arrays:
    """Return what the way with a cut behind the encoder gives at one tick."""
    seen = dict(encode(given))
    kept = np.take_along_axis(seen['features'], index[..., None], axis=1)
    feeds = {**given, 'features': seen['features'], 'kept_index': index, 'kept_features': kept}
    return {**seen, **rest(feeds)}


def _early(early: Run, late: Run, given: Given, sample: Arrays) -> Arrays:
    """Return what the way with a cut in front of a block gives at one tick."""
    index, seen = sample['kept_index'], dict(early(given))
    if 'completed' in seen:
        seen['left_features'] = seen['completed']
    states = np.take_along_axis(seen['unit_states'], index[..., None, None], axis=1)
    more = {'kept_index': index, 'kept_states': states, 'of_camera': sample['of_camera']}
    return {**seen, **late({**given, **seen, **more})}


def plan_error_m(manifest: Manifest, sample: Arrays, made: Arrays) -> dict[str, float]:
    """Return graph -> how far, at most, the positions of its plan are from those of torch in float32, in metres."""
    errors: dict[str, float] = {}
    for name, controls in made.items():
        graph, _, output = name.partition('.')
        if output in _PLANS:
            metres = apart_m(manifest, sample, controls, sample[f'expected.{name}'])
            errors[graph] = max(errors.get(graph, 0.0), metres)
    return errors


def apart_m(manifest: Manifest, sample: Arrays, here: npt.NDArray[Any], there: npt.NDArray[Any]) -> float:
    """Return how far, at most, the positions of two plans of the second tick are apart, in metres."""
    speed = float(sample['second.speed_mps'][0])
    plans = [
        integrate(speed, one[0, :, 0], one[0, :, 1], dt_s=manifest.dt_s).positions_m
        for one in (here.astype(np.float64), there.astype(np.float64))
    ]
    return float(np.abs(plans[0] - plans[1]).max())


def check_runs(manifest: Manifest, sample: Arrays, runs: Mapping[str, Run], precision: str, where: str) -> float:
    """Return how far the graphs' plans are from torch's, in metres; raise `RefusedGraphs` where it is too far.

    where: the provider, for the message.
    """
    made = run_paths(runs, sample)
    allowed, worst = manifest.tolerance_m[precision], 0.0
    for name, metres in plan_error_m(manifest, sample, made).items():
        if not metres <= allowed:
            raise RefusedGraphs(
                f'graph {name} on {where} in {precision}: its plan of the sample is {metres:.3g} m from that of torch, '
                f'allowed: {allowed:g} m'
            )
        worst = max(worst, metres)
    for name, scores in made.items():
        graph, _, output = name.partition('.')
        if output in _PLANS:
            continue
        expected = sample[f'expected.{name}']
        if output == _LOAD:
            _check_load(graph, where, precision, scores, expected)
            continue
        least = 1e-9 if output in ('scores', 'contributions') else 1.0
        share = float(np.linalg.norm(scores - expected) / max(least, float(np.linalg.norm(expected))))
        if not share <= _SCORES_OFF[precision]:
            raise RefusedGraphs(
                f'graph {graph} on {where} in {precision}: its {output} of the sample are off by {share:.2%} of their '
                f'length, allowed: {_SCORES_OFF[precision]:.1%}'
            )
    return worst


def _check_load(graph: str, where: str, precision: str, load: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Raise `RefusedGraphs` where too many tokens are read by others than in torch; loads [1, layers, N]."""
    moved = 0.5 * float(np.abs(load - expected).mean())
    if not moved <= _CHOICES_OFF[precision]:
        raise RefusedGraphs(
            f'graph {graph} on {where} in {precision}: {moved:.0%} of the tokens of the sample are read by other '
            f'experts than in torch, allowed: {_CHOICES_OFF[precision]:.0%}'
        )
