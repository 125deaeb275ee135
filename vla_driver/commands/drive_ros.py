# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""`vla_driver drive --ros`: simulator, planner and controller as processes of their own, connected by DDS.

The simulator waits for the control that answers each tick's images (synchronous mode), so a slow machine
drives the same route as a fast one.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_driver.bag.recording import figures
from vla_driver.commands.common import progress, read_json
from vla_driver.commands.pruning_arguments import planner_parameters, pruning_settings
from vla_driver.commands.reasoner_arguments import reasoner_checkpoint, reasoner_parameters
from vla_driver.commands.replaying import words_in_line
from vla_driver.commands.scenario import scenario_of, scenario_settings
from vla_driver.planning.continuity import jump_m
from vla_driver.policies.registry import REMOTE, require_checkpoint
from vla_driver.settings.guarding import GUARDING
from vla_driver.settings.knob import as_lists, as_parameters
from vla_driver.settings.launch_topics import camera_remappings
from vla_driver.settings.nodes import carla_bridge
from vla_driver.settings.nodes.planner import START_S
from vla_driver.settings.nodes.simulator import PATIENT_CONTROLLER, PATIENT_PLANNER
from vla_driver.settings.policy import NODE_POLICIES
from vla_driver.sim.rollout import JUMP_S, step_for, ticks_per_plan
from vla_driver.types import CAMERA_NAMES, InvalidInput, PlanSource, VlaDriverError
from vla_driver.workers import environment_variables

if TYPE_CHECKING:
    from vla_driver.sim.world.scenario import Scenario

#: Nothing for this long means that a node hangs: no tick takes so much time on any machine.
_SILENCE_S = 120.0


def drive_over_dds(args: argparse.Namespace) -> dict[str, Any]:
    """Drive one route with the nodes and return the simulator's verdict."""
    from vla_driver.ros.wire.transport import use_shared_memory_profile

    if args.policy not in NODE_POLICIES:
        where = 'asks from' if args.policy == REMOTE else 'lives'
        raise InvalidInput(f'policy {args.policy}: it {where} inside the simulator, not in a node; leave out --ros')
    if args.video is not None:
        raise InvalidInput("--video films the synchronous drive; leave out --ros (RViz shows the nodes' drive)")
    if args.carla and ticks_per_plan(args.plan_hz, step_for(args.plan_hz)) != 1:
        raise InvalidInput(f'--carla answers every tick: --plan-hz {args.plan_hz:g}, expected 10 or 20 (CARLA itself)')
    scenario = scenario_of(args)  # says what is wrong before anything is started
    checkpoint = require_checkpoint(args.policy, args.model)
    environment = dict(os.environ)
    use_shared_memory_profile(environment)
    with environment_variables({k: v for k, v in environment.items() if os.environ.get(k) != v}):
        return _drive(args, scenario, checkpoint)


