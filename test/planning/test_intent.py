# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""An intent ages, is moved by odometry, and is dropped when it no longer holds."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest

from vla_driver.geometry.rig import load_rig
from vla_driver.planning.intent import IntentHolder, IntentLimits, camera_azimuth, present
from vla_driver.sim.slow_half import NonsenseReasoner
from vla_driver.types import EgoState, HazardKind, Intent, InvalidInput, MetaAction, Observation

RIG = load_rig('sim')
Observe = Callable[..., Observation]


def at(observation_at: Observe, stamp_s: float, pose: tuple[float, float, float], route: int = 0) -> Observation:
    made = observation_at(stamp_s)
    navigation = dataclasses.replace(made.navigation, route=route)
    ego = EgoState(stamp_s, *pose, 5.0)
    return dataclasses.replace(made, ego=ego, navigation=navigation, rig=RIG, missing=RIG.names)


def say(stamp_s: float, pose: tuple[float, float, float] | None = (0.0, 0.0, 0.0), **more: object) -> Intent:
    entries = {'hazard': HazardKind.RED_LIGHT, 'hazard_camera': 'front', 'hazard_m': 30.0, **more}
    where = None if pose is None else np.array(pose)
    return Intent(stamp_s, MetaAction.STOP, 2.0, where, **entries)  # type: ignore[arg-type]


def test_an_intent_is_seen_from_now_and_fades(observation_at: Observe) -> None:
    heading = math.pi / 2  # along +y of the odometry frame
    intent = say(10.0, (3.0, 1.0, heading))
    now = present(intent, at(observation_at, 10.5, (3.0, 7.0, heading)))
    assert now.age_s == pytest.approx(0.5)
    assert now.weight == pytest.approx(0.75)
    assert now.motion == pytest.approx((-6.0, 0.0, 0.0))
    assert now.hazard_m == pytest.approx(24.0)
    # To the side of a camera that looks left, driving ahead changes little.
    left = say(10.0, (3.0, 1.0, heading), hazard_camera='front_left')
    azimuth = camera_azimuth(RIG, 'front_left')
    assert 0.3 < azimuth < 1.6
    moved = present(left, at(observation_at, 10.5, (3.0, 7.0, heading)))
    assert moved.hazard_m == pytest.approx(30.0 - 6.0 * math.cos(azimuth))
    # The weight is that of its own pictures: 1 fresh, 0 at the time to live and after it.
    for stamp_s, weight in ((10.0, 1.0), (11.0, 0.5), (11.999, 0.0005), (12.0, 0.0), (15.0, 0.0), (9.0, 0.0)):
        assert present(intent, at(observation_at, stamp_s, (3.0, 1.0, heading))).weight == pytest.approx(weight)
    nowhere = present(say(10.0, None), at(observation_at, 10.5, (3.0, 7.0, heading)))
    assert (nowhere.motion, nowhere.hazard_m) == ((0.0, 0.0, 0.0), 30.0)


def test_the_latest_wins_until_it_no_longer_holds(observation_at: Observe) -> None:
    holder = IntentHolder()
    assert holder.at(at(observation_at, 9.0, (0.0, 0.0, 0.0))) is None
    holder.put(say(10.0))
    holder.put(say(9.5, hazard_m=1.0))  # was longer under way
    held = holder.at(at(observation_at, 10.2, (1.0, 0.0, 0.0)))
    assert held is not None and held.intent.stamp_s == 10.0
    assert holder.dropped == {'older than the one before': 1}
    cases = {
        'too old': (12.5, (1.0, 0.0, 0.0), 0),
        'from the future': (9.8, (1.0, 0.0, 0.0), 0),
        'moved too far': (10.5, (60.0, 0.0, 0.0), 0),
        'of another route': (10.5, (1.0, 0.0, 0.0), 1),
    }
    for why, (stamp_s, pose, route) in cases.items():
        holder = IntentHolder()
        assert holder.at(at(observation_at, 9.9, (0.0, 0.0, 0.0))) is None  # the route is known
        holder.put(say(10.0))
        assert holder.at(at(observation_at, stamp_s, pose, route)) is None, why
        assert holder.dropped == {why: 1}
        assert holder.latest is None
    turned = IntentHolder()
    turned.put(say(10.0))
    assert turned.at(at(observation_at, 10.5, (1.0, 0.0, 1.4))) is None
    assert turned.dropped == {'moved too far': 1}


