# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The one base class of the package's nodes.  How a node's process runs is in `process.py`.

What a lifecycle node has to get right once: failures are loud (rclpy swallows exceptions raised in
transition callbacks), teardown copes with a half-finished setup, time that jumps back resets what is
remembered, and `/diagnostics` says what is wrong even when nothing could be configured.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockChange, ClockType, JumpHandle, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, qos_policy_name_from_kind
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from vla_driver.ros.base import parameters as ros_parameters
from vla_driver.ros.base.own_thread import Stopped
from vla_driver.ros.base.waiting import describe_inputs
from vla_driver.ros.wire.diagnostics import DiagnosticsPublisher, Level, Status
from vla_driver.settings.shared import NodeParameters
from vla_driver.types import VlaDriverError

#: A stamp this much earlier than the newest one is a jump (a looped bag), not two messages that overtook each other.
BACKWARD_JUMP_S = 0.5


P = TypeVar('P', bound=NodeParameters)


class StampWatch:
    """Notices that stamps jumped back, as they do when a bag starts over."""

    def __init__(self, tolerance_s: float = BACKWARD_JUMP_S) -> None:
        self._tolerance_s = tolerance_s
        self._newest_s: float | None = None

    def jumped_back(self, stamp_s: float) -> bool:
        """Take note of a stamp; return whether it lies before the newest one by more than the tolerance."""
        if self._newest_s is not None and stamp_s < self._newest_s - self._tolerance_s:
            self._newest_s = stamp_s
            return True
        if self._newest_s is None or stamp_s > self._newest_s:
            self._newest_s = stamp_s
        return False

    def clear(self) -> None:
        """Forget the newest stamp."""
        self._newest_s = None


