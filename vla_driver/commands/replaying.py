# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag through the planner node: two processes beside this one, connected by DDS."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_driver.bag.outputs import live_name
from vla_driver.bag.read import BagReader
from vla_driver.bag.recording import Recording, figures
from vla_driver.bag.schema import PICTURES
from vla_driver.bag.topics import InputTopics, route_hint
from vla_driver.commands.common import follow, progress
from vla_driver.commands.pruning_arguments import planner_parameters
from vla_driver.geometry.rig import rig_to_yaml
from vla_driver.policies.pruning_settings import PruningSettings, load_pruner
from vla_driver.policies.registry import require_checkpoint
from vla_driver.settings.bag_player import BagPlayerParameters
from vla_driver.settings.planner import START_S
from vla_driver.settings.policy import PolicyParameters
from vla_driver.sim.workers import environment_variables
from vla_driver.types import ANCHOR_CAMERA, CameraRig, InvalidInput, VlaDriverError

#: After the last image, plans that are under way get this long.
_TAIL_S = 1.0


@dataclass(frozen=True)
class ReplayRequest:
    """Which bag, through which policy, how.  environment: for the nodes, beside this process's own."""

    bag: Path
    policy: str = PolicyParameters.policy
    model: str | None = None
    device: str = PolicyParameters.device
    pruning: PruningSettings = field(default_factory=PruningSettings)
    topics: Mapping[str, str] = field(default_factory=dict)
    rig: CameraRig | None = None
    rate: float = BagPlayerParameters.rate
    loop: bool = BagPlayerParameters.loop
    exclude: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Callable[[str], None] | None = None


@dataclass(frozen=True)
class _Setup:
    """What the nodes are started with.

    anchor: topic and type of the anchor camera as played; needed: topics of the bag that the player waits to be heard
    on; inputs: topics of the bag that the planner reads; moved: those of them that are played under another name.
    """

    rig: CameraRig
    parameters: Mapping[str, Any]
    remappings: Mapping[str, str]
    anchor: tuple[str, str]
    needed: tuple[str, ...]
    inputs: tuple[str, ...]
    moved: Mapping[str, str]
    seconds: float


def replay(request: ReplayRequest) -> Recording:
    """Play the bag to its end (or, looping, until Ctrl-C) and return what the planner published.

    Raises InvalidInput for a bag that a planner cannot use, VlaDriverError when a node fails.
    """
    from vla_driver.ros.wire.transport import use_shared_memory_profile

    setup = _prepare(request)
    # The recorder in this process must be in the nodes' domain, with their transport; afterwards nothing stays set.
    environment = {**os.environ, **request.environment}
    use_shared_memory_profile(environment)
    with environment_variables({k: v for k, v in environment.items() if os.environ.get(k) != v}):
        recording = _play(request, setup)
    if not recording.plans:
        problems = [f'{name}: {text}' for name, (level, text) in recording.diagnostics.items() if level]
        raise VlaDriverError(f'the planner published no plan; its diagnostics: {"; ".join(problems) or "none came"}')
    return recording


def _prepare(request: ReplayRequest) -> _Setup:
    """Look into the bag and say what is wrong before any process is started."""
    if request.policy == 'expert':
        raise InvalidInput('policy expert: it belongs to the simulator; replay takes model, blind, constant-velocity')
    if not request.rate > 0:
        raise InvalidInput(f'rate {request.rate}: expected a positive number')
    checkpoint = require_checkpoint(request.policy, request.model)
    load_pruner(request.pruning.pruner, checkpoint)  # an unknown one is named before processes are started
    with BagReader(request.bag, topics=request.topics, rig=request.rig) as bag:
        inputs, rig, types, seconds = bag.inputs(), bag.rig(), bag.topics, bag.duration_s
    if ANCHOR_CAMERA not in inputs.cameras:
        raise InvalidInput(
            f'bag {request.bag} has no {ANCHOR_CAMERA} camera, which sets the tick, only {", ".join(inputs.cameras)}; '
            f'name it: --camera-topic {ANCHOR_CAMERA}=/TOPIC'
        )
    if inputs.odometry is None or inputs.route is None:
        absent = 'odometry (nav_msgs/Odometry)' if inputs.odometry is None else 'route (nav_msgs/Path)'
        hint = route_hint(types) if inputs.odometry is not None else ''
        raise InvalidInput(
            f'bag {request.bag} has no {absent}, without which nothing can be planned; see --topic'
            + (f' ({hint})' if hint else '')
        )
    needed = (*inputs.cameras.values(), inputs.odometry, inputs.route)
    read = (*needed, *inputs.infos.values(), *filter(None, [inputs.turn_command]))
    # Under its own name a recorded `/path`, say, would meet the planner's: two kinds of messages on one topic.
    moved = {topic: f'/recorded{topic}' for topic in read if live_name(topic)}
    parameters, remappings = _planner_settings(inputs, rig, types, moved)
    anchor = inputs.cameras[ANCHOR_CAMERA]
    return _Setup(
        rig,
        {
            **parameters,
            'policy': request.policy,
            'model': checkpoint or '',
            'device': request.device,
            **planner_parameters(request.pruning),
        },
        remappings,
        (moved.get(anchor, anchor), types[anchor]),
        needed,
        read,
        moved,
        seconds,
    )


