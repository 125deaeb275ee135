# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the slow half said, as it looks by now: ageing, moved by odometry, dropped when it no longer holds.

The slow half speaks of pictures that are up to a second old when a plan heeds it.  So an intent is moved to the present
(`present`): its age, how far what it reacts to is by now, and a weight that falls from 1 at its stamp to 0 at the end
of its time to live; at 0 the fast half plans as with no intent at all.  `IntentHolder` keeps the newest one between
threads and drops what does not hold any more.  Nobody waits for an intent.

A slow half that says the opposite of itself twice a second is broken, however sure it sounds.  So the holder keeps
count of contradictions between successive intents, lowers the confidence of one that contradicts itself often, and in
the end believes it no more until it is steady again.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_driver.geometry import se2
from vla_driver.planning.likeness import agreement
from vla_driver.types import CameraModel, CameraRig, Intent, Observation

#: Share of successive intents that contradict each other up to which all is believed, and from which nothing is: a slow
#: half that reports what it sees contradicts itself where the scene changes, a random one every other time.
_BELIEVED: Final = 0.3
_DISBELIEVED: Final = 0.45
#: How fast that share forgets, per intent; and intents farther apart than this contradict nothing.
_FORGETS: Final = 0.2
_APART_S: Final = 2.0
#: Stamps of one set of pictures may differ by this much between two nodes.
FUTURE_S: Final = 0.05


@dataclass(frozen=True)
class IntentLimits:
    """Beyond which an intent says nothing about the present any more.

    ttl_s: no intent counts for longer, whatever it says itself; moved_m, turned_rad: since its pictures.
    """

    ttl_s: float = 3.0
    moved_m: float = 40.0
    turned_rad: float = 1.2


@dataclass(frozen=True)
class PresentIntent:
    """An intent at a later tick.

    age_s: since its pictures; weight: 1 fresh to 0 at its time to live; motion [3]: its pose (x, y, yaw) seen from now,
    zeros where it names none; hazard_m: how far what it reacts to is by now, NaN unknown, below 0 where it was passed.
    """

    intent: Intent
    age_s: float
    weight: float
    motion: tuple[float, float, float]
    hazard_m: float


def weight_at(age_s: float, ttl_s: float) -> float:
    """Return how much an intent counts at an age, linear from 1 to 0 at its time to live; 0 outside."""
    return min(1.0, 1.0 - age_s / ttl_s) if -FUTURE_S <= age_s < ttl_s else 0.0


def camera_azimuth(rig: CameraRig, camera: str) -> float:
    """Return the direction in base_link in which a camera looks, in radians to the left; ahead for an unknown one."""
    return optical_azimuth(rig[camera]) if camera in rig else 0.0


def optical_azimuth(camera: CameraModel) -> float:
    """Return the direction in base_link in which a camera looks, in radians to the left."""
    axis = camera.base_from_camera[:3, 2]
    return math.atan2(axis[1], axis[0])


def present(intent: Intent, observation: Observation) -> PresentIntent:
    """Return an intent as it looks at an observation.

    What it reacts to is taken to stand where it was seen, in the direction of the camera that shows it.
    """
    age_s = observation.stamp_s - intent.stamp_s
    then = np.zeros(3) if intent.pose is None else se2.relative(observation.ego.pose, intent.pose)
    now = np.zeros(3) if intent.pose is None else se2.relative(intent.pose, observation.ego.pose)
    azimuth = camera_azimuth(observation.rig, intent.hazard_camera)
    driven_m = float(now[0] * math.cos(azimuth) + now[1] * math.sin(azimuth))
    motion = (float(then[0]), float(then[1]), float(then[2]))
    return PresentIntent(intent, age_s, weight_at(age_s, intent.ttl_s), motion, intent.hazard_m - driven_m)


class IntentHolder:
    """Keeps the newest intent, and says what of it holds at a tick.  `put` may be called from any thread."""

    def __init__(self, limits: IntentLimits | None = None) -> None:
        self.limits = limits or IntentLimits()
        self._lock = threading.Lock()
        self._intent: Intent | None = None
        self._last: Intent | None = None  # heard, whatever became of it
        self._contradictions = 0.0
        self._dropped: Counter[str] = Counter()
        self._heard = 0
        self._route: int | None = None
        self._route_since_s = -math.inf

    @property
    def heard(self) -> int:
        """How many intents came."""
        return self._heard

    @property
    def dropped(self) -> Mapping[str, int]:
        """Why intents were dropped -> how many."""
        with self._lock:
            return dict(self._dropped)

    @property
    def trust(self) -> float:
        """How far the slow half is believed, 1 where it is steady to 0 where it contradicts itself all the time."""
        return float(np.clip((_DISBELIEVED - self._contradictions) / (_DISBELIEVED - _BELIEVED), 0.0, 1.0))

    @property
    def latest(self) -> Intent | None:
        """The intent that is kept."""
        return self._intent

    def put(self, intent: Intent) -> None:
        """Keep an intent in place of the one before, unless that is of later pictures."""
        if intent.ttl_s > self.limits.ttl_s:
            intent = dataclasses.replace(intent, ttl_s=self.limits.ttl_s)
        with self._lock:
            self._heard += 1
            if self._intent is not None and intent.stamp_s < self._intent.stamp_s:
                self._dropped['older than the one before'] += 1
                return
            if self._last is not None and 0.0 < intent.stamp_s - self._last.stamp_s <= _APART_S:
                contradicts = agreement(self._last.meta_action, intent.meta_action) == 0.0
                self._contradictions += _FORGETS * (contradicts - self._contradictions)
            self._intent = self._last = intent

    def reset(self) -> None:
        """Forget the intent: time has jumped."""
        with self._lock:
            if self._intent is not None:
                self._dropped['time jumped'] += 1
            self._intent, self._last, self._contradictions = None, None, 0.0
            self._route, self._route_since_s = None, -math.inf

    def at(self, observation: Observation) -> PresentIntent | None:
        """Return the intent as it looks at an observation; None where there is none that holds."""
        with self._lock:
            self._follow_route(observation)
            if self._intent is None:
                return None
            intent, trust = self._intent, self.trust
            if trust < 1.0:
                intent = dataclasses.replace(intent, confidence=trust * intent.confidence)
            found = present(intent, observation)
            if why := self._objection(found):
                self._dropped[why] += 1
                self._intent = None
                return None
            return found

    def _follow_route(self, observation: Observation) -> None:
        route = observation.navigation.route
        if self._route is not None and route != self._route:
            self._route_since_s = observation.stamp_s
        self._route = route

    def _objection(self, found: PresentIntent) -> str:
        """Return why an intent does not hold any more, '' where it does."""
        x_m, y_m, turned_rad = found.motion
        if found.age_s < -FUTURE_S:
            return 'from the future'
        if found.weight <= 0.0:
            return 'too old'
        if found.intent.stamp_s < self._route_since_s:
            return 'of another route'
        if self.trust <= 0.0:
            return 'contradicts itself'
        if math.hypot(x_m, y_m) > self.limits.moved_m or abs(turned_rad) > self.limits.turned_rad:
            return 'moved too far'
        return ''
