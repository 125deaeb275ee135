# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""From messages to observations: one class for the planner node, the bag reader and the offline core.

Messages go in with `push_*` (cheap: nobody waits for a decoder), sets of matching inputs come out of `take`, and the
set's `observe` decodes what `ahead` has not yet; a node calls that in its worker thread, for the newest set only.

For a set at t0 (the anchor image's stamp):
  ego       the newest odometry at or before t0, moved to t0 by its own speed and yaw rate
  command   the newest turn command at or before t0; its distance shrinks by the way driven since its stamp, or since
            it came where its stamp lies ahead of all pictures and odometry
  targets   the next two points of the route (a dense one is thinned first), seen from the ego
Over DDS odometry may overtake images or the other way round, so a set waits (`wait_s` at most) for odometry
and commands that are due by their own rhythm.  What is chosen depends on stamps alone: a replay of the same
messages gives the same observations.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vla_driver.geometry.distortion import Lens
from vla_driver.geometry.frames import FrameTree
from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.observation.ahead import DecodeAhead
from vla_driver.observation.calibration import Calibrator, CameraCalibration
from vla_driver.observation.clocks import ClockOffset
from vla_driver.observation.decode import PictureDecoder
from vla_driver.observation.driven import WayDriven
from vla_driver.observation.elsewhere import jumped_m
from vla_driver.observation.history import History
from vla_driver.observation.messages import (
    ego_at,
    frame_of,
    frame_problem,
    read_turn_command,
    stamp_problem,
    stamp_seconds,
)
from vla_driver.observation.odometry import CHANGE_MPS2, NO_MOUNT, OdometryReader, lever_of
from vla_driver.observation.problems import RHYTHM, InputState, Refusals, name_problems
from vla_driver.observation.ready import NotReady, ReadySet
from vla_driver.observation.sync import CameraSync, SyncedSet
from vla_driver.observation.way_ahead import WayAhead
from vla_driver.types import (
    ANCHOR_CAMERA,
    CameraFrame,
    CameraRig,
    EgoState,
    InputNeeds,
    InvalidInput,
    Observation,
    TurnCommand,
)

#: Odometry older than this at t0 does not count.
ODOMETRY_REACH_S = 0.2
#: How far back, and how closely, an observation tells where the ego has been.
TRAIL_S: Final = 3.5
_TRAIL_SPACING_S: Final = 0.1
#: A turn command stamped farther ahead of pictures and odometry comes from another clock.
_COMMAND_LEAD_S: Final = 0.5
#: A pose this much farther away than a vehicle drives has been set anew (a respawn, a localisation that was lost).
_ELSEWHERE_M: Final = 10.0
#: Odometry of so many seconds at 200 Hz.
_ODOMETRY_SIZE: Final = round(200 * (TRAIL_S + 1.0))
_MAX_READY = 8


@dataclass
class _Held:
    synced: SyncedSet
    since_s: float | None


class ObservationAssembler:
    """Gathers one vehicle's inputs; safe to call from several threads.

    rig: the cameras to match.  needs: what the policy looks at, for scaled decoding and for the ego's trail; None:
    everything as it comes.
    sync: with its own policies for missing cameras; by default all are required.  turn_command_required: if not,
    TurnCommand.FOLLOW at 0 m stands in until a command arrives.  rectified, mounted, use_tf, lenses: see `Calibrator`.
    turns_from_route: until then it is made of what is known of the way (`WayAhead`).
    camera_time_offset_s: added to the pictures' stamps, where their clock is known to differ from the odometry's by so
    much.  odometry_mount, frames: where the odometry's frame is in base_link, in numbers or by a tf tree (`lever_of`).

    Messages that cannot be read are dropped, counted in `rejected` and named by `problems`; nothing raises, so
    that one bad message neither kills a callback nor passes in silence.
    """

    def __init__(
        self,
        rig: CameraRig,
        sync: CameraSync | None = None,
        *,
        needs: InputNeeds | None = None,
        turn_command_required: bool = True,
        rectified: bool | Collection[str] = False,
        mounted: Mapping[str, tuple[str, str]] | None = None,
        use_tf: bool = True,
        camera_time_offset_s: float = 0.0,
        odometry_mount: Sequence[float] = NO_MOUNT,
        frames: FrameTree | None = None,
        lenses: Mapping[str, Lens] | None = None,
        turns_from_route: bool = False,
    ) -> None:
        self._calibrator = Calibrator(rig, rectified, mounted, use_tf, lenses)
        self._sync = sync if sync is not None else CameraSync(rig.names)
        if set(self._sync.names) != set(rig.names):
            raise InvalidInput(
                f'the synchroniser has cameras {", ".join(self._sync.names)}, the rig {rig.name} has '
                f'{", ".join(rig.names)}: both must name the same'
            )
        self._at_least = {} if needs is None else dict(needs.image_sizes)
        self._trail_s = TRAIL_S if needs is None else min(needs.trail_s, TRAIL_S)
        self._command_required = turn_command_required and not turns_from_route
        self._way = WayAhead(turns_from_route)
        self._pictures = PictureDecoder()
        self._ahead = DecodeAhead(self._pictures, self._at_least, self._calibrator.seen_with, self._sync.anchor)
        self._offset_s = camera_time_offset_s
        self._offset_ns = round(camera_time_offset_s * 1e9)
        self._clocks = ClockOffset(ODOMETRY_REACH_S, camera_time_offset_s)
        lever = lever_of(odometry_mount, frames or FrameTree(), self._calibrator.frames)
        self._odometry_reader = OdometryReader(lever)
        self._odometry: History[EgoState] = History(_ODOMETRY_SIZE)
        self._commands: History[tuple[TurnCommand, float]] = History()
        self._command_arrivals_s: deque[float] = deque(maxlen=RHYTHM)
        self._command_came_s = -math.inf  # the newest odometry's stamp when the last command came
        self._command_lead_s = 0.0  # how far ahead that was stamped; 0.0 where its clock agrees
        self._driven = WayDriven()
        self._odometry_frame = ''
        self._held: _Held | None = None
        self._ready: deque[ReadySet] = deque(maxlen=_MAX_READY)
        self._epoch = 0
        self._elsewhere = ''  # how the pose has jumped, where the epoch began with that
        self._newest_s = -math.inf  # stamp of the newest image or odometry
        self._refused = Refusals()
        self._odometry_arrival_s: float | None = None
        self._lock = threading.RLock()

    @property
    def sync(self) -> CameraSync:
        """The camera synchroniser, for its status."""
        return self._sync

    @property
    def rig(self) -> CameraRig:
        """The rig with the calibration received so far."""
        return self._calibrator.rig

    @property
    def calibration(self) -> Mapping[str, CameraCalibration]:
        """Camera -> what it is used with, and why not with what its camera_info says."""
        return self._calibrator.cameras

    @property
    def frames(self) -> FrameTree:
        """The frames that `push_transforms` was told of."""
        return self._calibrator.frames

    @property
    def ahead(self) -> DecodeAhead:
        """What decodes the pictures; `start` it, and it does so on arrival."""
        return self._ahead

    @property
    def epoch(self) -> int:
        """How often time has jumped back, or the vehicle has come to be elsewhere."""
        return self._epoch

    @property
    def elsewhere(self) -> str:
        """How the pose has jumped, in words, where the present epoch began with that; '' where time jumped."""
        return self._elsewhere

    @property
    def odometry_frame(self) -> str:
        """The frame that the newest odometry is in; '' before the first, and where nobody fills it in."""
        return self._odometry_frame

    @property
    def rejected(self) -> Mapping[str, int]:
        """Input name -> messages that could not be used."""
        with self._lock:
            return self._refused.counts

    def push_image(self, camera: str, message: Any, now_s: float | None = None) -> None:
        """Add a picture of `camera`, in any message that `decode` reads; now_s: arrival by any steady clock."""
        with self._lock:
            stamp_s = stamp_seconds(message)
            if not self._stamped(f'camera {camera}', stamp_s):
                return
            if not self._pictures.push(camera, message):
                return
            stamp_s += self._offset_s
            if camera == ANCHOR_CAMERA:
                self._clocks.compare(stamp_s, self._odometry.newest_s)
            self._calibrator.take_frame(camera, message)
            resets = self._sync.resets
            synced = self._sync.push(camera, stamp_s, message, now_s)
            if self._sync.resets != resets:
                self._time_jumped_to(stamp_s)
            self._ahead.arrived(camera, stamp_s, message)
            self._hold(synced, now_s)

    def push_camera_info(self, camera: str, message: Any) -> bool:
        """Take size and intrinsics of `camera` from a sensor_msgs/CameraInfo; `calibration` says what became of it.

        Returns whether it could be used.  Where not, what was in use before stays.
        """
        with self._lock:
            if self._calibrator.take_info(camera, message):
                return True
            # Counted, but no problem by name: pictures are planned from with what was in use before.
            self._refused.refuse(f'camera_info {camera}', '')
            self._refused.accept(f'camera_info {camera}')
            return False

    def push_transforms(self, message: Any) -> bool:
        """Take where cameras are mounted from a tf2_msgs/TFMessage of /tf_static; return whether any was moved."""
        with self._lock:
            return self._calibrator.take_transforms(message)

    def push_odometry(self, message: Any, now_s: float | None = None) -> EgoState | None:
        """Add a nav_msgs/Odometry; return what it says, None where it cannot be used."""
        with self._lock:
            try:
                ego = self._odometry_reader.read(message)
            except InvalidInput as error:
                self._refused.refuse('odometry', str(error))
                return None
            if not self._stamped('odometry', ego.stamp_s):
                return None
            self._refused.accept('odometry')
            self._calibrator.take_vehicle_frame(getattr(message, 'child_frame_id', ''))
            self._odometry_arrival_s, self._odometry_frame = now_s, frame_of(message)
            if ego.stamp_s < self._odometry.newest_s - self._sync.jump_s:
                self._sync.rewind(ego.stamp_s)
                self._time_jumped_to(ego.stamp_s)
            elif moved := self._moved_away(ego):
                self._begin_elsewhere(moved)
            self._odometry.add(ego.stamp_s, ego)
            return ego

    def _moved_away(self, ego: EgoState) -> str:
        """Return in words how a pose lies where no vehicle has driven to since the one before; '' where it does not."""
        found = self._odometry.at(self._odometry.newest_s)
        if found is None or ego.stamp_s <= found[0]:
            return ''
        moved_m = jumped_m(found[1], ego, CHANGE_MPS2, _ELSEWHERE_M)
        within_s = ego.stamp_s - found[0]
        return f'the pose jumped by {moved_m:.1f} m within {within_s:.2f} s, at {ego.stamp_s:.3f} s' if moved_m else ''

    def _begin_elsewhere(self, moved: str) -> None:
        """Forget where the vehicle was: the way there leads nowhere, and the route starts over."""
        self._odometry.forget_after(-math.inf)
        self._way.reset()
        self._ready.clear()
        self._epoch += 1
        self._elsewhere = moved

    @property
    def turns_from(self) -> str:
        """What turns are made of at present: 'turn command', 'global plan', 'map' or 'bends'; '' before the first."""
        with self._lock:
            return 'turn command' if len(self._commands) else self._way.turns_from

    def push_route(self, message: Any) -> None:
        """Take a nav_msgs/Path; the same route again does not start it over.

        A dense line is thinned to sparse target points.  A path without poses withdraws the route, as CARLA's bridge
        and others mean it when a goal is reached or given up: then there is no plan until another one comes.
        """
        self._push_way('route', lambda: self._way.take_route(message))

    def push_goal(self, message: Any) -> None:
        """Take a geometry_msgs/PoseStamped: a route of this one point, in place of the one before."""
        self._push_way('goal', lambda: self._way.take_goal(message, self._odometry_frame))

    def push_global_plan(self, message: Any) -> None:
        """Take a carla_msgs/CarlaRoute: what to do at which junctions, and a route while there is no other."""
        self._push_way('global plan', lambda: self._way.take_plan(message))

    def push_junctions(self, junctions: JunctionMap) -> None:
        """Take where junctions are, in the route's frame: a global plan, if there is one, counts more."""
        with self._lock:
            self._way.know(junctions)

    def _push_way(self, name: str, take: Callable[[], bool]) -> None:
        with self._lock:
            try:
                routed = take()
            except InvalidInput as error:
                self._refused.refuse(name, str(error))
                return
            self._refused.accept(name)
            if routed:
                self._refused.accept('route')

    def push_turn_command(self, message: Any, now_s: float | None = None) -> None:
        """Add a vla_driver/TurnCommand; now_s: arrival by any steady clock."""
        with self._lock:
            try:
                stamp_s, self._command_came_s = stamp_seconds(message), self._odometry.newest_s
                self._commands.add(stamp_s, read_turn_command(message))
                if stamp_s <= self._command_came_s + _COMMAND_LEAD_S:
                    self._command_lead_s = 0.0
                if now_s is not None:
                    self._command_arrivals_s.append(now_s)
                self._refused.accept('turn command')
            except InvalidInput as error:
                self._refused.refuse('turn command', str(error))

    def take(self, now_s: float | None = None) -> ReadySet | None:
        """Return the next set, oldest first, or None.  Call it after every push, and now and then in between."""
        with self._lock:
            if now_s is not None:
                self._hold(self._sync.poll(now_s), now_s)
            if self._held is not None and not self._must_wait(self._held, now_s):
                self._release()
            return self._ready.popleft() if self._ready else None

    @property
    def waiting(self) -> bool:
        """Whether anything is held back for a late input, and `take` should be called even if no message comes."""
        with self._lock:
            return self._held is not None or bool(self._ready) or self._sync.waiting

    def flush(self) -> None:
        """Let everything out that waits for more (at the end of a bag); `take` then returns it."""
        with self._lock:
            self._hold(self._sync.flush(), None)
            self._release()

    def reset(self) -> None:
        """Forget images, odometry and commands, and start the route over (the clock was set)."""
        with self._lock:
            self._sync.reset()
            self._time_jumped_to(-math.inf)

    def begin_again(self) -> None:
        """Forget what was said, the route as well: whoever begins to listen again does not know what has changed."""
        with self._lock:
            self._sync.reset()
            self._time_jumped_to(-math.inf)
            self._way.forget()

    def _time_jumped_to(self, stamp_s: float) -> None:
        limit_s = stamp_s + self._sync.max_skew_s
        self._newest_s = min(self._newest_s, stamp_s)
        self._pictures.rewind(limit_s - self._offset_s)  # whose stamps are the messages' own
        self._ahead.rewound(limit_s)
        self._odometry.forget_after(limit_s)
        self._commands.forget_after(limit_s)
        self._command_arrivals_s.clear()
        self._driven.reset()
        self._odometry_reader.reset()
        self._clocks.reset()
        self._way.reset()
        self._held = None
        self._ready.clear()
        self._epoch += 1
        self._elsewhere = ''

    def _hold(self, synced: SyncedSet | None, now_s: float | None) -> None:
        if synced is not None:
            self._release()  # the one before has waited for a whole frame
            self._held = _Held(synced, now_s)

    def _must_wait(self, held: _Held, now_s: float | None) -> bool:
        if now_s is not None and held.since_s is not None and now_s - held.since_s >= self._sync.wait_s:
            return False
        stamp_s = held.synced.stamp_s
        # Inputs that have never come are reported at once; holding the images would not bring them.
        return any(len(history) > 0 and history.is_due(stamp_s) for history in (self._odometry, self._commands))

    def _release(self) -> None:
        if self._held is None:
            return
        synced, self._held = self._held.synced, None
        problems = []
        found = self._odometry.at(synced.stamp_s, ODOMETRY_REACH_S, ODOMETRY_REACH_S)
        ego = None if found is None else ego_at(found[1], synced.stamp_s)
        if ego is None:
            problems.append(self._odometry_problem(synced.stamp_s))
        elif self._clocks.problem:
            problems.append(self._clocks.problem)
        if ego is not None:
            self._bring_commands_back(ego.stamp_s)
        command = self._commands.at(synced.stamp_s)
        if command is None and ego is not None and (turn := self._way.next_turn(ego)) is not None:
            command = (synced.stamp_s, turn)
        if command is None and not self._command_required:
            command = (synced.stamp_s, (TurnCommand.FOLLOW, 0.0))
        if command is None:
            problems.append('turn command: none received')
        frames = frame_problem(self._way.frame, self._odometry_frame)
        if self._way.problem:
            problems.append(f'{self._way.problem} (publish a nav_msgs/Path of sparse target points, latched)')
        elif frames:
            problems.append(frames)
        navigation = None
        if ego is not None and command is not None and not frames:
            order, distance_m = command[1]
            # Told once, or long ago: the junction has come nearer since, as in every tick a policy was trained with.
            distance_m = max(0.0, distance_m - self._driven.metres(command[0], ego, self._odometry))
            navigation = self._way.navigation(ego, order, distance_m)
        trail = self._odometry.before(synced.stamp_s, self._trail_s, _TRAIL_SPACING_S) if self._trail_s else ()
        rig, lenses = self._calibrator.rig, self._calibrator.lenses
        words, offset_ns = tuple(problems), self._offset_ns
        self._ready.append(
            ReadySet(synced, rig, ego, navigation, words, self._epoch, self, trail, offset_ns=offset_ns, lenses=lenses)
        )

    def _bring_commands_back(self, stamp_s: float) -> None:
        """Let a turn command whose clock runs ahead count from when it came: its own time may never be reached."""
        came_s = self._command_came_s if math.isfinite(self._command_came_s) else stamp_s
        present_s = max(stamp_s, self._odometry.newest_s)
        if lead_s := self._commands.bring_back(present_s + _COMMAND_LEAD_S, came_s):
            self._command_lead_s = lead_s

    def _odometry_problem(self, stamp_s: float) -> str:
        if not len(self._odometry):
            refused = self._refused.reasons.get('odometry')
            return f'odometry: none that can be used: {refused[1]}' if refused else 'odometry: none received'
        if self._clocks.problem:
            return self._clocks.problem
        return (
            f'odometry: none within {ODOMETRY_REACH_S} s of the images at {stamp_s:.3f} s '
            f'(newest: {self._odometry.newest_s:.3f} s)'
        )

    def build(self, ready: ReadySet) -> Observation | NotReady:
        """Decode a set.  Touches none of the histories, so that it may run beside the callbacks.

        A camera whose picture cannot be used counts as missing: by its policy the set goes on without it, with
        a black picture, or not at all.  Black pictures are not named in `Observation.missing` (there is one),
        but are `blank`.
        """
        problems = list(ready.problems)
        frames: dict[str, CameraFrame] = {}
        absent = dict.fromkeys(ready.synced.missing, 'no frame')
        seen_with = {name: (ready.rig[name], ready.lenses.get(name)) for name in ready.synced.frames}
        for name, image in self._ahead.pictures(ready.synced.frames, seen_with).items():
            with self._lock:
                if isinstance(image, InvalidInput):
                    self._refused.refuse(f'camera {name}', str(image))
                    absent[name] = str(image)
                else:
                    self._refused.accept(f'camera {name}')
                    frames[name] = CameraFrame(name, ready.synced.frames[name].stamp_s, image)
        missing = []
        for name, why in absent.items():
            policy = self._sync.policy(name)
            if policy == 'require':
                problems.append(f'camera {name}: {why}')
            elif policy == 'black':
                width, height = self._at_least.get(name, (ready.rig[name].width, ready.rig[name].height))
                frames[name] = CameraFrame(name, ready.stamp_s, np.zeros((height, width, 3), np.uint8), blank=True)
            else:
                missing.append(name)
        if problems or ready.ego is None or ready.navigation is None:
            return NotReady(ready.stamp_s, tuple(problems))
        return Observation(ready.stamp_s, frames, ready.rig, ready.ego, ready.navigation, tuple(missing), ready.trail)

    def problems(self, now_s: float | None = None, stale_s: float = 0.5) -> tuple[str, ...]:
        """Return what is missing now, each input by name, and why its last message was refused, if it was."""
        with self._lock:
            return name_problems(
                InputState(
                    cameras=self._sync.status(now_s, stale_s).cameras,
                    odometry_received=len(self._odometry) > 0,
                    odometry_arrival_s=self._odometry_arrival_s,
                    no_route=self._way.problem,
                    frames=frame_problem(self._way.frame, self._odometry_frame),
                    clocks=self._clocks.problem,
                    command_missing=self._command_required and not len(self._commands),
                    command_arrivals_s=tuple(self._command_arrivals_s),
                    refused=self._refused.reasons,
                ),
                now_s,
                stale_s,
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is used in place of what was sent, in words; for whoever drives to be told of once."""
        with self._lock:
            odometry = self._odometry_reader.note
            said = [f'odometry: {odometry}' if odometry else '', self._clocks.note]
            if self._command_lead_s:
                said.append(
                    f'turn command: stamped {self._command_lead_s:.1f} s ahead of the pictures: do the clocks agree? '
                    '(use_sim_time); it counts from when it came'
                )
            calibrated = [
                f'camera {name}: {note}' for name, used in self._calibrator.cameras.items() for note in used.said
            ]
            return tuple(filter(None, [*said, *calibrated]))

    def turn_command_age_s(self, now_s: float) -> float | None:
        """Return how long ago (seconds) the last turn command came; None if none has, or its arrival was not told."""
        with self._lock:
            return now_s - self._command_arrivals_s[-1] if self._command_arrivals_s else None

    def _stamped(self, name: str, stamp_s: float) -> bool:
        """Return whether somebody filled in this stamp; reject it otherwise."""
        problem = stamp_problem(stamp_s, self._newest_s, self._sync.jump_s)
        if problem:
            self._refused.refuse(name, problem)
        else:
            self._newest_s = stamp_s
        return not problem