def _drive(args: argparse.Namespace, scenario: Scenario, checkpoint: str | None) -> dict[str, Any]:
    from vla_driver.ros.runs.plan_recorder import PlanRecorder
    from vla_driver.ros.runs.processes import NodeProcesses

    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        verdict = Path(folder) / 'result.json'
        with NodeProcesses(log=print if args.verbose else None) as nodes, PlanRecorder() as recorder:
            # The world waits for its driver here: what is late by the wall clock is not late in the world.
            planning = {
                'policy': args.policy,
                'model': checkpoint or '',
                'device': args.device,
                'engine': args.engine,
                'threads': args.threads,
                'guidance': args.guidance,
                **{name: getattr(args, name) for name in GUARDING},
                'use_sim_time': True,
                **PATIENT_PLANNER,
                **planner_parameters(pruning_settings(args)),
            }
            controlling, topics, world, leaderboard = dict(PATIENT_CONTROLLER), {}, 'simulator', False
            if args.carla:
                planning |= as_lists(carla_bridge.PLANNER) | {'image_transport': ['raw']}
                controlling |= as_lists(carla_bridge.CONTROLLER | carla_bridge.WAITING_CONTROLLER)
                topics, world = _carla_topics(), 'carla_bridge'
            leaderboard = args.carla == 'leaderboard'
            started = [
                nodes.start('planner', planning, remappings=topics),
                nodes.start('controller', controlling, remappings=topics),
            ]
            if leaderboard:
                started.append(nodes.start('carla_localizer', {'use_sim_time': True}))
            if (thinks := reasoner_checkpoint(args)) is not None:
                thinking = reasoner_parameters(thinks, args.device, planning)
                started.append(nodes.start('reasoner', thinking, remappings=topics))
            nodes.wait_active(*started, timeout_s=START_S)
            simulator = nodes.start(
                world,
                {
                    **_scenario_parameters(args),
                    'step_s': step_for(args.plan_hz),
                    'camera_every': ticks_per_plan(args.plan_hz, step_for(args.plan_hz)),
                    'synchronous': True,
                    'synchronous_timeout_s': _SILENCE_S,
                    'max_seconds': args.max_seconds or 0.0,
                    'result_file': str(verdict),
                    **({'leaderboard': True} if leaderboard else {}),
                },
            )
            last, quiet_since = 0, time.monotonic()
            with progress(None, 'plan', f'{scenario.town} {scenario.seed}') as bar:
                while simulator.running:
                    time.sleep(0.1)
                    nodes.check()
                    if recorder.count > last:
                        bar.update(recorder.count - last)
                        last, quiet_since = recorder.count, time.monotonic()
                    elif time.monotonic() - quiet_since > _SILENCE_S:
                        states = [f'{k}: {text}' for k, (level, text) in recorder.diagnostics().items() if level]
                        raise VlaDriverError(f'no plan for {_SILENCE_S:.0f} s; diagnostics: {"; ".join(states)}')
            simulator.check()
        recording, told = recorder.recording(), recorder.diagnostic_values()
        plans, words = recording.plans, figures(recording)['words']
        if not verdict.is_file():
            raise VlaDriverError(f'the simulator ended without a verdict; its last lines:\n{simulator.output}')
        result = read_json(verdict)
    sources: dict[str, int] = {}
    for received in plans:
        sources[received.plan.source.value] = sources.get(received.plan.source.value, 0) + 1
    if words is not None:
        print(words_in_line(words))
    driven = [received.plan for received in plans]
    jumps = [
        jump_m(before, plan, JUMP_S)
        for before, plan in itertools.pairwise(driven)
        if before.source is plan.source is PlanSource.POLICY and 0.0 < plan.stamp_s - before.stamp_s < JUMP_S
    ]
    return {
        **result,
        'plans': sources,
        'plan_jump_m': statistics.fmean(jumps) if jumps else 0.0,
        'words': words,
        'engine': _engine(told),
        'wall_s': time.perf_counter() - started_s,
    }


def _carla_topics() -> dict[str, str]:
    """Return the remappings of the driver's topics to those of CARLA's bridge."""
    vehicle = f'/carla/{carla_bridge.ROLE}'
    pictures = {name: f'{vehicle}/{name}/image' for name in CAMERA_NAMES}
    return camera_remappings(pictures) | carla_bridge.topics_of(vehicle)


def _engine(told: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return what computed the plans, as the planner said in its diagnostics."""
    about: Mapping[str, str] = next((values for name, values in told.items() if name.endswith('policy')), {})
    report = {name: about.get(name, '') for name in ('engine', 'provider', 'precision', 'note')}
    return {**report, 'threads': int(about.get('threads') or 0)}


def _scenario_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the scenario's arguments as the simulator node's parameters."""
    wanted = scenario_settings(args)
    if wanted.town:
        from vla_driver.sim.world.towns import town_path

        routes = tuple(route and str(Path(route).resolve()) for route in wanted.routes)
        wanted = dataclasses.replace(wanted, town=str(town_path(wanted.town)), routes=routes)
    return as_parameters(wanted)
