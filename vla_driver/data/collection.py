# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Collect training episodes: the simulator driven by the expert with disturbances, or by a learner (DAgger).

Every tick is labelled with what the expert would do from there, whoever drove there (S. Ross et al., "A Reduction
of Imitation Learning and Structured Prediction to No-Regret Online Learning", 2011).
"""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vla_driver.data.episode import EpisodeWriter, Hazard, Tick
from vla_driver.data.tracks import TrackRecorder
from vla_driver.planning.control import ControlCommand, TrajectoryController
from vla_driver.settings.policy import PolicyParameters
from vla_driver.sim.simulation import Simulation
from vla_driver.sim.world.scenario import Scenario, scenarios, with_traffic
from vla_driver.sim.world.traffic import STEP_S
from vla_driver.types import NO_ENGINE, InvalidInput, Policy
from vla_driver.workers import end_with_starter, environment_variables, share_cores

#: A tick is recorded every TICK_STEPS steps of the simulator (0.5 s).
TICK_STEPS = 5
#: The expert plans anew every PLAN_STEPS steps (5 Hz, as the closed-loop evaluation does).  A learner plans at the
#: recorded ticks only: drawing the six pictures costs most, and these are drawn anyway.
PLAN_STEPS = 2
#: After two seconds of standing still only this share of the ticks is recorded: little new is to be seen.
_STANDING_KEEP = 0.35


@dataclass(frozen=True)
class CollectionRun:
    """What is collected: `episodes` drives of `seconds` simulated seconds in the towns of a split, into `out`.

    seed: another one gives other drives; jobs: worker processes; model: the checkpoint that drives in a DAgger round
    ('': the expert alone), and learner the share of the time that it does, 0 to 1; engine: what computes the model.
    towns: a folder of SUMO networks to drive in instead of the split's; density, people: vehicles per kilometre of lane
    and people per kilometre of road, from and to: every drive draws its own.
    """

    out: Path
    split: str = 'train'
    episodes: int = 200
    seconds: float = 90.0
    seed: int = 0
    jobs: int = 2
    model: str = ''
    learner: float = 0.7
    engine: str = PolicyParameters.engine
    towns: Path | None = None
    density: tuple[float, float] = (Scenario.density_per_km, Scenario.density_per_km)
    people: tuple[float, float] = (Scenario.people_per_km, Scenario.people_per_km)


@dataclass(frozen=True)
class Recipe:
    """How one episode is driven.  learner: share of the drive left to the model (0: expert alone), on which engine."""

    scenario: Scenario
    out: Path
    model: str = ''
    learner: float = 0.0
    seconds: float = 90.0
    engine: str = PolicyParameters.engine


class Disturbance:
    """Pushes the ego off its line now and then, so that recoveries are seen.

    A steering offset for up to a second, a sudden shift sideways with a turn, or a sudden gain of speed (so that
    it comes too fast behind a leader or to a signal); the expert's answer to it is the label.
    All drawn from the generator, so that an episode can be repeated.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._next_s = rng.uniform(1.0, 5.0)
        self._until_s, self._steering, self._acceleration = -1.0, 0.0, 0.0

    def apply(self, simulation: Simulation, command: ControlCommand) -> ControlCommand:
        """Return the disturbed command; may also shift the ego."""
        now = simulation.time_s
        if now >= self._next_s:
            self._next_s = now + self._rng.uniform(4.0, 9.0)
            if simulation.ego.speed_mps > 1.0:
                kind = self._rng.random()
                if kind < 0.4:
                    simulation.disturb(float(self._rng.normal(0.0, 0.45)), float(self._rng.normal(0.0, 0.07)))
                elif kind < 0.6:
                    simulation.disturb(speed_mps=float(self._rng.uniform(0.5, 3.5)))
                else:
                    self._until_s = now + self._rng.uniform(0.4, 1.0)
                    self._steering = float(self._rng.normal(0.0, 0.10))
                    self._acceleration = float(self._rng.normal(0.0, 0.8))
        if now < self._until_s:
            return ControlCommand(command.steering_rad + self._steering, command.acceleration_mps2 + self._acceleration)
        return command


def _tick(simulation: Simulation, tracks: TrackRecorder) -> Tick:
    pictures = simulation.pictures()
    observation = simulation.observe()
    answer = simulation.expert_answer()
    tracks.tick(pictures, answer)
    lead = answer.hazards.nearest_lead
    return Tick(
        observation,
        answer.trajectory,
        {name: view.semantic for name, view in pictures.items() if view.semantic is not None},
        {name: view.depth_m for name, view in pictures.items() if view.depth_m is not None},
        red_light_distance_m=answer.red_light_m,
        lead_gap_m=lead.gap_m if lead else float('inf'),
        lead_speed_mps=lead.speed_mps if lead else float('inf'),
        hazard=Hazard(int(answer.cause)),
    )


def town_name(scenario: Scenario) -> str:
    """Return the name of a drive's town, of a file without its folder and endings."""
    return Path(scenario.town).name.partition('.')[0]


def collect_episode(recipe: Recipe, policy: Policy | None = None) -> dict[str, Any]:
    """Drive one episode, save it and return its summary.  policy: the learner of a DAgger round."""
    scenario = recipe.scenario
    rng = np.random.default_rng(scenario.seed + 77)
    with Simulation(scenario) as simulation:
        expert, controller = simulation.expert(), TrajectoryController()
        disturbance = Disturbance(rng)
        writer = EpisodeWriter(recipe.out, simulation.rig, town=town_name(scenario), seed=scenario.seed)
        tracks = TrackRecorder(simulation)
        if policy is not None:
            policy.reset()
        learner_drives = policy is not None and rng.random() < recipe.learner
        switch_s = rng.uniform(3.0, 10.0)
        steps, standing = 0, 0
        plan = None
        while not simulation.done and simulation.time_s < recipe.seconds:
            tracks.step()
            if steps % TICK_STEPS == 0:
                still = simulation.ego.speed_mps < 0.05
                standing = standing + 1 if still else 0
                if standing < 4 or rng.random() < _STANDING_KEEP:
                    writer.append(_tick(simulation, tracks))
            if policy is not None and steps % TICK_STEPS == 0 and simulation.time_s > switch_s:
                learner_drives = bool(rng.random() < recipe.learner)
                switch_s = simulation.time_s + rng.uniform(3.0, 10.0)
            if learner_drives and policy is not None:
                if steps % TICK_STEPS == 0:
                    plan = policy.plan(simulation.observe())
            elif steps % PLAN_STEPS == 0:
                plan = expert.plan(simulation.observe_blind())
            command = controller.command(plan, simulation.ego, simulation.time_s)
            simulation.step(command if learner_drives else disturbance.apply(simulation, command))
            steps += 1
        result = simulation.result()
        if len(writer):
            writer.save(tracks.members())
    return {
        'file': recipe.out.name, 'town': town_name(scenario), 'seed': scenario.seed, 'ticks': len(writer),
        'simulated_s': round(steps * STEP_S, 1), 'ended_by': result.ended_by, 'completion': result.route_completion,
        'engine': asdict(NO_ENGINE if policy is None else policy.engine),
    }  # fmt: skip


def _work(recipes: list[Recipe], counter: Any) -> None:
    """Drive a list of episodes in this process, one after the other, while the process that started it lives."""
    end_with_starter()
    policy: Policy | None = None
    if recipes and recipes[0].model:
        from vla_driver.policies.loading import load_policy

        policy = load_policy(recipes[0].model, engine=recipes[0].engine, threads=1)
    for recipe in recipes:
        if not recipe.out.exists():
            summary = collect_episode(recipe, policy)
            with counter.get_lock():
                counter.value += summary['ticks']
                with (recipe.out.parent / 'collected.jsonl').open('a', encoding='utf-8') as stream:
                    stream.write(json.dumps(summary) + '\n')


def collect(run: CollectionRun) -> int:
    """Drive the episodes that are not there yet, showing progress; return how many ticks were added.

    Raises `InvalidInput` for the test towns, for a share out of range, and where a process failed.
    """
    if run.split == 'test':
        raise InvalidInput('--split test: nothing is trained on the test towns; allowed: train, val')
    if not 0.0 <= run.learner <= 1.0:
        raise InvalidInput(f'--learner {run.learner}: expected a share between 0 and 1')
    learner = run.learner if run.model else 0.0
    drives = scenarios(run.split, run.episodes, run.seed, length_m=400.0, networks=run.towns)
    recipes = [
        Recipe(s, run.out / f'{town_name(s)}_{s.seed}.npz', run.model, learner, run.seconds, run.engine)
        for s in with_traffic(drives, run.density, run.people)
    ]
    context = multiprocessing.get_context('spawn')
    counter = context.Value('q', 0)
    workers = [
        context.Process(target=_work, args=(recipes[k :: run.jobs], counter), daemon=True) for k in range(run.jobs)
    ]
    started = time.monotonic()
    # One thread for the arithmetic of each, torch's as well, which takes it from here.
    with environment_variables(share_cores(run.jobs)):
        for worker in workers:
            worker.start()
    with tqdm(total=len(recipes), unit='episode') as bar:
        while any(worker.is_alive() for worker in workers):
            time.sleep(1.0)
            bar.n = sum(recipe.out.exists() for recipe in recipes)
            bar.set_postfix(ticks=counter.value, per_s=f'{counter.value / (time.monotonic() - started):.1f}')
    failed = [worker.exitcode for worker in workers if worker.exitcode]
    if failed:
        raise InvalidInput(f'{len(failed)} of {len(workers)} workers failed (exit codes {failed}); see above')
    return int(counter.value)
