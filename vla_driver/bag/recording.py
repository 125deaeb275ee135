# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Plans as they came in from a planner in another process, and their figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vla_driver.bag.loads import ReceivedLoad, load_figures
from vla_driver.observation.reasons import beside, grouped
from vla_driver.types import CameraRig, Intent, Plan, PlanSource

#: What a recording of a planner holds: topic -> type.
RECORDED_TYPES: Final[Mapping[str, str]] = {
    'plan': 'vla_driver/msg/DrivingPlan',
    'path': 'nav_msgs/msg/Path',
    'agents': 'vla_driver/msg/AgentForecasts',
    'markers': 'visualization_msgs/msg/MarkerArray',
    'tokens': 'vla_driver/msg/TokenSelection',
    'intent': 'vla_driver/msg/DrivingIntent',
    'reasoning': 'std_msgs/msg/String',
}


@dataclass(frozen=True)
class ReceivedPlan:
    """One plan.  received_s: of its path, in system time; latency_ms: None where the image's sending is unknown."""

    plan: Plan
    missing_cameras: tuple[str, ...]
    received_s: float
    latency_ms: float | None


@dataclass(frozen=True)
class ReceivedTokens:
    """What the pruner kept for one plan: camera -> bool [rows, columns]; ratio: share pruned."""

    stamp_s: float
    pruner: str
    ratio: float
    kept: Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class RawMessage:
    """A serialized message of one of RECORDED_TYPES, with its header's stamp; words have that of their intent."""

    topic: str
    stamp_s: float
    data: bytes