class DriverNode(LifecycleNode, Generic[P]):
    """Lifecycle node with checked parameters, diagnostics and clock-jump reset.

    A subclass gives `parameter_table` and fills the hooks; it never overrides the `on_*` callbacks.
    """

    parameter_table: ClassVar[type[NodeParameters]] = NodeParameters

    # Since Kilted the context destroys, as it ends, nodes whose making has failed.
    _set_up = False
    _started = False
    _jump_handle: JumpHandle | None = None

    def __init__(self, name: str, **node_arguments: Any) -> None:
        super().__init__(name, **node_arguments)
        self.parameters: P = ros_parameters.declare(self, self.parameter_table)  # type: ignore[assignment]
        self.configured = False
        self.active = False
        self.failure = ''
        self.exit_status = 0
        #: Set it to end the process (from any thread); `run` shares it.
        self.exit_requested = threading.Event()
        self.resets = 0
        self._publishers_made: list[Publisher] = []
        self._listeners: dict[Subscription, str] = {}  # -> topic
        self._steady_timers: list[Timer] = []
        self.add_pre_set_parameters_callback(partial(ros_parameters.known, self))
        self.add_on_set_parameters_callback(self._judge_parameters)
        self.add_post_set_parameters_callback(self._take_parameters)
        self._diagnostics_period_s = self.parameters.diagnostics_period_s
        self.diagnostics = DiagnosticsPublisher(self, self._statuses, self._diagnostics_period_s)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._clock_jumped,
        )

    # What `setup` and `start` make with these goes away by itself, after `teardown` and `stop`.

    def advertise(self, message_type: type, topic: str, profile: QoSProfile) -> Publisher:
        """Return a publisher that sends while the node is active and lives until teardown."""
        publisher = self.create_lifecycle_publisher(message_type, topic, profile)
        self._publishers_made.append(publisher)
        return publisher

    def listen(
        self,
        message_type: type,
        topic: str,
        callback: Callable[..., None],
        profile: QoSProfile,
        *,
        strict: bool = True,
        group: CallbackGroup | None = None,
    ) -> Subscription:
        """Subscribe until the node stops; a callback of two arguments also gets the message's info.

        strict: a publisher that cannot be received for its quality of service is warned of; not where another
        subscription takes what this one cannot.  group: rclpy's callback group, where it is not the node's own.
        """

        def warn(event: QoSRequestedIncompatibleQoSInfo) -> None:
            self._warn_of_quality(subscription, event)

        events = SubscriptionEventCallbacks(incompatible_qos=warn if strict else lambda _: None)
        subscription = self.create_subscription(
            message_type, topic, callback, profile, callback_group=group, event_callbacks=events
        )
        self._listeners[subscription] = subscription.topic_name
        return subscription

    def _warn_of_quality(self, subscription: Subscription, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        hint = ''
        if policy.startswith('INVALID'):  # Fast DDS' word for a data representation that it does not read
            hint = ': its type is declared appendable (XCDR2); declare it final in that program'
        about = describe_inputs(self, {subscription.topic_name: [subscription]})[subscription.topic_name]
        self.get_logger().warning(f'a publisher on {subscription.topic_name} does not fit ({policy}){hint}; {about}')

    def silence(self, subscription: Subscription) -> None:
        """Give up one subscription early."""
        if self._listeners.pop(subscription, None) is not None:
            self.destroy_subscription(subscription)

    def publishers_heard(self) -> dict[str, int]:
        """Return how many publishers there are on each topic that is listened to, as far as discovered here."""
        return {topic: self.count_publishers(topic) for topic in tuple(self._listeners.values())}

    def every(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """Call back until the node stops, on the steady clock: a simulated clock may stand still."""
        timer = self.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._steady_timers.append(timer)
        return timer

    # Hooks, in the order of a life.  Raising in `setup` or `start` makes the transition fail, loudly.

    def setup(self) -> None:
        """Load, allocate, create publishers (inactive -> configured)."""

    def start(self) -> None:
        """Subscribe, start threads (configured -> active)."""

    def stop(self) -> None:
        """Undo `start`, whatever part of it was done; the last word may still be published."""

    def teardown(self) -> None:
        """Undo `setup`, whatever part of it was done."""

    def reset(self, reason: str) -> None:
        """Forget everything that belongs to the time before a jump."""

    def report(self) -> Iterable[Status]:
        """Return what `/diagnostics` shows besides the state of the node."""
        return ()

    def parameters_wanted(self, wanted: P) -> None:
        """Raise to refuse live changes, already checked against the table, with the reason.

        What can fail (loading a file) is best done here; nothing else will refuse them after that.
        """

    def parameters_changed(self) -> None:
        """Take `self.parameters`, some live ones of which have just changed."""

    # Transitions.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and set up; a failure leaves the node unconfigured, saying why."""
        del state

        def configure() -> None:
            self.parameters = ros_parameters.read(self, self.parameter_table)  # type: ignore[assignment]
            self._report_every(self.parameters.diagnostics_period_s)
            self._set_up = True
            self.setup()
            self.configured = True

        return self._transition('configure', configure, undo=self._teardown)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then start."""
        super().on_activate(state)

        def activate() -> None:
            self._started = True
            self.start()
            self.active = True

        def undo() -> None:
            self._stop()
            super(DriverNode, self).on_deactivate(state)

        return self._transition('activate', activate, undo)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, then disable the publishers (last: stopping may have a last word to publish)."""
        self._stop()
        super().on_deactivate(state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Tear down; the node can be configured again."""
        del state
        self._stop()
        self._teardown()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and tear down for good."""
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected failure: clean up, so that configuring again is possible."""
        return self.on_cleanup(state)

    def _transition(self, name: str, act: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            act()
        except Stopped:
            self.get_logger().info(f'{name} given up: told to stop')
            undo()
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would swallow it without a word
            # Errors raised on purpose explain themselves; for any other the place matters.
            known = isinstance(error, VlaDriverError)
            self.failure = f'{name} failed: {error}' if known else f'{name} failed: {error!r}'
            self.get_logger().error(self.failure if known else f'{self.failure}\n{traceback.format_exc()}')
            undo()
            self.diagnostics.publish()
            return TransitionCallbackReturn.FAILURE
        self.failure = ''
        self.get_logger().info(f'{name}d')
        self.diagnostics.publish()
        return TransitionCallbackReturn.SUCCESS

    def _stop(self) -> None:
        self.active = False
        if not self._started:
            return
        self._started = False
        self._tolerantly(self.stop)
        for timer in self._steady_timers:
            self.destroy_timer(timer)
        for subscription in self._listeners:
            self.destroy_subscription(subscription)
        self._steady_timers, self._listeners = [], {}

    def _teardown(self) -> None:
        self.configured = False
        if not self._set_up:
            return
        self._set_up = False
        self._tolerantly(self.teardown)
        for publisher in self._publishers_made:
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_made = []

    def _tolerantly(self, act: Callable[[], None]) -> None:
        """Run one step of cleaning up; its failure must not keep the next step from running."""
        try:
            act()
        except Exception:
            self.get_logger().error(f'{act.__name__} failed:\n{traceback.format_exc()}')

    # Time.

    def _clock_jumped(self, jump: TimeJump) -> None:
        now_s, by_s = self.get_clock().now().nanoseconds * 1e-9, jump.delta.nanoseconds * 1e-9
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            # Another clock is read; the stamps of what comes in are none the worse.
            source = '/clock' if jump.clock_change == ClockChange.ROS_TIME_ACTIVATED else "this machine's clock"
            self.get_logger().info(f'time is now that of {source}')
        elif by_s < 0.0:
            self.reset_now(f'the clock jumped back from {now_s - by_s:.3f} s to {now_s:.3f} s')

    def reset_now(self, reason: str) -> None:
        """Reset, and say so."""
        if not self.configured:
            return
        self.resets += 1
        self.get_logger().warning(f'reset: {reason}')
        self.reset(reason)

    # Parameters and diagnostics.

    def _judge_parameters(self, requested: list[Parameter]) -> SetParametersResult:
        verdict = ros_parameters.judge(self.parameter_table, requested, self.configured)
        if not verdict.successful or not self.configured:
            return verdict
        try:
            self.parameters_wanted(ros_parameters.merged(self.parameters, requested))
        except Exception as error:  # whatever it is, the one who asked must hear of it, and the node goes on
            known = isinstance(error, VlaDriverError)
            if not known:
                self.get_logger().error(f'setting parameters failed:\n{traceback.format_exc()}')
            return SetParametersResult(successful=False, reason=str(error) if known else repr(error))
        return verdict

    def _take_parameters(self, changed: list[Parameter]) -> None:
        del changed
        self.parameters = ros_parameters.read(self, self.parameter_table)  # type: ignore[assignment]
        if self.configured:
            self.parameters_changed()

    def _report_every(self, period_s: float) -> None:
        """Report at another pace.  The publisher stays as it is unless the pace changes: a new one has to be found."""
        if period_s != self._diagnostics_period_s:
            self.diagnostics.close()
            self.diagnostics = DiagnosticsPublisher(self, self._statuses, period_s)
            self._diagnostics_period_s = period_s

    def _statuses(self) -> Iterable[Status]:
        state = 'active' if self.active else 'configured, inactive' if self.configured else 'not configured'
        if self.failure:
            # Repeated with every report, so that whoever looks later still learns the first cause.
            yield Status('node', Level.ERROR, self.failure, {'state': state})
        else:
            level = Level.OK if self.active else Level.WARN
            yield Status('node', level, state, {'state': state, 'resets': self.resets})
        if self.configured:
            yield from self.report()

    def destroy_node(self) -> None:
        """Stop, tear down and leave the graph."""
        self._stop()
        self._teardown()
        if self._jump_handle is not None:
            self._jump_handle.unregister()
        super().destroy_node()
