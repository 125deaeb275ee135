# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Other road users and signals: Eclipse SUMO through libsumo (one simulation per process)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from vla_driver.sim.world import vehicle
from vla_driver.sim.world.scene import Actor, SemanticClass, SignalHead, SignalState
from vla_driver.sim.world.signals import HeadSite, head_sites
from vla_driver.sim.world.towns import prepare_sumo
from vla_driver.types import FloatArray, InvalidInput

EGO = 'ego'
#: How long a step is, unless somebody wants shorter ones.
STEP_S = 0.1
_WARM_UP_S = 25.0
_STATES = {
    'r': SignalState.RED,
    'u': SignalState.RED,
    'y': SignalState.AMBER,
    'Y': SignalState.AMBER,
    'g': SignalState.GREEN,
    'G': SignalState.GREEN,
    's': SignalState.RED,
}
#: (id, share, length, width, height, speed factor)
_TYPES = (
    ('car', 0.72, 4.5, 1.8, 1.5, 1.0),
    ('van', 0.16, 5.4, 2.0, 2.2, 0.95),
    ('truck', 0.12, 8.0, 2.4, 3.2, 0.85),
)
_WALK_M_PER_CYCLE = 1.4


def write_demand(network: Any, path: Path, seed: int, density_per_km: float, people_per_km: float) -> None:
    """Write SUMO demand: vehicles that are on the road at once and go on driving, and people who walk."""
    rng = np.random.default_rng(seed)
    edges = [edge for edge in network.getEdges(withInternal=False) if edge.getLength() > 25.0]
    roads = [edge for edge in edges if any(lane.allows('passenger') for lane in edge.getLanes())]
    walks = [edge for edge in edges if any(lane.allows('pedestrian') for lane in edge.getLanes())]
    lane_km = sum(e.getLength() * sum(lane.allows('passenger') for lane in e.getLanes()) for e in roads) / 1000.0
    road_km = sum(e.getLength() for e in roads) / 1000.0
    lines = ['<routes>']
    for name, _, length, width, height, factor in _TYPES:
        lines.append(
            f'<vType id="{name}" length="{length}" width="{width}" height="{height}" accel="2.0" decel="3.5" '
            f'sigma="0.3" speedFactor="normc({factor},0.08,0.7,1.15)" minGap="2.2"/>'
        )
    lines.append(f'<vType id="{EGO}" length="{vehicle.LENGTH_M}" width="{vehicle.WIDTH_M}" accel="2.0" decel="4.0"/>')
    shares = np.array([entry[1] for entry in _TYPES])
    lengths = np.array([e.getLength() for e in roads])
    entries: list[tuple[float, str]] = []

    def vehicles(count: int, begin: float, end: float) -> None:
        for _ in range(count):
            kind = _TYPES[rng.choice(len(_TYPES), p=shares / shares.sum())][0]
            start, goal = (roads[k] for k in rng.choice(len(roads), 2, p=lengths / lengths.sum()))
            at = float(rng.uniform(begin, end))
            entries.append(
                (
                    at,
                    f'<trip id="{kind}{len(entries)}" type="{kind}" depart="{at:.2f}" from={quoteattr(start.getID())} '
                    f'to={quoteattr(goal.getID())} departLane="random" departPos="random_free" departSpeed="max"/>',
                )
            )

    def people(count: int, begin: float, end: float) -> None:
        for _ in range(count):
            start, goal = (walks[k] for k in rng.integers(len(walks), size=2))
            at = float(rng.uniform(begin, end))
            where = rng.uniform(0.0, start.getLength())
            entries.append(
                (
                    at,
                    f'<person id="person{len(entries)}" depart="{at:.2f}" departPos="{where:.1f}">'
                    f'<walk from={quoteattr(start.getID())} to={quoteattr(goal.getID())}/></person>',
                )
            )

    fleet = round(lane_km * density_per_km)
    vehicles(fleet, 0.0, 8.0)
    vehicles(fleet, 20.0, 240.0)
    if walks:
        crowd = round(road_km * people_per_km)
        people(crowd, 0.0, 8.0)
        people(crowd, 20.0, 240.0)
    lines += [text for _, text in sorted(entries)]
    lines.append('</routes>')
    path.write_text('\n'.join(lines), encoding='utf-8')


