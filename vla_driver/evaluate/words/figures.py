# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""How right words are: accuracy with intervals over whole drives, controls, confusion, reliability, the gate."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from vla_driver.evaluate.words.ticks import TickWords
from vla_driver.model.words.grammar import Statement
from vla_driver.statistics import ratio_ci
from vla_driver.types import HazardKind, MetaAction

_BINS: Final = 10

#: What is judged, by name: (truth, said) -> right.
JUDGED: Final[dict[str, Callable[[Statement, Statement], bool]]] = {
    'meta_action': lambda truth, said: said.meta_action is truth.meta_action,
    'hazard': lambda truth, said: said.hazard is truth.hazard,
    'camera': lambda truth, said: said.camera == truth.camera,
    'hazard_and_camera': lambda truth, said: (said.hazard, said.camera) == (truth.hazard, truth.camera),
    'meaning': lambda truth, said: said.meaning == truth.meaning,
}


def accuracies(pairs: Sequence[tuple[int, Statement, Statement]]) -> dict[str, Any]:
    """Return the share that is right of each of `JUDGED`, with 95 % intervals over drives: pairs (drive, truth, said).

    balanced_*: the mean, over what there is to be said, of the share that is right: who always says the same, gets one
    of the number of kinds.  *_of_hazards: of the ticks alone at which there is a hazard to be named.
    """
    figures: dict[str, Any] = {'ticks': len(pairs)}
    for name, right in JUDGED.items():
        figures |= _share(name, [(drive, right(truth, said)) for drive, truth, said in pairs])
    named = [(drive, truth, said) for drive, truth, said in pairs if truth.hazard is not HazardKind.NONE]
    figures['hazards'] = len(named)
    if named:
        right = JUDGED['hazard_and_camera']
        figures |= _share('hazard_and_camera_of_hazards', [(d, right(truth, said)) for d, truth, said in named])
    for name, kind in (('meta_action', lambda s: s.meta_action), ('hazard', lambda s: s.hazard)):
        groups: dict[Any, list[bool]] = {}
        for _, truth, said in pairs:
            groups.setdefault(kind(truth), []).append(kind(said) is kind(truth))
        figures[f'balanced_{name}'] = float(np.mean([np.mean(group) for group in groups.values()]))
    return figures


def _share(name: str, right: Sequence[tuple[int, bool]]) -> dict[str, Any]:
    drives = sorted({drive for drive, _ in right})
    hits = [sum(ok for d, ok in right if d == drive) for drive in drives]
    counts = [sum(d == drive for d, _ in right) for drive in drives]
    return {name: sum(hits) / sum(counts), f'{name}_ci': ratio_ci(hits, counts)}


def pairs_of(spoken: Sequence[TickWords]) -> list[tuple[int, Statement, Statement]]:
    """Return (drive, truth, said) of every tick."""
    return [(one.drive, one.truth, one.said) for one in spoken]


def majority(spoken: Sequence[TickWords]) -> list[tuple[int, Statement, Statement]]:
    """Return pairs of the control that always says what is right most often on these very ticks, part by part.

    No such control could be better: it knows the ticks that it is measured on.
    """
    truths = [one.truth for one in spoken]
    action = Counter(truth.meta_action for truth in truths).most_common(1)[0][0]
    hazard, camera = Counter((truth.hazard, truth.camera) for truth in truths).most_common(1)[0][0]
    said = Statement(action, 0.0, hazard, camera)
    return [(one.drive, one.truth, said) for one in spoken]


def numbers(spoken: Sequence[TickWords]) -> dict[str, float]:
    """Return mean errors of the target speed, and of the distance where the hazard is right."""
    speed = [abs(one.said.target_speed_mps - one.truth.target_speed_mps) for one in spoken]
    distance = [
        abs(one.said.distance_m - one.truth.distance_m)
        for one in spoken
        if math.isfinite(one.truth.distance_m) and one.said.hazard is one.truth.hazard
    ]
    found = {'target_speed_error_mps': float(np.mean(speed))}
    if distance:
        found['distance_error_m'] = float(np.mean(distance))
    return found


def confusion(spoken: Sequence[TickWords]) -> dict[str, dict[str, dict[str, int]]]:
    """Return, for action and hazard, how often what was to be said (first) was said as what (second)."""
    tables: dict[str, dict[str, dict[str, int]]] = {}
    for name, kinds in (('meta_action', tuple(MetaAction)), ('hazard', tuple(HazardKind))):
        table = {str(truth): {str(said): 0 for said in kinds} for truth in kinds}
        for one in spoken:
            table[str(getattr(one.truth, name))][str(getattr(one.said, name))] += 1
        tables[name] = table
    return tables


def reliability(spoken: Sequence[TickWords]) -> dict[str, Any]:
    """Return how often the meaning is right by how sure the model was, and the expected calibration error.

    The latter is the mean distance of the two over ten bins of confidence, weighted by ticks (M. P. Naeini et al.,
    AAAI 2015).
    """
    sure = np.array([one.confidence for one in spoken])
    right = np.array([JUDGED['meaning'](one.truth, one.said) for one in spoken], dtype=float)
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    rows, error = [], 0.0
    for k in range(_BINS):
        inside = place == k
        if inside.any():
            confidence, accuracy = float(sure[inside].mean()), float(right[inside].mean())
            rows.append({'ticks': int(inside.sum()), 'confidence': confidence, 'accuracy': accuracy})
            error += float(inside.mean()) * abs(confidence - accuracy)
    return {'bins': rows, 'calibration_error': error}


def decoding(spoken: Sequence[TickWords]) -> dict[str, float]:
    """Return passes of the language model a sentence, words a sentence (the passes of plain decoding), their ratio."""
    passes, words = (float(np.mean([getattr(one, name) for one in spoken])) for name in ('passes', 'words'))
    return {'passes': passes, 'words': words, 'passes_ratio': passes / words}


def gating(spoken: Sequence[TickWords]) -> dict[str, float]:
    """Return what the gate saves and costs: `asked_share` of the ticks, and how often the meaning that holds is right.

    always: where every tick is thought about; gate: where the gate asks; timer: at even intervals, as often.
    changes_caught: of the ticks at which what is right has changed, the share at which the gate asks.
    """
    asked = [one.asked for one in spoken]
    share = float(np.mean(asked))
    right = JUDGED['meaning']
    held = [one for one in spoken if one.held is not None]
    by_timer, due, last, drive = [], 0.0, None, -1
    for one in spoken:
        due += share
        if one.drive != drive or due >= 1.0:
            due, last, drive = due % 1.0, one.said, one.drive
        assert last is not None
        by_timer.append(right(one.truth, last))
    changes = [
        now.asked
        for before, now in itertools.pairwise(spoken)
        if before.drive == now.drive and before.truth.meaning != now.truth.meaning
    ]
    return {
        'asked_share': share,
        'always': float(np.mean([right(one.truth, one.said) for one in spoken])),
        'gate': float(np.mean([right(one.truth, one.held) for one in held if one.held is not None])),
        'timer': float(np.mean(by_timer)),
        **({'changes_caught': float(np.mean(changes))} if changes else {}),
    }