def test_an_intent_of_the_new_route_holds(observation_at: Observe) -> None:
    holder = IntentHolder()
    here = (0.0, 0.0, 0.0)
    assert holder.at(at(observation_at, 9.9, here, 1)) is None
    assert holder.at(at(observation_at, 10.0, here, 2)) is None
    holder.put(say(9.9))  # of pictures from before the change, and came after it
    assert holder.at(at(observation_at, 10.1, here, 2)) is None
    holder.put(say(10.1))
    assert holder.at(at(observation_at, 10.3, here, 2)) is not None


def test_no_intent_counts_for_longer_than_the_limit(observation_at: Observe) -> None:
    holder = IntentHolder(IntentLimits(ttl_s=1.0))
    holder.put(dataclasses.replace(say(10.0), ttl_s=1e9))
    held = holder.at(at(observation_at, 10.5, (0.0, 0.0, 0.0)))
    assert held is not None and held.weight == pytest.approx(0.5)
    # Whoever plans with the intent that he is handed, sees the same.
    assert present(held.intent, at(observation_at, 10.5, (0.0, 0.0, 0.0))) == held
    assert holder.at(at(observation_at, 11.0, (0.0, 0.0, 0.0))) is None


def test_a_jump_of_time_forgets(observation_at: Observe) -> None:
    holder = IntentHolder()
    holder.put(say(10.0))
    holder.reset()
    assert holder.latest is None and holder.dropped == {'time jumped': 1}
    assert holder.at(at(observation_at, 10.1, (0.0, 0.0, 0.0))) is None


def test_threads_may_put_while_another_one_plans(observation_at: Observe) -> None:
    holder = IntentHolder()

    def talk() -> None:
        for step in range(2000):
            holder.put(say(10.0 + 1e-4 * step))

    threads = [threading.Thread(target=talk) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = [holder.at(at(observation_at, 10.3, (0.0, 0.0, 0.0))) for _ in range(200)]
    for thread in threads:
        thread.join()
    stamps = [one.intent.stamp_s for one in seen if one is not None]
    assert stamps == sorted(stamps)
    assert holder.heard == 6000
    assert holder.latest is not None and holder.latest.stamp_s == pytest.approx(10.1999)


def test_who_contradicts_himself_is_believed_less_and_in_the_end_not_at_all(observation_at: Observe) -> None:
    here = (0.0, 0.0, 0.0)

    def told(actions: list[MetaAction]) -> tuple[IntentHolder, list[Intent | None]]:
        holder, heard = IntentHolder(), list[Intent | None]()
        for number, action in enumerate(actions):
            stamp_s = 10.0 + 0.5 * number
            holder.put(dataclasses.replace(say(stamp_s), meta_action=action, confidence=0.9))
            found = holder.at(at(observation_at, stamp_s + 0.3, here))
            heard.append(None if found is None else found.intent)
        return holder, heard

    a, b = MetaAction.SPEED_UP, MetaAction.STOP
    # A light that turns red, and green again: believed all the way.
    drive = [a, MetaAction.KEEP, MetaAction.KEEP, b, b, MetaAction.WAIT, MetaAction.WAIT, MetaAction.START, a, a]
    holder, heard = told(drive)
    assert holder.trust == 1.0 and [one.confidence for one in heard if one is not None] == [0.9] * len(drive)
    # Back and forth: less and less, then no more; steady again, and it is believed again.
    holder, heard = told([a, b] * 4)
    confidences = [0.0 if one is None else one.confidence for one in heard]
    assert confidences == sorted(confidences, reverse=True) and confidences[0] == 0.9 and confidences[-1] == 0.0
    assert holder.dropped['contradicts itself'] >= 2
    _, heard = told([a, b] * 4 + [b] * 8)
    assert heard[9] is None and heard[-1] is not None and heard[-1].confidence == 0.9
    # Nonsense is found out within seconds, whatever its seed.
    for seed in range(5):
        nonsense = NonsenseReasoner(seed)
        said = [nonsense.reason(observation_at(0.5 * k)).meta_action for k in range(80)]
        _, heard = told(said)
        believed = [0.0 if one is None else one.confidence / 0.9 for one in heard[6:]]
        assert np.mean(believed) < 0.45


def test_nonsense_is_refused_where_it_is_made() -> None:
    for entries, message in (
        ({'ttl_s': math.inf}, 'ttl_s is inf'),
        ({'hazard_m': -1.0}, 'hazard_m is -1.0'),
        ({'target_speed_mps': math.inf}, 'target_speed_mps is inf'),
        ({'meta_action': 'turn_left'}, "'turn_left', allowed: keep"),
        ({'confidence': 1.5}, 'confidence is 1.5'),
    ):
        with pytest.raises(InvalidInput, match=message):
            dataclasses.replace(say(1.0), **entries)  # type: ignore[arg-type]
