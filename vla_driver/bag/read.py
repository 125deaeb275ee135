# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Read drives from bags, without a ROS installation, as the planner node would see them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from rosbags.interfaces import Connection

from vla_driver.bag import schema
from vla_driver.bag.ground_truth import agents_of, road_boundary_of, trajectory_of_path
from vla_driver.bag.inventory import policies_for
from vla_driver.bag.mounted import first_infos, first_messages, rig_of_frames
from vla_driver.bag.storage.bagfiles import BagFiles
from vla_driver.bag.storage.notes import warn_once
from vla_driver.bag.topics import (
    OPTIONS,
    OTHER_INPUTS,
    InputTopics,
    Naming,
    describe,
    find_inputs,
    require_inputs,
    transform_topics,
)
from vla_driver.bag.track import OdometryTrack
from vla_driver.geometry.frames import BASE_FRAMES, FrameTree, frame_name
from vla_driver.geometry.rig import rig_from_yaml
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.calibration import Calibrator, CameraCalibration, shows_rectified
from vla_driver.observation.decode import decode_labels
from vla_driver.observation.messages import read_route, stamp_seconds
from vla_driver.observation.odometry import NO_MOUNT, OdometryReader, lever_of
from vla_driver.observation.ready import NotReady, ReadySet
from vla_driver.observation.reasons import beside, in_words
from vla_driver.observation.sync import CameraSync
from vla_driver.settings.nodes.planner import PlannerParameters
from vla_driver.sim.world.scene import Actor
from vla_driver.types import (
    ANCHOR_CAMERA,
    CAMERA_NAMES,
    CameraRig,
    EgoState,
    FloatArray,
    InputNeeds,
    InvalidInput,
    Observation,
    Trajectory,
)

#: So many messages of /tf are looked at for joints that are fixed all the same.
_TF_MESSAGES: Final = 300
#: A route that was logged so soon was there before; a later one came in mid-drive.
_LATCHED_NS: Final = 1_000_000_000