class Traffic:
    """One SUMO run.  Only one may be open in a process; `close` frees it."""

    _open: Traffic | None = None

    def __init__(
        self,
        network: Any,
        network_path: Path,
        seed: int,
        density_per_km: float,
        people_per_km: float,
        routes: Sequence[Path] = (),
        step_s: float = STEP_S,
    ) -> None:
        if Traffic._open is not None:
            raise InvalidInput('one SUMO simulation per process: close the open one, or use another process')
        if abs(1e3 * step_s - round(1e3 * step_s)) > 1e-6:
            raise InvalidInput(f'step of {step_s:g} s: SUMO steps by whole milliseconds, as 0.05 or 0.1 s')
        prepare_sumo()
        import libsumo

        self._sumo: Any = libsumo
        self._step_s = step_s
        self._folder = tempfile.TemporaryDirectory(prefix='vla_driver_')
        demand = Path(self._folder.name) / 'demand.rou.xml'
        write_demand(network, demand, seed, 0.0 if routes else density_per_km, 0.0 if routes else people_per_km)
        for extra in routes:
            if not Path(extra).is_file():
                raise InvalidInput(f'route file {extra} does not exist; expected a SUMO .rou.xml')
        files = ','.join(str(path) for path in (demand, *routes))
        # A vehicle that cannot go on (SUMO's own deadlocks) is moved away after a minute, longer than any red light.
        command = [
            'sumo', '-n', str(network_path), '-r', files, '--step-length', f'{step_s:g}', '--seed', str(seed + 1),
            '--collision.action', 'none', '--no-warnings', '--no-step-log', '--ignore-route-errors',
            '--time-to-teleport', '60', '--pedestrian.model', 'striping',
        ]  # fmt: skip
        try:
            self._sumo.start(command)
        except Exception as error:
            self._folder.cleanup()
            raise InvalidInput(f'SUMO could not start on {network_path}: {error}') from error
        Traffic._open = self
        self._ids: dict[str, int] = {}
        self._near: set[str] = set()
        self._walked_m: dict[str, float] = {}
        self._sites: list[HeadSite] = head_sites(network)
        for _ in range(round(_WARM_UP_S / step_s)):
            self._sumo.simulationStep()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the run."""
        if Traffic._open is self:
            self._sumo.close()
            Traffic._open = None
            self._folder.cleanup()

    @property
    def time_s(self) -> float:
        """SUMO's own time."""
        return float(self._sumo.simulation.getTime())

    def place_ego(self, edges: Sequence[str], pose: FloatArray, clear_m: float = 16.0) -> None:
        """Put the ego on the road and clear the vehicles around its start."""
        centre = pose[:2] + vehicle.CENTRE_M * np.array([np.cos(pose[2]), np.sin(pose[2])])
        for name in self._sumo.vehicle.getIDList():
            if np.hypot(*(np.array(self._sumo.vehicle.getPosition(name)) - centre)) < clear_m:
                self._sumo.vehicle.remove(name)
        self._sumo.route.add('ego_route', list(edges))
        self._sumo.vehicle.add(EGO, 'ego_route', typeID=EGO, departPos='base', departSpeed='0')
        self._sumo.vehicle.setSpeedMode(EGO, 0)
        self._sumo.vehicle.setLaneChangeMode(EGO, 0)
        self._move(pose)
        self._sumo.simulationStep()

    def _move(self, pose: FloatArray) -> None:
        front_x = pose[0] + vehicle.FRONT_M * np.cos(pose[2])
        front_y = pose[1] + vehicle.FRONT_M * np.sin(pose[2])
        angle = float(90.0 - np.degrees(pose[2]))
        self._sumo.vehicle.moveToXY(EGO, '', -1, float(front_x), float(front_y), angle=angle, keepRoute=2)

    def step(self, ego_pose: FloatArray, ego_speed_mps: float) -> None:
        """Tell SUMO where the ego is now and advance everybody else by one step."""
        if EGO in self._sumo.vehicle.getIDList():
            self._move(ego_pose)
            self._sumo.vehicle.setPreviousSpeed(EGO, float(ego_speed_mps))
        self._sumo.simulationStep()

    def _number(self, name: str) -> int:
        return self._ids.setdefault(name, len(self._ids) % 65535 + 1)

    def actors(self, centre_m: FloatArray, radius_m: float = 90.0) -> list[Actor]:
        """Return the road users within `radius_m` of a point, the ego left out."""
        found: list[Actor] = []
        self._near = set()
        api = self._sumo.vehicle
        for name in api.getIDList():
            if name == EGO:
                continue
            x, y = api.getPosition(name)
            if (x - centre_m[0]) ** 2 + (y - centre_m[1]) ** 2 > radius_m**2:
                continue
            yaw = float(np.radians(90.0 - api.getAngle(name)))
            length, width, height = api.getLength(name), api.getWidth(name), api.getHeight(name)
            # SUMO's position is the front bumper.
            x, y = x - 0.5 * length * np.cos(yaw), y - 0.5 * length * np.sin(yaw)
            self._near.add(name)
            kind = SemanticClass.TRUCK if length > 6.5 else SemanticClass.CAR
            found.append(
                Actor(self._number(name), kind, x, y, yaw, length, width, height, max(0.0, api.getSpeed(name)))
            )
        walkers = self._sumo.person
        for name in walkers.getIDList():
            x, y = walkers.getPosition(name)
            if (x - centre_m[0]) ** 2 + (y - centre_m[1]) ** 2 > radius_m**2:
                continue
            yaw = float(np.radians(90.0 - walkers.getAngle(name)))
            speed = walkers.getSpeed(name)
            walked = self._walked_m[name] = self._walked_m.get(name, 0.0) + speed * self._step_s
            phase = float(2.0 * np.pi * walked / _WALK_M_PER_CYCLE % (2.0 * np.pi))
            number = self._number(name)
            height = 1.55 + 0.3 * ((number * 7919) % 100) / 100.0
            found.append(Actor(number, SemanticClass.PEDESTRIAN, x, y, yaw, 0.5, 0.5, height, speed, phase))
        return found

    def travel_limits(self) -> dict[int, float]:
        """Return actor id -> how far a vehicle may go before it must stop at a red signal of its own."""
        limits: dict[int, float] = {}
        for name, number in self._ids.items():
            if name.startswith('person') or name not in self._near:
                continue
            ahead = self._sumo.vehicle.getNextTLS(name)
            if ahead and ahead[0][3] in 'ryu':
                limits[number] = max(0.0, float(ahead[0][2]))
        return limits

    def signal(self, light: str, link: int) -> SignalState:
        """Return what the light shows to one of its links."""
        state = self._sumo.trafficlight.getRedYellowGreenState(light)
        return _STATES.get(state[link], SignalState.OFF) if 0 <= link < len(state) else SignalState.OFF

    def heads(self, centre_m: FloatArray, radius_m: float = 120.0) -> list[SignalHead]:
        """Return the signal heads within `radius_m` with what they show now."""
        found: list[SignalHead] = []
        states: dict[str, str] = {}
        for site in self._sites:
            if (site.x_m - centre_m[0]) ** 2 + (site.y_m - centre_m[1]) ** 2 > radius_m**2:
                continue
            if site.light not in states:
                states[site.light] = self._sumo.trafficlight.getRedYellowGreenState(site.light)
            state = states[site.light]
            shown = _STATES.get(state[site.link], SignalState.OFF) if site.link < len(state) else SignalState.OFF
            found.append(SignalHead(site.x_m, site.y_m, site.z_m, site.yaw_rad, shown))
        return found
