# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag through the planner node: two processes beside this one, connected by DDS."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_driver.bag.inventory import inventory_lines
from vla_driver.bag.matching import Matching
from vla_driver.bag.read import BagReader
from vla_driver.bag.recording import Recording, figures, what_became
from vla_driver.bag.wiring import Wiring, wire
from vla_driver.commands.common import follow, progress, tell_calibration, tell_notes
from vla_driver.commands.flags import in_flags
from vla_driver.commands.pruning_arguments import planner_parameters
from vla_driver.commands.reasoner_arguments import reasoner_parameters
from vla_driver.geometry.rig import rig_to_yaml
from vla_driver.observation.reasons import in_words
from vla_driver.policies.pruning_settings import PruningSettings, load_pruner
from vla_driver.policies.registry import require_checkpoint
from vla_driver.settings.nodes.bag_player import BagPlayerParameters
from vla_driver.settings.nodes.planner import START_S
from vla_driver.settings.policy import PolicyParameters
from vla_driver.types import CameraRig, InvalidInput, VlaDriverError
from vla_driver.workers import environment_variables

#: After the last image, plans that are under way get this long.
_TAIL_S = 1.0
#: The planner reports this often: what was missing while it played is counted by its reports.
_REPORTS_S = 0.25


@dataclass(frozen=True)
class ReplayRequest:
    """Which bag, through which policy, how.

    reasoner: the checkpoint that reasons beside the planner, None: nobody does.  environment: for the nodes, beside
    this process's own.
    """

    bag: Path
    policy: str = PolicyParameters.policy
    model: str | None = None
    device: str = PolicyParameters.device
    pruning: PruningSettings = field(default_factory=PruningSettings)
    topics: Mapping[str, str] = field(default_factory=dict)
    rig: CameraRig | None = None
    rectified: bool = False
    reasoner: str | None = None
    rate: float = BagPlayerParameters.rate
    loop: bool = BagPlayerParameters.loop
    matching: Matching = field(default_factory=Matching)
    exclude: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Replayed:
    """A replay and how it was wired."""

    recording: Recording
    wiring: Wiring


def replay(request: ReplayRequest) -> Replayed:
    """Play the bag to its end (or, looping, until Ctrl-C) and return what the planner published, plans or not.

    Raises InvalidInput for a bag that a planner cannot use, VlaDriverError when a node fails.
    """
    from vla_driver.ros.wire.transport import use_shared_memory_profile

    wiring, checkpoint = _prepare(request)
    for line in inventory_lines(wiring.inputs):
        print(f'  {line}')
    tell_calibration({str(request.bag): wiring.calibration})
    # The recorder in this process must be in the nodes' domain, with their transport; afterwards nothing stays set.
    environment = {**os.environ, **request.environment}
    use_shared_memory_profile(environment)
    with environment_variables({k: v for k, v in environment.items() if os.environ.get(k) != v}):
        return Replayed(_play(request, wiring, checkpoint), wiring)


def _prepare(request: ReplayRequest) -> tuple[Wiring, str]:
    """Look into the bag and say what is wrong before any process is started; return the checkpoint, too."""
    if request.policy == 'expert':
        raise InvalidInput('policy expert: it belongs to the simulator; replay takes model, blind, constant-velocity')
    if not request.rate > 0:
        raise InvalidInput(f'rate {request.rate}: expected a positive number')
    checkpoint = require_checkpoint(request.policy, request.model)
    load_pruner(request.pruning.pruner, checkpoint)  # an unknown one is named before processes are started
    with BagReader(request.bag, topics=request.topics, rig=request.rig, rectified=request.rectified) as bag:
        return wire(bag, request.matching), checkpoint or ''