class BagReader:
    """A context manager over one bag: a folder, or a single .mcap, .db3 or ROS 1 .bag file (`storage.bagfiles`).

    A recording that was cut off or damaged is read as far as it goes; `unread` says how far.

    topics: camera name, 'odom', 'route' or 'turn_command' -> topic, where the names in the bag are not found by
    themselves (`bag.topics`).  rig: calibration and mounting of the cameras; by default the one in the bag, else that
    of its tf tree and camera_info.  rectified: the pictures are, also those whose topics are not called so.  naming:
    how errors say that a topic can be named.  say: is told once what of the bag is not read; by default it is a
    warning on stderr.

    Raises InvalidInput for what is not a bag, and for a bag without camera topics (listing those it has).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        topics: Mapping[str, str] | None = None,
        rig: CameraRig | None = None,
        rectified: bool = False,
        naming: Naming = OPTIONS,
        say: Callable[[str], None] = warn_once,
    ) -> None:
        self._path, self._given, self._naming = Path(path), dict(topics or {}), naming
        self._rig, self._rectified = rig, rectified
        self._mounted: dict[str, tuple[str, str]] = {}  # see `Calibrator`
        self._say = say
        self._files: BagFiles | None = None
        self._skipped: list[NotReady] = []
        self._assembler: ObservationAssembler | None = None  # of the latest `ready_sets`
        self._rejected: dict[str, int] = {}
        self._frames: FrameTree | None = None
        self._odometry_refused = ''  # why the latest odometry could not be used

    def __enter__(self) -> BagReader:
        self._files = BagFiles(self._path, schema.typestore(), self._say)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        files, self._files = self._files, None
        if files is not None:
            files.close()

    @property
    def _open(self) -> BagFiles:
        if self._files is None:
            raise InvalidInput(f'bag {self._path} is not open: use `with BagReader(...) as bag`')
        return self._files

    @property
    def path(self) -> Path:
        """Where the bag lies."""
        return self._path

    @property
    def topics(self) -> dict[str, str]:
        """Topic name -> type of everything in the bag that can be read."""
        return self._open.topics

    @property
    def connections(self) -> Sequence[Connection]:
        """The topics with type, definition, quality of service offered when recorded, and count of messages."""
        return list(self._open.connections)

    def definition(self, connection: Connection) -> tuple[str, str]:
        """Return the definition of a topic's type and its hash (RIHS01): of the messages as `raw_messages` has them.

        What the bag holds may be another one: ROS 1 counts messages in the header, and has no hashes.
        """
        if connection.digest and connection.msgdef.data:
            return connection.msgdef.data, connection.digest
        store = self._open.definitions.store(connection)
        return store.generate_msgdef(connection.msgtype, ros_version=2)[0], store.hash_rihs01(connection.msgtype)

    @property
    def unread(self) -> tuple[str, ...]:
        """What of the bag is not read, and how far it goes, in sentences; more may come while it is read."""
        return tuple(self._open.notes)

    @property
    def start_ns(self) -> int:
        """Log time of the first message, 0 for an empty bag."""
        return self._open.start_ns

    @property
    def duration_s(self) -> float:
        """From the first message to the last, 0 for an empty bag."""
        return (self._open.end_ns - self._open.start_ns) * 1e-9

    @property
    def skipped(self) -> Sequence[NotReady]:
        """The sets of the last `observations` that gave none, and why."""
        return tuple(self._skipped)

    @property
    def rejected(self) -> Mapping[str, int]:
        """Input -> messages of the last `observations` that could not be used (NaN odometry, broken pictures)."""
        found = dict(self._rejected)
        if self._assembler is not None:
            found |= self._assembler.rejected
        return found

    @property
    def standing(self) -> tuple[str, ...]:
        """What was missing at the end of the latest `ready_sets`, each input by name."""
        return self._assembler.problems() if self._assembler is not None else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the latest `ready_sets` has used in place of what the bag holds, in words."""
        return self._assembler.notes if self._assembler is not None else ()

    def rig(self) -> CameraRig:
        """Return the rig given, else the one in the bag's metadata, else what its tf tree and camera_info tell.

        Raises InvalidInput when there is none, or only a part of it.
        """
        if self._rig is not None:
            return self._rig
        text = self._open.custom.get(schema.RIG_KEY)
        if text is not None:
            self._rig = rig_from_yaml(text, f'bag {self._path}: rig')
        elif self.frames():
            inputs = self._find(CAMERA_NAMES, self._given)
            self._rig, self._mounted = rig_of_frames(self, inputs, self._rectified_cameras(inputs))
        else:
            raise InvalidInput(
                f'bag {self._path} does not say where its cameras are mounted (it has no /tf_static); give a rig: '
                f'{self._naming.rig}, a YAML file or one of the shipped ones (sim, nuscenes, bench2drive)'
            )
        return self._rig

    def _rectified_cameras(self, inputs: InputTopics) -> list[str]:
        return [camera for camera, topic in inputs.cameras.items() if self._rectified or shows_rectified(topic)]

    @property
    def rectified(self) -> bool:
        """Whether all pictures were said to be rectified."""
        return self._rectified

    @property
    def calibration(self) -> Mapping[str, CameraCalibration]:
        """Camera -> what it is used with: as of the last set read, before any by the first camera_info of each."""
        if self._assembler is not None:
            return self._assembler.calibration
        inputs = self.inputs()
        known = Calibrator(self.rig(), self._rectified_cameras(inputs), self._mounted)
        for camera, message in first_infos(self, inputs).items():
            known.take_info(camera, message)
        return {camera: known.cameras[camera] for camera in inputs.cameras}

    def frames(self) -> FrameTree:
        """Return the frames that /tf_static tells, and those that stand still in the first messages on /tf."""
        if self._frames is None:
            self._frames = FrameTree()
            for topics, static in transform_topics(self.topics):
                most = None if static else _TF_MESSAGES
                for _, _, message in itertools.islice(self.messages(topics), most):
                    self._frames.add_message(message, static=static)
        return self._frames

    def inputs(self) -> InputTopics:
        """Return which topic is which input of the driver."""
        try:
            cameras = self.rig().names
        except InvalidInput:
            # A bag without camera topics is of no use: that is said first, the missing rig afterwards.
            cameras = CAMERA_NAMES
        return self._find(cameras, self._given)

    def _find(self, cameras: Sequence[str], given: Mapping[str, str]) -> InputTopics:
        silent = self.silent
        filled = {topic: kind for topic, kind in self.topics.items() if topic not in silent}
        return find_inputs(filled, cameras, given, self._naming, silent=silent)

    @property
    def silent(self) -> dict[str, str]:
        """Topic -> type of those that were recorded without a message; never taken for an input unless given."""
        counts: Counter[str] = Counter()
        for connection in self.connections:
            counts[connection.topic] += connection.msgcount
        given = set(self._given.values())
        return {t: kind for t, kind in self.topics.items() if counts[t] == 0 and t in counts and t not in given}

    def require_inputs(self, policies: Mapping[str, str]) -> None:
        """Raise InvalidInput unless the bag has what a planner cannot do without; policies: of missing cameras."""
        require_inputs(self.inputs(), self.topics, f'bag {self._path}', policies, self._naming)

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[tuple[str, int, Any]]:
        """Yield (topic, log time in nanoseconds, message) by log time, of some topics or of all.

        A message that cannot be deserialised is left out, which `unread` says.  Raises InvalidInput for a topic whose
        type neither the bag nor we define.
        """
        files = self._open
        for connection, logged_ns, data in self.raw_messages(topics):
            message = files.deserialize(connection, data)
            if message is not None:
                yield connection.topic, logged_ns, message

    def raw_messages(self, topics: Sequence[str] | None = None) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield (connection, log time in nanoseconds, CDR bytes) by log time."""
        files = self._open
        if topics is not None:
            absent = sorted(set(topics) - set(self.topics))
            if absent:
                reasons = ''.join(
                    f'; {topic}: {files.unreadable[topic]}' for topic in absent if topic in files.unreadable
                )
                raise InvalidInput(
                    f'the bag has no topic {", ".join(absent)}; it has: {describe(self.topics)}{reasons}'
                )
        yield from files.messages(topics)

    def ready_sets(
        self,
        *,
        policies: Mapping[str, str] | None = None,
        needs: InputNeeds | None = None,
        max_skew_s: float = PlannerParameters.max_skew_s,
        camera_time_offset_s: float = PlannerParameters.camera_time_offset_s,
        on_odometry: Callable[[EgoState], None] | None = None,
        on_agents: Callable[[float, list[Actor]], None] | None = None,
    ) -> Iterator[ReadySet]:
        """Yield what the planner node would plan from, tick by tick: the same synchroniser, the same assembling.

        policies: camera -> 'require', 'skip' or 'black' when it has no frame; cameras the bag does not have are
        skipped unless a policy says otherwise.  needs: see ObservationAssembler.  on_odometry, on_agents: are told what
        `odometry` and `agents` yield when the reading comes to it, so that a long bag need not be read twice.

        A bag without turn commands is read as "follow the road".  Raises InvalidInput for a bag without front camera,
        odometry or route.
        """
        inputs = self.inputs()
        rig = self.rig()
        chosen = policies_for(inputs, policies or {})
        self.require_inputs(chosen)
        assembler = ObservationAssembler(
            rig,
            CameraSync(rig.names, policies=chosen, max_skew_s=max_skew_s),
            needs=needs,
            turn_command_required=inputs.turn_command is not None,
            camera_time_offset_s=camera_time_offset_s,
            rectified=self._rectified_cameras(inputs),
            mounted=self._mounted,
            use_tf=False,  # the rig has been made of it already, where none was given
            frames=self.frames(),
        )
        self._assembler = assembler
        yield from self._assemble(assembler, inputs, on_odometry, on_agents)

    def observations(
        self,
        *,
        policies: Mapping[str, str] | None = None,
        needs: InputNeeds | None = None,
        max_skew_s: float = PlannerParameters.max_skew_s,
        camera_time_offset_s: float = PlannerParameters.camera_time_offset_s,
    ) -> Iterator[Observation]:
        """Yield the observations of `ready_sets`.

        Ticks that give none are in `skipped` afterwards; when none gives one, InvalidInput says why.
        """
        self._skipped = []
        count = 0
        for ready in self.ready_sets(
            policies=policies, needs=needs, max_skew_s=max_skew_s, camera_time_offset_s=camera_time_offset_s
        ):
            built = ready.observe()
            if isinstance(built, NotReady):
                self._skipped.append(built)
            else:
                count += 1
                yield built
        if count == 0:
            raise self.no_observation(problem for skipped in self._skipped for problem in skipped.problems)

    def lost(self) -> dict[str, int]:
        """Return why front pictures of the last `ready_sets` became no set, in words, and how many did not."""
        return {} if self._assembler is None else self._assembler.sync.lost()

    def no_observation(self, problems: Iterable[str]) -> InvalidInput:
        """Return the error for a bag none of whose sets gave an observation; problems: of the sets, in order."""
        counts = Counter(problems)
        counts.update(self.lost())
        counts.update(beside(counts, self.standing))
        return InvalidInput(
            f'bag {self._path} gives no observation: '
            + (in_words(counts, 8) or f'no pictures on {self.inputs().cameras[ANCHOR_CAMERA]}')
        )

    def _assemble(
        self,
        assembler: ObservationAssembler,
        inputs: InputTopics,
        on_odometry: Callable[[EgoState], None] | None,
        on_agents: Callable[[float, list[Actor]], None] | None,
    ) -> Iterator[ReadySet]:
        cameras = {topic: camera for camera, topic in inputs.cameras.items()}
        infos = {topic: camera for camera, topic in inputs.infos.items()}
        others = (inputs.odometry, inputs.turn_command, inputs.route)
        wanted = [topic for topic in (*cameras, *infos, *others) if topic is not None]
        if on_agents is not None and schema.AGENTS_TOPIC in self.topics:
            wanted.append(schema.AGENTS_TOPIC)
        # A latched route reaches a node before everything else, though the recorder may hear of it a moment later.
        if inputs.route is not None:
            for _, logged_ns, message in self.messages([inputs.route]):
                if logged_ns - self._open.start_ns <= _LATCHED_NS:
                    assembler.push_route(message)
                break
        for topic, logged_ns, message in self.messages(wanted):
            # When it was logged is when it came: what is late waits, and is given up, as in a node that hears the bag.
            now_s = logged_ns * 1e-9
            while (ready := assembler.take(now_s)) is not None:
                yield ready
            if topic == schema.AGENTS_TOPIC and on_agents is not None:
                on_agents(*agents_of(message, logged_ns))
            elif topic in cameras:
                assembler.push_image(cameras[topic], message, now_s)
            elif topic in infos:
                assembler.push_camera_info(infos[topic], message)
            elif topic == inputs.odometry:
                state = assembler.push_odometry(message, now_s)
                if state is not None and on_odometry is not None:
                    on_odometry(state)
            elif topic == inputs.turn_command:
                assembler.push_turn_command(message, now_s)
            else:
                assembler.push_route(message)
            while (ready := assembler.take(now_s)) is not None:
                yield ready
        assembler.flush()
        while (ready := assembler.take()) is not None:
            yield ready

    def odometry(self) -> Iterator[EgoState]:
        """Yield the odometry that can be used (NaN is counted in `rejected`)."""
        topic = self.inputs_without_cameras().odometry
        if topic is None:
            raise InvalidInput(f'no odometry (nav_msgs/Odometry) in the bag; it has: {describe(self.topics)}')
        self._rejected.pop('odometry', None)
        reader = OdometryReader(lever_of(NO_MOUNT, self.frames()))
        for _, _, message in self.messages([topic]):
            try:
                yield reader.read(message)
            except InvalidInput as error:
                self._rejected['odometry'] = self._rejected.get('odometry', 0) + 1
                self._odometry_refused = str(error)

    def odometry_mount(self) -> tuple[float, float, float]:
        """Return where the tf tree has the odometry's frame in base_link: x [m], y [m], yaw [rad]; zeros without."""
        topic = self.inputs_without_cameras().odometry
        message = None if topic is None else first_messages(self, [topic]).get(topic)
        frame = frame_name(getattr(message, 'child_frame_id', ''))
        told = None if not frame or frame in BASE_FRAMES else lever_of(NO_MOUNT, self.frames())(frame)
        return told or NO_MOUNT

    def inputs_without_cameras(self) -> InputTopics:
        """Return odometry, route and turn command alone: works for any bag that has odometry."""
        return self._find((), {k: v for k, v in self._given.items() if k in OTHER_INPUTS})

    def track(self) -> OdometryTrack:
        """Return where the vehicle went."""
        states = list(self.odometry())
        if not states:
            topic, count = self.inputs_without_cameras().odometry, self._rejected.get('odometry', 0)
            words = f'{count} messages, all of them refused: {self._odometry_refused}' if count else 'no message'
            raise InvalidInput(f'bag {self._path}: no odometry that can be used: {topic} has {words}')
        return OdometryTrack(states)

    def route(self) -> FloatArray | None:
        """Return the first route's points [N, 2] in the odometry frame, None when the bag has none."""
        topic = self.inputs_without_cameras().route
        if topic is not None:
            for _, _, message in self.messages([topic]):
                return read_route(message)
        return None

    def agents(self) -> Iterator[tuple[float, list[Actor]]]:
        """Yield (stamp, other road users in the odometry frame); nothing when the bag has no ground truth."""
        if schema.AGENTS_TOPIC not in self.topics:
            return
        for _, logged_ns, message in self.messages([schema.AGENTS_TOPIC]):
            yield agents_of(message, logged_ns)

    def road_boundary(self) -> tuple[FloatArray, ...]:
        """Return the lines [N, 2] where the road ends, in the odometry frame: the last that the bag tells, () without.

        Raises InvalidInput for points that are not finite.
        """
        last = None
        if schema.ROAD_BOUNDARY_TOPIC in self.topics:
            for _, _, message in self.messages([schema.ROAD_BOUNDARY_TOPIC]):
                last = message
        return () if last is None else road_boundary_of(last)

    def expert_trajectories(self) -> Iterator[tuple[float, Trajectory]]:
        """Yield (t0, what the expert would drive), speeds and controls from the positions' differences."""
        if schema.EXPERT_TOPIC not in self.topics:
            return
        for _, _, message in self.messages([schema.EXPERT_TOPIC]):
            yield stamp_seconds(message), trajectory_of_path(message)

    def semantic(self, camera: str) -> Iterator[tuple[float, Any]]:
        """Yield (stamp, class ids [H, W]) of a camera; nothing when the bag has none."""
        topic = schema.semantic_topic(camera).name
        if topic not in self.topics:
            return
        for _, _, message in self.messages([topic]):
            yield stamp_seconds(message), decode_labels(message.data)
