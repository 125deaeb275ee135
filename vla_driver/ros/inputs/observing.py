# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What planner and reasoner share: cameras, odometry and a route in, sets of pictures out to one worker thread.

Callbacks only hand messages to the assembler.  A set that is complete goes through a mailbox of one letter to the
worker; while it is busy, newer sets replace each other, so that it never works on old pictures.
"""

from __future__ import annotations

import abc
import json
import threading
import time
import traceback
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, TypeVar

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from std_msgs.msg import String

from vla_driver.msg import TurnCommand as TurnCommandMessage
from vla_driver.observation.assemble import ObservationAssembler
from vla_driver.observation.notes import Notes
from vla_driver.observation.ready import ReadySet
from vla_driver.observation.sync import CameraSync
from vla_driver.ros.base.lifecycle import DriverNode
from vla_driver.ros.base.mailbox import Mailbox
from vla_driver.ros.base.own_thread import give_up
from vla_driver.ros.base.repeats import Repeats
from vla_driver.ros.base.waiting import WaitingLog, describe_inputs
from vla_driver.ros.inputs.calibration_topics import CalibrationTopics, rectified_cameras
from vla_driver.ros.inputs.image_topics import ImageTopics
from vla_driver.ros.inputs.map_reader import MapReader
from vla_driver.ros.wire import carla, qos
from vla_driver.ros.wire.diagnostics import Level, Status
from vla_driver.settings.inputs import TRANSPORTS, InputParameters, missing_policies
from vla_driver.settings.per_camera import per_camera
from vla_driver.types import CameraRig, InputNeeds, InvalidInput

P = TypeVar('P', bound=InputParameters)
#: What turns are made of, in words.
_TURNS: Final = {
    'turn command': 'the turn command',
    'global plan': 'the global plan',
    'map': 'the junctions of the map',
    'bends': 'the bends of the route: no junction is announced where it goes straight on',
}


class ObservingNode(DriverNode[P], abc.ABC):
    """A node that looks: a subclass calls `observe` in its `setup` and fills the hooks at the end."""

    #: Whether pictures are decoded as they come, so that a tick finds them ready.
    decodes_ahead = True

    def __init__(self, name: str, **node_arguments: Any) -> None:
        self._sets = 0
        self._turns_from = ''
        self._mailbox: Mailbox[ReadySet] = Mailbox()
        self._pumping = threading.Lock()
        self._info_epoch = 0
        self._late: Timer | None = None  # runs while something waits for an input that is late
        self._worker: threading.Thread | None = None
        self._repeats = Repeats()
        self._last_answer: tuple[int, float] | None = None  # epoch and stamp of the set answered last
        self._told_epoch: int | None = None  # whose beginning has been said already
        self._inputs: dict[str, list[Subscription]] = {}
        super().__init__(name, **node_arguments)

    # What a subclass calls.

    def observe(self, rig: CameraRig, needs: InputNeeds) -> None:
        """Make what turns messages into sets of pictures: as the parameters say, for somebody with such needs."""
        p = self.parameters
        sync = CameraSync(
            rig.names,
            max_skew_s=p.max_skew_s,
            wait_s=p.wait_s,
            policies=missing_policies(p.missing_cameras, rig.names),
        )
        self._assembler = ObservationAssembler(
            rig,
            sync,
            needs=needs,
            turn_command_required=p.turn_command_required,
            rectified=p.rectified or rectified_cameras(self, rig.names),
            use_tf=p.use_tf,
            camera_time_offset_s=p.camera_time_offset_s,
            odometry_mount=p.odometry_mount,
            turns_from_route=p.turns_from_route,
        )
        self._started_before = False
        self._maps = MapReader(self._assembler.push_junctions, self._tell_map)
        self._calibration = CalibrationTopics(self, self._assembler, infos=p.use_camera_info)
        transports = per_camera(p.image_transport, rig.names, TRANSPORTS, 'parameter image_transport')
        self._images = ImageTopics(self, rig.names, transports, self._on_image, needs.image_sizes)

    def now_s(self, ready: ReadySet, began_s: float) -> float:
        """Return the present time by the clock of the images' stamps.

        It is moved on from theirs by what has passed since they were published, by this machine's steady clock.  With
        use_sim_time by /clock: a world that waits for its driver, or plays in slow motion, makes nothing stale.
        """
        if self.get_parameter('use_sim_time').value:
            clock_s = self.get_clock().now().nanoseconds * 1e-9
            if clock_s > 0.0:  # until the first /clock it is 0
                return float(clock_s)
        sent_s = began_s if ready.arrival_s is None else ready.arrival_s
        return ready.stamp_s + time.monotonic() - sent_s

    def tell_jump(self, ready: ReadySet) -> None:
        """Say that time has jumped back, unless it was said when the clock did."""
        self.resets = ready.epoch
        if ready.epoch == self._told_epoch or self._last_answer is None:
            return
        _, before_s = self._last_answer
        if elsewhere := self._assembler.elsewhere:
            self.warn(f'reset: {elsewhere}: where the vehicle was is forgotten, and the route starts over')
        elif ready.stamp_s < before_s:
            self.get_logger().warning(f'reset: time jumped back from {before_s:.3f} s to {ready.stamp_s:.3f} s')
        else:
            self.get_logger().warning(
                f'reset: the stamps of a camera or of the odometry jumped back, before the pictures of '
                f'{ready.stamp_s:.3f} s'
            )

    def warn(self, text: str) -> None:
        """Log a warning, the same one seldom."""
        if (told := self._repeats.say(text)) is not None:
            self.get_logger().warning(told)

    # A life.

    def start(self) -> None:
        """Start the worker, then subscribe."""
        self._mailbox = Mailbox()
        if self._started_before:
            self._assembler.begin_again()
            self._told_epoch = self._assembler.epoch
        self._started_before = True
        if self.decodes_ahead:
            self._assembler.ahead.start()
        name = f'{self.get_name()}-worker'
        self._worker = threading.Thread(target=self.work, args=(self._mailbox,), name=name, daemon=True)
        self._worker.start()
        push_route = self._assembler.push_route
        self._inputs = {
            'odometry': [self.listen(Odometry, 'odom', self._on_odometry, qos.STATE_SUBSCRIPTION)],
            # A route is latched, or published again and again without that; the same route twice is one.
            'route': [
                self.listen(Path, 'route', push_route, qos.LATCHED, strict=False),
                self.listen(Path, 'route', push_route, qos.STATE_SUBSCRIPTION),
            ],
            'turn command': [
                self.listen(TurnCommandMessage, 'turn_command', self._on_turn_command, qos.STATE_SUBSCRIPTION)
            ],
        }
        # Not named among what is waited for: most have none.
        self.listen(PoseStamped, 'goal', self._assembler.push_goal, qos.STATE_SUBSCRIPTION)
        if self.parameters.turns_from_route:
            self.listen(String, 'opendrive_map', self._on_map, qos.LATCHED)
            if (plan_type := carla.found_type('CarlaRoute')) is not None:
                self.listen(plan_type, 'global_plan', self._assembler.push_global_plan, qos.LATCHED)
        self._info_epoch = self._assembler.epoch
        self._calibration.start()
        self._images.start()
        self._notes = Notes()
        self.every(1.0, self._say_notes)
        # Sets that wait for a late input must leave in time although no message comes.
        self._late = self.every(0.01, self._pump)
        self._waiting = WaitingLog(partial(describe_inputs, self))
        self.every(0.5, self._look_for_inputs)

    def stop(self) -> None:
        """Let the worker finish what it is at."""
        with self._pumping:
            self._late = None  # the node removes it
        self._images.stop()
        self._calibration.stop()
        self._mailbox.close()
        if self._worker is not None:
            # Whoever is told to stop does not wait for an answer that takes long.
            self._worker.join(timeout=1.0 if self.exit_requested.is_set() else 10.0)
            if self._worker.is_alive():
                give_up(self._worker)
            self._worker = None
        self._assembler.ahead.stop(timeout_s=1.0)

    def reset(self, reason: str) -> None:
        """Forget what lies before the jump; the worker notices by the assembler's epoch."""
        del reason
        self._assembler.reset()
        self._told_epoch = self._assembler.epoch
        if (old := self._mailbox.clear()) is not None:
            self._assembler.ahead.let_go(old.synced)

    # Callbacks: hand over, never wait.

    def _on_image(self, camera: str, message: Any, sent_s: float) -> None:
        """Take a picture; raw ones come in a thread of their own."""
        self._assembler.push_image(camera, message, sent_s)
        with self._pumping:
            self._move_sets(time.monotonic())

    def _on_odometry(self, message: Odometry) -> None:
        now = time.monotonic()
        self._assembler.push_odometry(message, now)
        self._pump(now)

    def _on_turn_command(self, message: TurnCommandMessage) -> None:
        now = time.monotonic()
        self._assembler.push_turn_command(message, now)
        self._pump(now)

    def _on_map(self, message: String) -> None:
        self._maps.put(message.data)

    def _tell_map(self, error: Exception) -> None:
        """Say why a map cannot be read."""
        if isinstance(error, InvalidInput):
            self.warn(f'refused: {error}')
        else:
            self.on_defect(error)

    def _pump(self, now: float | None = None) -> None:
        """Move complete sets to the worker's mailbox, and look whether time has jumped."""
        with self._pumping:
            self._move_sets(time.monotonic() if now is None else now)
        if self._late is not None and self._assembler.epoch != self._info_epoch:
            self._info_epoch = self._assembler.epoch
            self._calibration.listen_again()

    def _move_sets(self, now: float) -> None:
        """Move complete sets, oldest first; held by one thread at a time, or a newer one could be overtaken."""
        while (ready := self._assembler.take(now)) is not None:
            self._sets += 1
            self._assembler.ahead.hold(ready.synced)
            if (replaced := self._mailbox.put(ready)) is not None:
                self._assembler.ahead.let_go(replaced.synced)
        if self._late is None:
            return  # stopped while this message was under way
        waiting = self._assembler.waiting
        if waiting and self._late.is_canceled():
            self._late.reset()
        elif not waiting and not self._late.is_canceled():
            self._late.cancel()

    def _say_notes(self) -> None:
        """Say once what is used in place of what was sent."""
        for note in self._notes.new(self._assembler.notes):
            self.get_logger().warning(note)
        made_of = self._assembler.turns_from
        if made_of and made_of != self._turns_from:
            self._turns_from = made_of
            self.get_logger().info(f'turns: by {_TURNS[made_of]}')

    # The worker's thread.

    def work(self, mailbox: Mailbox[ReadySet]) -> None:
        """Answer sets as they come, until the mailbox is closed."""
        while (ready := mailbox.take()) is not None:
            self.work_on(ready)

    def work_on(self, ready: ReadySet) -> None:
        """Answer one set; whatever goes wrong, the worker lives on."""
        try:
            with self._assembler.ahead.tick(ready.synced):
                self.answer(ready)
        except Exception as error:  # a defect must not silence the node for good
            self.on_failure(error)
            self.on_defect(error)

    def on_defect(self, error: Exception) -> None:
        """Log a defect, the same one seldom."""
        if (told := self._repeats.say(''.join(traceback.format_exception(error)))) is not None:
            self.get_logger().error(f'{self.activity} failed by a defect of this program or its libraries:\n{told}')

    # Waiting for inputs.

    def _look_for_inputs(self) -> None:
        """Say what is waited for, or that all is there."""
        problems = list(self._assembler.problems(time.monotonic(), self.parameters.stale_s))
        going = self.going()
        if not problems and not going:
            problems = [self.missing_answer()]
        cameras = {f'camera {name}': self._images.subscriptions(name) for name in self._assembler.rig.names}
        told = self._waiting.look(problems, {**cameras, **self._inputs}, going)
        if told is not None and told[0]:
            self.get_logger().warning(told[1])
        elif told is not None:  # on a line of its own: rclpy refuses another severity from the same one
            self.get_logger().info(told[1])

    def report(self) -> Iterable[Status]:
        """Name every missing input, and how each camera is."""
        now, p = time.monotonic(), self.parameters
        cameras = self._assembler.sync.status(now, p.stale_s).cameras
        problems = self._assembler.problems(now, p.stale_s)
        refused, calibration = self._assembler.rejected, self._assembler.calibration
        yield Status(
            'inputs',
            Level.ERROR if problems else Level.OK,
            f'missing: {"; ".join(problems)}' if problems else 'all inputs fresh',
            {
                'problems': json.dumps(problems),
                'turns_from': self._assembler.turns_from,
                'turn_command_age_s': self._assembler.turn_command_age_s(now),
                'notes': json.dumps(self._assembler.notes),
                'publishers': json.dumps(self.publishers_heard()),
                **{f'refused {name}': count for name, count in refused.items()},
            },
        )
        for name, camera in cameras.items():
            yield Status(
                f'camera {name}',
                Level.ERROR if camera.problem else Level.WARN if calibration[name].warnings else Level.OK,
                camera.problem or '; '.join(calibration[name].warnings) or 'fresh',
                {
                    'rate_hz': self._images.rate_hz(name),
                    'age_s': camera.age_s,
                    'frames': camera.frames,
                    'transport': self._images.transport(name),
                    'refused': refused.get(f'camera {name}', 0),
                    'calibration': calibration[name].describe(),
                },
            )

    # What a subclass says.

    #: What the worker does, for logs.
    activity = 'answering'

    @abc.abstractmethod
    def answer(self, ready: ReadySet) -> None:
        """Answer one set of pictures, in the worker's thread."""

    def on_failure(self, error: Exception) -> None:
        """Count an answer that a defect prevented."""

    @abc.abstractmethod
    def going(self) -> bool:
        """Whether answers are being published."""

    @abc.abstractmethod
    def missing_answer(self) -> str:
        """Return in words what is waited for, where all inputs are there and no answer is."""
