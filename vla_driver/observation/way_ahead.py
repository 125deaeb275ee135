# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where to go: a route, a goal or a leaderboard's plan, and the turns on it where nobody else tells them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vla_driver.geometry.opendrive import JunctionMap
from vla_driver.observation.guidance import Manoeuvre, RouteGuide, beyond_end, resampled
from vla_driver.observation.messages import frame_of, frame_problem, read_global_plan, read_goal, read_route
from vla_driver.observation.route import RouteTracker, is_dense, target_points
from vla_driver.types import EgoState, FloatArray, InvalidInput, Navigation, TurnCommand

_NO_ROUTE: Final = 'route: none received'
_WITHDRAWN: Final = 'route: withdrawn by an empty path'
#: A route of so many points starts anew where more of it is told.
_LONGEST: Final = 5000


class WayAhead:
    """What was last said of the way; points and poses are in the odometry's frame.

    turns_from_route: turns are made of a global plan or of the junctions of a map, where one is told, or else of the
    route's bends (`RouteGuide`).  What takes a message raises InvalidInput for one that cannot be used, and then keeps
    what was there; it returns whether the message said where to go.
    """

    def __init__(self, turns_from_route: bool) -> None:
        self._guide = RouteGuide() if turns_from_route else None
        self._guided: FloatArray | None = None  # the route that the guide has
        self._junctions: JunctionMap | None = None
        self._plan: tuple[FloatArray, tuple[Manoeuvre, ...]] | None = None
        self._planned = False  # whether the present route is the plan's
        self._route: RouteTracker | None = None
        self._points = np.empty((0, 2))
        self._known = np.empty((0, 2))  # a dense route and what was told beyond its end since
        self._routes = 0  # different ones so far
        #: The frame that the route's message names, '' for none.
        self.frame = ''
        #: Why there is no route; '' where there is one.
        self.problem = _NO_ROUTE

    def take_route(self, message: Any) -> bool:
        """Take a nav_msgs/Path; one without poses withdraws the route."""
        if len(message.poses) == 0:
            self._route, self._points, self.problem = None, np.empty((0, 2)), _WITHDRAWN
        else:
            self._follow(read_route(message), frame_of(message))
        self._planned = False
        return True

    def take_goal(self, message: Any, odometry_frame: str) -> bool:
        """Take a geometry_msgs/PoseStamped: a route of this one point, in place of the one before."""
        goal = read_goal(message)
        if told := frame_problem(frame_of(message), odometry_frame):
            raise InvalidInput(told.replace('route', 'goal'))
        self._planned = False
        self._follow(goal[None], frame_of(message))
        return True

    def take_plan(self, message: Any) -> bool:
        """Take a carla_msgs/CarlaRoute: what to do at which junctions, and a route while there is no other.

        The leaderboard's poses are at junctions and up to 200 m apart; a dense route keeps its own points.
        """
        points, told = read_global_plan(message)
        if self._plan is None or not _same(self._plan, (points, told)):  # sent again it changes nothing
            self._plan, self._guided = (points, told), None
        if self._route is not None and not self._planned:
            return False
        self._planned = True
        self._follow(points, frame_of(message) or self.frame)
        return True

    def know(self, junctions: JunctionMap) -> None:
        """Take where junctions are: a global plan, if there is one, counts more."""
        self._junctions = junctions
        if self._guide is not None:
            self._guide.know(junctions)

    def forget(self) -> None:
        """Forget route, goal and plan: nobody has listened for a while, and they may have changed.  A map stays."""
        self._route, self._points, self._known = None, np.empty((0, 2)), np.empty((0, 2))
        self._plan, self._planned, self.frame, self.problem = None, False, '', _NO_ROUTE
        if self._guide is not None:
            self._guide, self._guided = RouteGuide(self._junctions), None

    def reset(self) -> None:
        """Start the route over (the clock was set)."""
        if self._route is not None:
            self._route.reset()
        if self._guide is not None:
            self._guide, self._guided = RouteGuide(self._junctions), None

    @property
    def turns_from(self) -> str:
        """What turns are made of: 'global plan', 'map' or 'bends'; '' where they are not, or not yet."""
        if self._guide is None or self._guided is None:
            return ''
        return 'global plan' if self._plan is not None else 'map' if self._guide.by_map else 'bends'

    def next_turn(self, ego: EgoState) -> tuple[TurnCommand, float] | None:
        """Return the next turn and the metres to it; None where turns are not made of the route."""
        if self._guide is None:
            return None
        if self._guided is not self._points:
            self._guided = self._points
            self._guide.take(self._points, ego.pose, None if self._plan is None else self._plan[1])
        return self._guide.next_turn(ego.pose)

    def navigation(self, ego: EgoState, command: TurnCommand, distance_m: float) -> Navigation | None:
        """Return what the driver is told at `ego`; None without a route."""
        return None if self._route is None else self._route.navigation(ego, command, distance_m)

    def _follow(self, points: FloatArray, frame: str) -> None:
        """Take a route; a dense one that goes on from the one before is that one, of which more is known."""
        same_frame, self.frame, self.problem = frame == self.frame, frame, ''
        if np.array_equal(points, self._points):
            return
        beyond = beyond_end(resampled(self._known), points) if same_frame and is_dense(points) else None
        self._points = points
        if self._route is not None and beyond is not None and len(self._known) <= _LONGEST:
            if len(beyond):
                self._known = np.concatenate([self._known, beyond])
                self._route.go_on(target_points(self._known))
        else:
            self._routes += 1
            self._route, self._known = RouteTracker(target_points(points), self._routes), points


def _same(one: tuple[FloatArray, tuple[Manoeuvre, ...]], other: tuple[FloatArray, tuple[Manoeuvre, ...]]) -> bool:
    """Whether two plans are one: the same places, and the same to be done there."""
    return np.array_equal(one[0], other[0]) and [m.command for m in one[1]] == [m.command for m in other[1]]