def _play(request: ReplayRequest, setup: Wiring, checkpoint: str) -> Recording:
    from vla_driver.ros.runs.plan_recorder import PlanRecorder
    from vla_driver.ros.runs.processes import NodeProcesses

    with (
        tempfile.TemporaryDirectory() as folder,
        NodeProcesses(log=request.log) as nodes,
        PlanRecorder(setup.anchor, camera_time_offset_s=request.matching.camera_time_offset_s) as recorder,
    ):
        rig_file = Path(folder) / 'rig.yaml'
        rig_file.write_text(rig_to_yaml(setup.rig), encoding='utf-8')
        parameters = {
            **setup.parameters,
            'rig': str(rig_file),
            'diagnostics_period_s': _REPORTS_S,
            'max_skew_s': request.matching.max_skew_s,
            'camera_time_offset_s': request.matching.camera_time_offset_s,
            'policy': request.policy,
            'model': checkpoint,
            'device': request.device,
            **planner_parameters(request.pruning),
        }
        playing = {
            'bag': str(request.bag),
            'rate': request.rate,
            'loop': request.loop,
            # Chosen as inputs, these are played even where their names or types look like outputs.
            'include': list(setup.read),
            'exclude': list(request.exclude) or [''],
            'wait_for_subscribers': list(setup.needed),
            'autostart': False,
        }
        # Both at once: the player, too, needs a moment, and plays only when it is told to.
        planner = nodes.start('planner', parameters, remappings=setup.remappings)
        player = nodes.start('bag_player', playing, remappings=setup.moved)
        started = [planner]
        if request.reasoner is not None:
            thinking = reasoner_parameters(request.reasoner, request.device, parameters)
            started.append(nodes.start('reasoner', thinking, remappings=setup.remappings))
        nodes.wait_active(*started, timeout_s=START_S)
        recorder.wait_for_planner()
        try:
            recorder.start_when_heard(
                'bag_player', needed=setup.played_names(setup.needed), others=setup.played_names(setup.read)
            )
        except VlaDriverError as error:
            raise VlaDriverError(f'{error}; its last lines:\n{player.output}') from error
        seconds = None if request.loop else setup.seconds
        try:
            with progress(seconds, 's', f'replay {request.bag.name}') as bar:
                _watch(player, nodes, recorder, bar, seconds, request.rate)
        except KeyboardInterrupt:
            if not request.loop:
                raise
            player.stop()
        else:
            player.check()
        recorder.ended()
        _drain(recorder)
        recorder.wait_for_report()
        nodes.check()
        return recorder.recording()


def _drain(recorder: Any) -> None:
    """Wait until no more plans come."""
    last, quiet_since = recorder.count, time.monotonic()
    while time.monotonic() - quiet_since < _TAIL_S:
        time.sleep(0.05)
        if recorder.count != last:
            last, quiet_since = recorder.count, time.monotonic()


def report_replay(request: ReplayRequest, replayed: Replayed, out: Path | None, title: str) -> dict[str, Any]:
    """Print the figures of a replay, write its report into `out` (if given) and return the figures."""
    recording, inputs = replayed.recording, replayed.wiring.inputs
    if out is None:
        metrics = figures(recording)
    else:
        from vla_driver.evaluate.replay import write_replay_report

        with progress(len({received.plan.stamp_s for received in recording.plans}), 'picture', 'report') as bar:
            metrics = write_replay_report(
                out,
                request.bag,
                recording,
                title=title,
                topics=request.topics,
                rig=request.rig,
                rectified=request.rectified,
                matching=request.matching,
                inputs=inputs,
                on_picture=bar.update,
            )
    sources = ', '.join(f'{count} {source}' for source, count in metrics['sources'].items())
    print(f'{metrics["plans"]} plans at {metrics["rate_hz"]:.1f} Hz' + (f' ({sources})' if sources else ''))
    for line in what_became(metrics):
        print(in_flags(f'  {line}'))
    tell_notes(recording.notes)
    if metrics['words'] is not None:
        print(words_in_line(metrics['words']))
    latency = metrics['camera_to_path_ms']
    if latency:
        print(f'camera to path: median {latency["p50"]:.1f} ms, 99 % {latency["p99"]:.1f} ms')
    if out is not None:
        for name in ('report.html', 'drive.webp', 'plan.mcap', 'metrics.json'):
            if name == 'metrics.json' or (out / name).exists():
                print(f'  {out / name}')
    return metrics | {'inputs': dict(inputs)}


def words_in_line(words: Mapping[str, Any]) -> str:
    """Return what a reasoner said and what the plans made of it, in one line."""
    said = ', '.join(f'{count} {action}' for action, count in words['meta_actions'].items())
    if not words['plans_told']:
        return f'{words["intents"]} intents ({said}), told to no plan: the model heeds none'
    return (
        f'{words["intents"]} intents ({said}); {words["plans_told"]} plans were told one, median age '
        f'{words["age_s"]["p50"]:.2f} s, mean agreement {words["agreement"]:.2f}'
    )


def exit_status(recording: Recording) -> int:
    """Return 0, or, saying why on stderr, 1 when no plan was the policy's own."""
    if recording.own_plans:
        return 0
    why = '; '.join(filter(None, [in_words(recording.why_not), *recording.meanwhile]))
    print(in_flags(f"error: no plan is the policy's own: {why or 'the planner gave no reason'}"), file=sys.stderr)
    return 1


def _watch(player: Any, nodes: Any, recorder: Any, bar: Any, seconds: float | None, rate: float) -> None:
    """Move the progress bar until the player has ended."""

    def show(since_s: float) -> None:
        played = since_s * rate
        bar.update((played if seconds is None else min(played, seconds)) - bar.n)
        bar.set_postfix_str(f'{recorder.count} plans', refresh=False)

    follow(player, nodes, lambda: recorder.images, show)
    if seconds is not None:
        bar.update(seconds - bar.n)
