# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the planner publishes of one plan, and for whom."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from nav_msgs.msg import Path
from visualization_msgs.msg import MarkerArray

from vla_driver.msg import AgentForecasts, DrivingPlan, TokenSelection
from vla_driver.ros.nodes.lifecycle import DriverNode
from vla_driver.ros.wire import qos
from vla_driver.ros.wire.conversions import BASE_FRAME, to_driving_plan, to_path
from vla_driver.ros.wire.forecasts import to_agent_forecasts
from vla_driver.ros.wire.markers import no_plan_markers, plan_markers, token_markers
from vla_driver.ros.wire.selection import to_token_selection
from vla_driver.types import CameraRig, Plan, Selection


class PlanOutlets:
    """The planner's outputs: `plan` and `path` always, the rest while somebody listens."""

    def __init__(self, node: DriverNode, rig: CameraRig) -> None:
        self._rig = rig
        self._plan = node.advertise(DrivingPlan, 'plan', qos.RELIABLE)
        self._path = node.advertise(Path, 'path', qos.RELIABLE)
        self._agents = node.advertise(AgentForecasts, 'agents', qos.RELIABLE)
        self._markers = node.advertise(MarkerArray, 'markers', qos.RELIABLE)
        self._tokens = node.advertise(TokenSelection, 'tokens', qos.RELIABLE)

    @property
    def want_selection(self) -> bool:
        """Whether anybody looks at what the pruner kept."""
        return bool(self._tokens.get_subscription_count() or self._markers.get_subscription_count())

    def publish(
        self, plan: Plan, stamp: Time, missing: tuple[str, ...], skew_s: float, selection: Selection | None
    ) -> None:
        """Publish a plan, stamped with the anchor image's own stamp; what a controller waits for goes first."""
        self._path.publish(to_path(plan, stamp))
        self._plan.publish(to_driving_plan(plan, stamp, missing, skew_s))
        if self._agents.get_subscription_count():
            self._agents.publish(to_agent_forecasts(plan.forecasts, stamp, BASE_FRAME))
        if self._markers.get_subscription_count():
            markers = plan_markers(plan, stamp)
            if selection is not None:
                markers.markers += token_markers(selection, self._rig, stamp, plan.ttl_s)
            self._markers.publish(markers)
        if selection is not None and self._tokens.get_subscription_count():
            self._tokens.publish(to_token_selection(selection, stamp))

    def wipe(self, stamp: Time) -> None:
        """Wipe the plan off the screens."""
        self._markers.publish(no_plan_markers(stamp))