def _play(request: ReplayRequest, setup: _Setup) -> Recording:
    from vla_driver.ros.runs.plan_recorder import PlanRecorder
    from vla_driver.ros.runs.processes import NodeProcesses

    with (
        tempfile.TemporaryDirectory() as folder,
        NodeProcesses(log=request.log) as nodes,
        PlanRecorder(setup.anchor) as recorder,
    ):
        rig_file = Path(folder) / 'rig.yaml'
        rig_file.write_text(rig_to_yaml(setup.rig), encoding='utf-8')
        parameters = {**setup.parameters, 'rig': str(rig_file)}
        planner = nodes.start('planner', parameters, remappings=setup.remappings)
        nodes.wait_active(planner, timeout_s=START_S)
        recorder.wait_for_planner()
        playing = {
            'bag': str(request.bag),
            'rate': request.rate,
            'loop': request.loop,
            # Chosen as inputs, these are played even where their names or types look like outputs.
            'include': list(setup.inputs),
            'exclude': list(request.exclude) or [''],
            'wait_for_subscribers': list(setup.needed),
            'autostart': False,
        }
        player = nodes.start('bag_player', playing, remappings=setup.moved)
        try:
            recorder.start_when_heard('bag_player')
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
        _drain(recorder)
        nodes.check()
        return recorder.recording()


def _planner_settings(
    inputs: InputTopics, rig: CameraRig, types: Mapping[str, str], moved: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the planner's parameters and remappings for a bag's topics; moved: topic -> name it is played under."""
    remappings, transports = {}, []
    for camera, topic in inputs.cameras.items():
        transport = PICTURES[types[topic]]
        own = f'camera/{camera}/image' + ('' if transport == 'raw' else f'/{transport}')
        transports.append(f'{camera}={transport}')
        remappings[own] = topic
        if camera in inputs.infos:
            remappings[f'camera/{camera}/camera_info'] = inputs.infos[camera]
    for own, other in (('odom', inputs.odometry), ('route', inputs.route), ('turn_command', inputs.turn_command)):
        if other is not None:
            remappings[own] = other
    absent = [name for name in rig.names if name not in inputs.cameras]
    parameters: dict[str, Any] = {
        'image_transport': transports,
        'missing_cameras': [f'{name}=skip' for name in absent] or ['require'],
        'turn_command_required': inputs.turn_command is not None,
    }
    played = {own: moved.get(topic, topic) for own, topic in remappings.items()}
    return parameters, {own: topic for own, topic in played.items() if f'/{own}' != topic}


def _drain(recorder: Any) -> None:
    """Wait until no more plans come."""
    last, quiet_since = recorder.count, time.monotonic()
    while time.monotonic() - quiet_since < _TAIL_S:
        time.sleep(0.05)
        if recorder.count != last:
            last, quiet_since = recorder.count, time.monotonic()


def report_replay(request: ReplayRequest, recording: Recording, out: Path | None, title: str) -> dict[str, Any]:
    """Print the figures of a replay, write its report into `out` (if given) and return the figures."""
    if out is None:
        metrics = figures(recording)
    else:
        from vla_driver.evaluate.replay import write_replay_report

        with progress(len({received.plan.stamp_s for received in recording.plans}), 'picture', 'report') as bar:
            metrics = write_replay_report(
                out, request.bag, recording, title=title, topics=request.topics, rig=request.rig, on_picture=bar.update
            )
    sources = ', '.join(f'{count} {source}' for source, count in metrics['sources'].items())
    print(f'{metrics["plans"]} plans at {metrics["rate_hz"]:.1f} Hz ({sources})')
    latency = metrics['camera_to_path_ms']
    if latency:
        print(f'camera to path: median {latency["p50"]:.1f} ms, 99 % {latency["p99"]:.1f} ms')
    if out is not None:
        for name in ('report.html', 'drive.webp', 'plan.mcap', 'metrics.json'):
            print(f'  {out / name}')
    return metrics


def _watch(player: Any, nodes: Any, recorder: Any, bar: Any, seconds: float | None, rate: float) -> None:
    """Move the progress bar until the player has ended."""

    def show(since_s: float) -> None:
        played = since_s * rate
        bar.update((played if seconds is None else min(played, seconds)) - bar.n)
        bar.set_postfix_str(f'{recorder.count} plans', refresh=False)

    follow(player, nodes, lambda: recorder.images, show)
    if seconds is not None:
        bar.update(seconds - bar.n)