@dataclass(frozen=True)
class Recording:
    """What a planner published while a bag was played.  images: anchor images that were sent.

    sets: what became of the sets of pictures, by the planner's own counters (`sets` of them came); not_planned: why
    no plan of the policy's own came of them; not_matched: why front images became no set; standing: what was missing
    in the reports that came while the bag was played.  All of these: reason -> how often.  notes: what the planner used
    in place of what was sent.  intents: what a reasoner said meanwhile.  loads: how much the model's experts read, as
    often as the planner reported it.
    """

    plans: Sequence[ReceivedPlan]
    raw: Sequence[RawMessage] = ()
    images: int = 0
    diagnostics: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    tokens: Sequence[ReceivedTokens] = ()
    sets: Mapping[str, int] = field(default_factory=dict)
    not_planned: Mapping[str, int] = field(default_factory=dict)
    not_matched: Mapping[str, int] = field(default_factory=dict)
    standing: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    intents: Sequence[Intent] = ()
    loads: Sequence[ReceivedLoad] = ()

    @property
    def own_plans(self) -> int:
        """How many plans are the policy's own."""
        return sum(received.plan.source is PlanSource.POLICY for received in self.plans)

    @property
    def why_not(self) -> dict[str, int]:
        """Why sets, and pictures that became no set, gave no plan of the policy's own, and how many."""
        return grouped({**self.not_planned, **self.not_matched})

    @property
    def meanwhile(self) -> list[str]:
        """What was missing while the bag was played, as far as it explains more than `why_not`."""
        return [] if self.own_plans else beside(self.why_not, grouped(self.standing))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and max of some numbers; empty without any."""
    if not len(values):
        return {}
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {'p50': float(p50), 'p90': float(p90), 'p99': float(p99), 'max': float(np.max(values))}


def rate_hz(plans: Sequence[ReceivedPlan]) -> float:
    """Return plans per second of wall time, 0 for fewer than two plans."""
    times = [plan.received_s for plan in plans]
    span = max(times) - min(times) if len(times) > 1 else 0.0
    return (len(times) - 1) / span if span > 0 else 0.0


def figures(recording: Recording) -> dict[str, Any]:
    """Return rate, latency, stages and sources of a recording, for JSON."""
    plans = recording.plans
    stages: dict[str, list[float]] = {}
    for received in plans:
        for name, ms in received.plan.timing_ms.items():
            stages.setdefault(name, []).append(ms)
    return {
        'plans': len(plans),
        'images': recording.images,
        'rate_hz': rate_hz(plans),
        'camera_to_path_ms': spread([p.latency_ms for p in plans if p.latency_ms is not None]),
        'stages_ms': {name: spread(values) for name, values in stages.items()},
        'sources': dict(Counter(p.plan.source.value for p in plans)),
        'sets': {**recording.sets, 'not_matched': sum(recording.not_matched.values())},
        'not_planned': recording.why_not,
        'without_camera': dict(Counter(camera for p in plans for camera in p.missing_cameras)),
        'meanwhile': recording.meanwhile,
        'notes': list(recording.notes),
        'pruning': _pruning(recording),
        'words': _words(recording),
        'others': _others(recording),
        'experts': load_figures(recording.loads),
        'reasons': dict(Counter(p.plan.reason for p in plans if p.plan.reason).most_common(10)),
    }


#: Counter of the planner -> what to call it.
_OUTCOMES: Final[Mapping[str, str]] = {
    'policy': 'planned by the policy',
    'refused_by_guard': 'with a plan that the guard refused',
    'not_ready': 'not ready',
    'failed': 'failed',
    'stale': 'too old',
    'overtaken_by_jump': 'overtaken by a jump of time',
    'replaced_by_newer': 'replaced by newer ones while the planner was busy',
}


def what_became(metrics: Mapping[str, Any]) -> list[str]:
    """Return what `figures` says about the sets of pictures, in lines; nothing where the planner did not tell."""
    sets = metrics['sets']
    if 'sets' not in sets:
        return []
    told = [f'{sets[name]} {words}' for name, words in _OUTCOMES.items() if sets.get(name)]
    lines = [f'{sets["sets"]} sets of pictures' + (f': {", ".join(told)}' if told else '')]
    if sets['not_matched']:
        lines.append(f'{sets["not_matched"]} front pictures became no set')
    lines += [f'{count} x {reason}' for reason, count in list(metrics['not_planned'].items())[:5]]
    # A camera that never sent is named in the list of inputs.
    lines += [
        f'{count} plans without camera {camera}, whose pictures were missing'
        for camera, count in metrics['without_camera'].items()
        if count < metrics['plans']
    ]
    return lines + [f'meanwhile: {problem}' for problem in metrics['meanwhile'][:5]]


def _pruning(recording: Recording) -> dict[str, Any] | None:
    """Return which pruners were at work and how many tokens stayed on average; None without any."""
    if not recording.tokens:
        return None
    kept = [sum(int(cells.sum()) for cells in tokens.kept.values()) for tokens in recording.tokens]
    total = [sum(cells.size for cells in tokens.kept.values()) for tokens in recording.tokens]
    return {
        'pruners': dict(Counter(tokens.pruner for tokens in recording.tokens)),
        'ticks': len(recording.tokens),
        'tokens_kept': float(np.mean(kept)),
        'tokens': float(np.mean(total)),
    }


def _words(recording: Recording) -> dict[str, Any] | None:
    """Return what a reasoner said and what the plans made of it; None where nothing was said."""
    if not recording.intents:
        return None
    heeded = [received.plan.heeded for received in recording.plans if received.plan.heeded is not None]
    return {
        'intents': len(recording.intents),
        'meta_actions': dict(Counter(intent.meta_action.value for intent in recording.intents)),
        'hazards': dict(Counter(intent.hazard.value for intent in recording.intents)),
        'plans_told': len(heeded),
        'age_s': spread([one.age_s for one in heeded]),
        'agreement': float(np.mean([one.agreement for one in heeded])) if heeded else None,
    }


def _others(recording: Recording) -> dict[str, Any] | None:
    """Return whom the plans forecast; None where they forecast nobody."""
    forecasts = [received.plan.forecasts for received in recording.plans]
    if not any(forecasts):
        return None
    return {
        'plans': sum(bool(one) for one in forecasts),
        'mean': float(np.mean([len(one) for one in forecasts])),
        'most': max(len(one) for one in forecasts),
        'kinds': dict(Counter(forecast.kind.value for one in forecasts for forecast in one)),
    }


def write_plan_bag(path: Path, rig: CameraRig, messages: Sequence[RawMessage]) -> None:
    """Write plans, paths and markers as a bag that goes with the one they were made from.

    Logged at t0, not when they were published, so that both bags can be played or looked at together.
    Raises InvalidInput if the bag exists.
    """
    from vla_driver.bag import schema  # the libraries of bags: whoever only receives plans does without
    from vla_driver.bag.write import BagWriter

    store = schema.typestore()
    with BagWriter(path, rig) as bag:
        for message in sorted(messages, key=lambda m: m.stamp_s):
            kind = RECORDED_TYPES[message.topic]
            content = store.deserialize_cdr(message.data, kind)
            bag.write(schema.Topic(f'/{message.topic}', kind), content, message.stamp_s)
