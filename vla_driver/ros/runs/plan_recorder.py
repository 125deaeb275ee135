# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Listen to a planner from another process: its plans, what it says about itself, and how long it took.

Latency is measured between processes: from the moment the anchor image was handed to DDS by its sender (the
middleware's source timestamp; or the image's own stamp, where the sender stamps at publication) to the moment the
path is received here.  Both clocks are this machine's.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Set
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Path
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from vla_driver.bag.loads import ReceivedLoad
from vla_driver.bag.recording import RawMessage, ReceivedPlan, ReceivedTokens, Recording
from vla_driver.bag.schema import PICTURES
from vla_driver.msg import AgentForecasts, DrivingIntent, DrivingPlan, TokenSelection
from vla_driver.observation.messages import stamp_of
from vla_driver.observation.notes import Notes
from vla_driver.observation.reasons import ReasonCounter
from vla_driver.ros.base.lifecycle import StampWatch
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.conversions import from_driving_plan
from vla_driver.ros.wire.domain import domain_id
from vla_driver.ros.wire.expert_load import STATUS, from_load_values
from vla_driver.ros.wire.intents import from_driving_intent
from vla_driver.ros.wire.selection import from_token_selection
from vla_driver.ros.wire.transports import picture_class
from vla_driver.types import Intent, InvalidInput, VlaDriverError

#: Plans kept of a replay that loops on and on: an hour at 10 Hz,
_KEPT: Final = 36_000
#: but no more than so many bytes of them; as many of the pruner's choices, and of the messages for the bag of plans.
_KEPT_BYTES: Final = 200_000_000
#: What Python needs for an entry beside its bytes.
_ENTRY_BYTES: Final = 300
_CLASSES: Final = {
    'plan': DrivingPlan,
    'path': Path,
    'agents': AgentForecasts,
    'markers': MarkerArray,
    'tokens': TokenSelection,
    'intent': DrivingIntent,
    'reasoning': String,
}
#: What a planner's diagnostics are called, and the counters that they hold.
_PLAN_STATUS, _INPUTS_STATUS, _LOAD_STATUS = 'planner: plan', 'planner: inputs', f'planner: {STATUS}'
_COUNTERS: Final = (
    *('sets', 'policy', 'refused_by_guard', 'not_ready', 'failed', 'stale', 'overtaken_by_jump', 'replaced_by_newer'),
)


#: How often a replay has started over, and a stamp in nanoseconds, which comes again in every round.
_Key = tuple[int, int]
_Entry = TypeVar('_Entry')


class _Newest(Generic[_Entry]):
    """Keeps the newest entries, as many as are allowed and fit; `count` is of all that came."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes, self.count = most, 0, 0
        self._entries: deque[tuple[_Entry, int]] = deque()

    def add(self, entry: _Entry, size: int) -> None:
        """Add an entry that holds `size` bytes; the oldest make room for it."""
        size += _ENTRY_BYTES
        self._entries.append((entry, size))
        self._bytes += size
        self.count += 1
        while len(self._entries) > self._most or (self._bytes > _KEPT_BYTES and len(self._entries) > 1):
            self._bytes -= self._entries.popleft()[1]

    def entries(self) -> list[_Entry]:
        """Return what is kept, oldest first."""
        return [entry for entry, _ in self._entries]

    def cut(self, what: str) -> str:
        """Return how much is left of what came, in words; '' where that is all."""
        kept = len(self._entries)
        return f'the last {kept} of {self.count} {what}' if kept < self.count else ''


def _keep(times: OrderedDict[_Key, float], key: _Key, time_s: float) -> None:
    """Take note of a time; the oldest is forgotten when no plan that is kept needs it."""
    times[key] = time_s
    if len(times) > _KEPT:
        times.popitem(last=False)


class _Rounds:
    """Counts how often the stamps of one topic have jumped back."""

    def __init__(self) -> None:
        self._watch, self._round = StampWatch(), 0

    def key(self, stamp: Any, offset_ns: int = 0) -> _Key:
        self._round += self._watch.jumped_back(_seconds(stamp))
        return self._round, _nanoseconds(stamp) + offset_ns


class PlanRecorder:
    """A context manager that records in a thread of its own.

    anchor: topic and type of the anchor camera's images, for the latency; None where images are stamped at
    publication, so that the stamp itself says when they were sent.  domain: by default that of ROS_DOMAIN_ID, which
    must be a whole number from 0 to 232, or empty (InvalidInput).  camera_time_offset_s: as the planner's, which stamps
    its plans with it.
    """

    def __init__(
        self,
        anchor: tuple[str, str] | None = None,
        *,
        domain: int | None = None,
        camera_time_offset_s: float = 0.0,
    ) -> None:
        self._offset_ns = round(camera_time_offset_s * 1e9)
        self._rounds = {topic: _Rounds() for topic in ('image', 'path', 'plan')}
        self._sent_s: OrderedDict[_Key, float] = OrderedDict()
        self._images = 0
        self._paths: OrderedDict[_Key, float] = OrderedDict()
        # Serialized: as Python objects they take eight times as much.
        self._plans = _Newest[tuple[_Key, bytes, float]](_KEPT)
        self._raw = _Newest[RawMessage](4 * _KEPT)
        self._tokens = _Newest[ReceivedTokens](_KEPT)
        self._intents: deque[Intent] = deque(maxlen=_KEPT)
        self._loads: deque[ReceivedLoad] = deque(maxlen=_KEPT)
        self._diagnostics: dict[str, tuple[int, str]] = {}
        self._notes, self._said = Notes(), list[str]()
        self._values: dict[str, dict[str, str]] = {}
        self._reports = 0  # of a planner
        self._playing = True
        self._standing = ReasonCounter()
        self._lock = threading.Lock()
        self._stamped_at_publication = anchor is None
        self._anchor_matched = threading.Event()
        self._context = rclpy.Context()
        if domain is None:
            domain = domain_id(os.environ)
        rclpy.init(context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(
            f'plan_recorder_{os.getpid()}', context=self._context, use_global_arguments=False
        )
        self._subscriptions = [
            self._node.create_subscription(_CLASSES[topic], topic, handler, qos.RELIABLE, raw=True)
            for topic, handler in (
                ('plan', self._on_plan),
                ('path', self._on_path),
                ('agents', self._on_agents),
                ('markers', self._on_markers),
                ('tokens', self._on_tokens),
                ('intent', self._on_intent),
                ('reasoning', self._on_words),
            )
        ]
        self._subscriptions.append(
            self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, qos.RELIABLE)
        )
        if anchor is not None:
            topic, type_name = anchor
            self._subscriptions.append(
                self._node.create_subscription(
                    picture_class(PICTURES[type_name]),
                    topic,
                    self._on_image,
                    qos.SENSOR_SUBSCRIPTION,
                    event_callbacks=SubscriptionEventCallbacks(matched=self._on_anchor_matched),
                )
            )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name='plan-recorder', daemon=True)

    def __enter__(self) -> PlanRecorder:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; what was recorded stays."""
        if self._context.ok():
            self._executor.shutdown()
            if self._thread.is_alive():
                self._thread.join(timeout=5.0)
            self._node.destroy_node()
            rclpy.shutdown(context=self._context)

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def wait_for_planner(self, timeout_s: float = 20.0) -> None:
        """Wait until a planner's outputs are connected; raise VlaDriverError if none appears."""
        deadline = time.monotonic() + timeout_s
        while any(self._node.count_publishers(topic) == 0 for topic in ('plan', 'path')):
            if time.monotonic() > deadline:
                raise VlaDriverError(f'no planner publishes `plan` and `path` within {timeout_s:g} s')
            time.sleep(0.02)
        # Discovery is not symmetric: the planner may need a moment more to find this side.
        time.sleep(0.3)

    def start_when_heard(
        self, node: str, timeout_s: float = 20.0, *, needed: Iterable[str] = (), others: Iterable[str] = ()
    ) -> None:
        """Configure a lifecycle node that sends the anchor's images, and activate it once they would be heard.

        Heard here: a player waits for a subscriber, which may be the planner alone, and its first images would have no
        latency.  Heard by the planner: a player finds a subscriber before that finds the player, and what it sends best
        effort until then is lost.

        needed: topics of the node, by their full names, that the planner must have found publishers of; others: the
        same, of those that it listens to at all.  Raises VlaDriverError where one of these takes over timeout_s.
        """
        client = self._node.create_client(ChangeState, f'{node}/change_state')
        try:
            deadline = time.monotonic() + timeout_s
            if not client.wait_for_service(timeout_s):
                raise VlaDriverError(f'node {node} does not answer within {timeout_s:g} s')
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                if transition == Transition.TRANSITION_ACTIVATE and not self._stamped_at_publication:
                    if not self._anchor_matched.wait(max(0.1, deadline - time.monotonic())):
                        raise VlaDriverError(f'the images of {node} do not reach this process (see vla_driver doctor)')
                    time.sleep(0.3)  # the sender may find us a moment later than we found it
                if transition == Transition.TRANSITION_ACTIVATE:
                    self._wait_until_found(node, set(needed), set(others), deadline)
                request = ChangeState.Request(transition=Transition(id=transition))
                future = client.call_async(request)
                while not future.done() and time.monotonic() < deadline:
                    time.sleep(0.01)
                response = future.result() if future.done() else None
                if response is None or not response.success:
                    raise VlaDriverError(f'node {node} did not start')
        finally:
            self._node.destroy_client(client)

    def _wait_until_found(self, node: str, needed: Set[str], others: Set[str], deadline: float) -> None:
        """Wait until the planner's report counts publishers on all of these topics."""
        while True:
            with self._lock:
                told = self._values.get(_INPUTS_STATUS, {}).get('publishers', '{}')
            found: dict[str, int] = json.loads(told)
            unfound = [topic for topic in needed if not found.get(topic)]
            unfound += [topic for topic in others - needed if found.get(topic) == 0]
            if not unfound:
                return
            if time.monotonic() > deadline:
                raise VlaDriverError(
                    f'the planner does not find {sorted(unfound)} of node {node}; it listens to {sorted(found)} '
                    '(see vla_driver doctor)'
                )
            time.sleep(0.02)

    # Callbacks; they only store.

    def _on_anchor_matched(self, info: Any) -> None:
        if info.current_count > 0:
            self._anchor_matched.set()

    def _on_plan(self, data: bytes) -> None:
        now = time.time()
        stamp = deserialize_message(data, DrivingPlan).header.stamp
        with self._lock:
            self._plans.add((self._rounds['plan'].key(stamp), data, now), len(data))
            self._keep_raw('plan', _seconds(stamp), data)

    def _on_path(self, data: bytes) -> None:
        now = time.time()
        stamp = deserialize_message(data, Path).header.stamp
        with self._lock:
            _keep(self._paths, self._rounds['path'].key(stamp), now)
            self._keep_raw('path', _seconds(stamp), data)

    def _on_agents(self, data: bytes) -> None:
        stamp = deserialize_message(data, AgentForecasts).header.stamp
        with self._lock:
            self._keep_raw('agents', _seconds(stamp), data)

    def _on_markers(self, data: bytes) -> None:
        markers = deserialize_message(data, MarkerArray).markers
        if markers:
            with self._lock:
                self._keep_raw('markers', _seconds(markers[0].header.stamp), data)

    def _on_tokens(self, data: bytes) -> None:
        tokens = from_token_selection(deserialize_message(data, TokenSelection))
        with self._lock:
            self._tokens.add(tokens, sum(cells.nbytes + _ENTRY_BYTES for cells in tokens.kept.values()))
            self._keep_raw('tokens', tokens.stamp_s, data)

    def _on_intent(self, data: bytes) -> None:
        message = deserialize_message(data, DrivingIntent)
        with self._lock:
            self._intents.append(from_driving_intent(message, 1e-9 * self._offset_ns))
            self._keep_raw('intent', _seconds(message.header.stamp), data)

    def _on_words(self, data: bytes) -> None:
        with self._lock:
            if self._intents:  # words have no stamp of their own
                self._keep_raw('reasoning', self._intents[-1].stamp_s - 1e-9 * self._offset_ns, data)

    def _on_image(self, message: Any, info: Mapping[str, int]) -> None:
        with self._lock:
            key = self._rounds['image'].key(stamp_of(message), self._offset_ns)
            self._images += key not in self._sent_s
            _keep(self._sent_s, key, info['source_timestamp'] * 1e-9)

    def _keep_raw(self, topic: str, stamp_s: float, data: bytes) -> None:
        self._raw.add(RawMessage(topic, stamp_s, data), len(data))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        with self._lock:
            for status in message.status:
                self._diagnostics[status.name] = (int.from_bytes(status.level, 'little'), status.message)
                values = self._values[status.name] = {entry.key: entry.value for entry in status.values}
                self._reports += status.name == _PLAN_STATUS
                if status.name == _INPUTS_STATUS and self._playing and self._sent_s:
                    self._standing.update(json.loads(values.get('problems', '[]')))
                    self._said += self._notes.new(json.loads(values.get('notes', '[]')))
                if status.name == _LOAD_STATUS:
                    self._add_load(values)

    def _add_load(self, values: Mapping[str, str]) -> None:
        try:
            load = from_load_values(values)
        except InvalidInput as error:  # somebody else's status of this name: said, and what else comes is recorded
            self._said += self._notes.new([f'{error}'])
            return
        # A report between two ticks says the same once more.
        if not self._loads or self._loads[-1].stamp_s != load.stamp_s:
            self._loads.append(load)

    # What was recorded.

    def ended(self) -> None:
        """Take note that the bag has ended: what is missing from now on is missing because nothing is played."""
        with self._lock:
            self._playing = False

    def wait_for_report(self, timeout_s: float = 3.0) -> None:
        """Wait for a report of the planner that was made from now on: it has counted everything."""
        before = self._reports
        deadline = time.monotonic() + timeout_s
        # The first one may have been under way already.
        while self._reports < before + 2 and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def count(self) -> int:
        """Plans so far."""
        with self._lock:
            return self._plans.count

    @property
    def images(self) -> int:
        """Anchor images seen so far."""
        with self._lock:
            return self._images

    def diagnostics(self) -> dict[str, tuple[int, str]]:
        """Return the newest state of every part: name -> (level, message); level 0 is OK."""
        with self._lock:
            return dict(self._diagnostics)

    def diagnostic_values(self) -> dict[str, dict[str, str]]:
        """Return the newest figures of every part, as text: name -> key -> value."""
        with self._lock:
            return {name: dict(values) for name, values in self._values.items()}

    def recording(self) -> Recording:
        """Return what came in so far, plans in the order they came; of a replay too long to be kept, its end.

        A note says so then.
        """
        with self._lock:
            received, raw, tokens = self._plans.entries(), self._raw.entries(), self._tokens.entries()
            paths, sent, diagnostics = dict(self._paths), dict(self._sent_s), dict(self._diagnostics)
            values, standing = dict(self._values.get(_PLAN_STATUS, {})), self._standing.counts()
            notes, intents, loads = [*self._said, *self._cut()], tuple(self._intents), tuple(self._loads)
            images = self._images
        plans = []
        for key, data, plan_s in received:
            message = deserialize_message(data, DrivingPlan)
            path_s = paths.get(key, plan_s)
            sent_s = key[1] * 1e-9 if self._stamped_at_publication else sent.get(key)
            latency = None if sent_s is None else 1e3 * (path_s - sent_s)
            plans.append(ReceivedPlan(from_driving_plan(message), tuple(message.missing_cameras), path_s, latency))
        return Recording(
            plans,
            raw,
            images,
            diagnostics,
            tokens,
            sets={name: int(values[name]) for name in _COUNTERS if name in values},
            not_planned=json.loads(values.get('not_planned', '{}')),
            not_matched=json.loads(values.get('not_matched', '{}')),
            standing=standing,
            notes=notes,
            intents=intents,
            loads=loads,
        )

    def _cut(self) -> list[str]:
        """Return what to say of what is no longer kept, so that nobody takes a part for the whole."""
        kept = (
            self._plans.cut('plans'),
            self._tokens.cut('choices of tokens'),
            self._raw.cut('messages for the bag of plans'),
        )
        cuts = ', '.join(filter(None, kept))
        return [f'too much came to be kept whole; kept are {cuts}: figures and pictures are of these'] if cuts else []


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _seconds(stamp: Any) -> float:
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)
