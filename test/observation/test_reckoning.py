# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Where a vehicle is, from its speed, heading and satellites: exact without noise, near the best there is with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from vla_driver.geometry.carla import map_displacement_m, satellite_position
from vla_driver.observation.reckoning import Reckoning
from vla_driver.types import EgoState, FloatArray

EARTH_M = 6_378_137.0
CENTRE_M = 1.4
START = np.array([120.0, -35.0])
STEP_S = 0.05
#: The leaderboard's noise, of latitude and longitude, and what that is in metres from south to north.
NOISE_DEG = 5e-6
SIGMA_M = math.radians(NOISE_DEG) * EARTH_M


def leaderboard_position(x: float, y: float, lat_ref: float = 42.0, lon_ref: float = 2.0) -> tuple[float, float]:
    """Return (latitude, longitude) of a place on a map (y to the south), as the leaderboard writes it down.

    `_location_to_gps` of leaderboard/utils/route_manipulation.py, formula by formula.
    """
    scale = math.cos(lat_ref * math.pi / 180.0)
    mx = scale * lon_ref * math.pi * EARTH_M / 180.0
    my = scale * EARTH_M * math.log(math.tan((90.0 + lat_ref) * math.pi / 360.0))
    mx += x
    my -= y
    lon = mx * 180.0 / (math.pi * EARTH_M * scale)
    lat = 360.0 * math.atan(math.exp(my / (EARTH_M * scale))) / math.pi - 90.0
    return lat, lon


PLACES = [(0.0, 0.0), (12.5, -7.25), (-940.0, 310.0), (3000.0, -4200.0)]


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('origin', [(42.0, 2.0), (0.0, 0.0), (-33.9, 151.2), (60.1, -179.999)])
def test_a_satellite_position_is_the_leaderboards(place: tuple[float, float], origin: tuple[float, float]) -> None:
    ours = satellite_position(*place, origin)
    theirs = leaderboard_position(place[0], -place[1], *origin)
    assert ours == pytest.approx(theirs, abs=1e-11)  # a micrometre on the ground


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('origin', [(42.0, 2.0), (0.0, 0.0), (-33.9, 151.2), (60.1, -179.999), (49.0, 180.0)])
def test_a_displacement_from_the_maps_origin_is_exact(place: tuple[float, float], origin: tuple[float, float]) -> None:
    latitude, longitude = leaderboard_position(place[0], -place[1], *origin)
    assert map_displacement_m(latitude, longitude, origin) == pytest.approx(place, abs=1e-6)
    wrapped = (longitude + 180.0) % 360.0 - 180.0  # a receiver says no more than 180 degrees
    assert map_displacement_m(latitude, wrapped, origin) == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize('near', [(0.0, 0.0), (800.0, -650.0), (-1500.0, 1200.0)])
@pytest.mark.parametrize('bearing', np.linspace(0.0, 2.0 * np.pi, 8, endpoint=False))
def test_a_displacement_of_a_kilometre_from_a_place_nearby_is_good_to_a_hand(
    near: tuple[float, float], bearing: float
) -> None:
    """The map's origin is not told: its first position, up to 2 km from it, stands in."""
    away = 1000.0 * np.array([math.cos(bearing), math.sin(bearing)])
    first = leaderboard_position(near[0], -near[1])
    there = leaderboard_position(near[0] + away[0], -(near[1] + away[1]))
    assert np.hypot(*(map_displacement_m(*there, first) - away)) < 0.3


# Drives ------------------------------------------------------------------------------------------------------------


@dataclass
class Drive:
    """What happened: stamps [N], speeds [N], headings [N], yaw rates [N], and places of the rear axle [N, 2]."""

    stamp_s: FloatArray
    speed_mps: FloatArray
    yaw_rad: FloatArray
    rate_rps: FloatArray
    axle_m: FloatArray

    @property
    def centre_m(self) -> FloatArray:
        return self.axle_m + CENTRE_M * np.column_stack([np.cos(self.yaw_rad), np.sin(self.yaw_rad)])

    def position(self, k: int, noise: np.random.Generator | None = None) -> tuple[float, float]:
        """Return what a receiver at the vehicle's origin says."""
        x, y = self.centre_m[k]
        latitude, longitude = leaderboard_position(x, -y)
        if noise is None:
            return latitude, longitude
        return latitude + noise.normal(0.0, NOISE_DEG), longitude + noise.normal(0.0, NOISE_DEG)


def driven(speed_of: Callable[[float], float], rate_of: Callable[[float], float], seconds: float) -> Drive:
    """Drive a bicycle in steps of 5 ms, a state every `STEP_S`; its origin starts in `START`."""
    yaw, speed = 0.4, speed_of(0.0)
    place = START - CENTRE_M * np.array([math.cos(yaw), math.sin(yaw)])
    rows = [(0.0, speed, yaw, rate_of(0.0), *place)]
    fine = 10
    for k in range(1, round(seconds / STEP_S) * fine + 1):
        now_s = k * STEP_S / fine
        middle_s = now_s - 0.5 * STEP_S / fine
        turn, way_m = rate_of(middle_s) * STEP_S / fine, speed_of(middle_s) * STEP_S / fine
        place = place + way_m * np.array([math.cos(yaw + 0.5 * turn), math.sin(yaw + 0.5 * turn)])
        yaw += turn
        if k % fine == 0:
            rows.append((now_s, speed_of(now_s), yaw, rate_of(now_s), *place))
    values = np.array(rows)
    wrapped = (values[:, 2] + np.pi) % (2.0 * np.pi) - np.pi  # as an IMU's quaternion tells it
    return Drive(values[:, 0], values[:, 1], wrapped, values[:, 3], values[:, 4:])


def ramp(points: list[tuple[float, float]]) -> Callable[[float], float]:
    at_s, values = np.array(points).T
    return lambda now_s: float(np.interp(now_s, at_s, values))


#: 10 m/s over 1 km, through bends to either side.
LONG = driven(lambda _: 10.0, lambda now_s: 0.15 * math.sin(0.2 * now_s), 100.0)


def reckoning(**changes: float) -> Reckoning:
    return Reckoning(START, **{'centre_m': CENTRE_M, 'fix_sigma_m': SIGMA_M, **changes})


def move(counted: Reckoning, drive: Drive, k: int, scale: float = 1.0) -> EgoState:
    return counted.move(
        float(drive.stamp_s[k]), scale * float(drive.speed_mps[k]), float(drive.yaw_rad[k]), float(drive.rate_rps[k])
    )


def errors_m(
    drive: Drive, noise: np.random.Generator | None = None, *, scale: float = 1.0, fixes: bool = True
) -> FloatArray:
    """Return how far off every state is: speed told `scale` times too high, a position at every state."""
    counted, away = reckoning(), []
    for k in range(len(drive.stamp_s)):
        ego = move(counted, drive, k, scale)
        away.append(math.dist((ego.x_m, ego.y_m), drive.axle_m[k]))
        if fixes:
            counted.fix(float(drive.stamp_s[k]), *drive.position(k, noise))
    return np.array(away)


@pytest.mark.parametrize('fixes', [False, True])
@pytest.mark.parametrize(
    ('speed', 'rate', 'seconds'),
    [
        (lambda _: 12.0, lambda _: 0.0, 60.0),  # straight
        (lambda _: 8.0, lambda _: 0.4, 40.0),  # two and a half times around a circle of 20 m
        (ramp([(0, 0), (4, 0), (9, 10), (15, 10), (20, 0), (30, 0), (35, 8)]), lambda _: 0.0, 45.0),  # stop and go
        (ramp([(0, 6), (5, 6), (8, -3), (12, -3)]), ramp([(0, 0.2), (12, -0.3)]), 15.0),  # and back
    ],
)
def test_without_noise_a_drive_is_exact(
    speed: Callable[[float], float], rate: Callable[[float], float], seconds: float, fixes: bool
) -> None:
    """To a centimetre: positions that agree pull it nowhere, either."""
    assert errors_m(driven(speed, rate, seconds), fixes=fixes).max() < 0.01


def test_a_state_says_what_was_told() -> None:
    counted = reckoning()
    first, second = move(counted, LONG, 0), move(counted, LONG, 1)
    assert (first.x_m, first.y_m) == pytest.approx(tuple(LONG.axle_m[0]))
    assert (second.stamp_s, second.speed_mps) == (pytest.approx(STEP_S), 10.0)
    assert (second.yaw_rad, second.yaw_rate_rps) == (LONG.yaw_rad[1], LONG.rate_rps[1])


@pytest.mark.parametrize('seed', range(5))
def test_satellites_hold_a_kilometre_in_place_whose_speed_is_wrong_by_a_hundredth(seed: int) -> None:
    alone = errors_m(LONG, scale=1.01, fixes=False)
    held = errors_m(LONG, np.random.default_rng(seed), scale=1.01)
    assert 8.0 < alone[-1] < 10.1  # a hundredth of the way, less what the bends take back
    assert held.max() < 1.5
    assert held[-200:].max() < 0.2 * alone[-1]


def test_satellites_hold_a_vehicle_that_backs_up_as_well() -> None:
    back = driven(lambda _: -5.0, lambda _: 0.05, 60.0)
    held = errors_m(back, np.random.default_rng(0), scale=1.01)
    assert errors_m(back, scale=1.01, fixes=False).max() > 1.9
    assert held.max() < 0.8


def test_positions_make_a_drive_that_is_exact_no_worse_than_by_their_own_noise() -> None:
    """The first position's error never changes and would be the whole drive's: half a metre, over and over."""
    last = [errors_m(LONG, np.random.default_rng(seed))[-1] for seed in range(12)]
    assert math.sqrt(np.mean(np.square(last))) < 0.25
    raw = []
    for seed in range(12):
        noise = np.random.default_rng(seed)
        first = LONG.position(0, noise)
        raw.append(np.hypot(*(LONG.centre_m[0] + map_displacement_m(*LONG.position(0), first) - LONG.centre_m[0])))
    assert math.sqrt(np.mean(np.square(raw))) > 0.5


def best_estimate(way_m: FloatArray, seen_m: FloatArray) -> FloatArray:
    """Return [2] how far off a place that was added up is, given all the positions, by Gauss's conditioning.

    way_m [N]: driven up to each position; seen_m [N, 2]: each position less where adding up has it, the first one's 0.
    What is off walks at random with the way (0.02 m over one metre); of it and of a position's noise each position
    sees the difference to the first one's.
    """
    walk = 0.02**2 * np.minimum(way_m[:, None] - way_m[0], way_m[None] - way_m[0])
    seen = walk + SIGMA_M**2 * (np.eye(len(way_m)) + 1.0)
    weights = np.linalg.solve(seen[1:, 1:], walk[1:, -1])
    estimate: FloatArray = weights @ seen_m[1:]
    return estimate


@pytest.mark.parametrize('seed', range(3))
def test_it_is_near_the_best_that_can_be_made_of_all_positions_at_once(seed: int) -> None:
    """Written down independently: no state, no steps, one system of equations for the whole of the drive."""
    counted, alone, noise = reckoning(), reckoning(), np.random.default_rng(seed)
    way_m, seen_m = [], []
    for k in range(1199):
        move(counted, LONG, k, 1.01)
        added = move(alone, LONG, k, 1.01)
        if k % 2 == 0:
            position = LONG.position(k, noise)
            if not way_m:
                first, from_m = position, LONG.centre_m[0]
            ahead = CENTRE_M * np.array([math.cos(added.yaw_rad), math.sin(added.yaw_rad)])
            way_m.append(10.1 * added.stamp_s)
            seen_m.append(from_m + map_displacement_m(*position, first) - ahead - [added.x_m, added.y_m])
            counted.fix(added.stamp_s, *position)
    ego = move(counted, LONG, 1198, 1.01)  # no way since: what the last position has made of it
    added_m = np.array([added.x_m, added.y_m])
    want = added_m + best_estimate(np.array(way_m), np.array(seen_m))
    assert (ego.x_m, ego.y_m) == pytest.approx(tuple(want), abs=0.04)
    assert math.dist(want, added_m) > 3.0  # the positions have moved it by much


def test_positions_before_the_first_move_are_not_counted_from() -> None:
    """They would be tied to no place: one of elsewhere changes nothing."""
    counted = reckoning()
    counted.fix(-0.1, 10.0, 20.0)
    counted.fix(0.0, 10.0, 20.0)
    for k in range(200):
        ego = move(counted, LONG, k)
        counted.fix(float(LONG.stamp_s[k]), *LONG.position(k))
    assert (ego.x_m, ego.y_m) == pytest.approx(tuple(LONG.axle_m[199]), abs=0.01)


@pytest.mark.parametrize('late', [1, 6, 18])
def test_a_position_is_taken_for_the_time_of_its_stamp(late: int) -> None:
    """Up to 0.9 s before the newest speed and heading: 9 m on the way, by which it would be off taken for now.

    Every other one is in time: what is off by the same again and again would pass for the first one's error.
    """
    straight = driven(lambda _: 10.0, lambda _: 0.0, 30.0)
    counted = reckoning()
    for k in range(len(straight.stamp_s)):
        ego = move(counted, straight, k)
        assert math.dist((ego.x_m, ego.y_m), straight.axle_m[k]) < 0.01
        seen = k if k < late or k % 2 else k - late
        counted.fix(float(straight.stamp_s[seen]), *straight.position(seen))


def test_a_position_of_long_ago_is_not_used() -> None:
    counted = reckoning()
    for k in range(400):
        ego = move(counted, LONG, k)
        if k >= 30:
            counted.fix(float(LONG.stamp_s[k - 30]), *LONG.position(0))  # as if it had not moved
    assert (ego.x_m, ego.y_m) == pytest.approx(tuple(LONG.axle_m[399]), abs=0.01)


@pytest.mark.parametrize('every', [2, 4])
def test_a_slower_rhythm_is_nearly_as_good(every: int) -> None:
    """Chords are shorter than their arcs: by some 6 cm over this kilometre at 5 Hz."""
    counted = reckoning()
    for k in range(0, len(LONG.stamp_s), every):
        ego = move(counted, LONG, k)
        assert math.dist((ego.x_m, ego.y_m), LONG.axle_m[k]) < 0.07


def test_over_a_gap_of_less_than_a_second_the_way_is_added_up() -> None:
    straight = driven(lambda _: 10.0, lambda _: 0.0, 10.0)
    counted = reckoning()
    for k in [*range(60), *range(78, 200)]:  # 0.95 s
        ego = move(counted, straight, k)
    assert (ego.x_m, ego.y_m) == pytest.approx(tuple(straight.axle_m[199]), abs=0.01)


def test_over_a_longer_gap_nothing_is_added_and_positions_bring_it_back() -> None:
    counted, off_m = reckoning(), []
    for k in [*range(1000), *range(1040, len(LONG.stamp_s))]:  # 2 s and a bit, 20 m on
        ego = move(counted, LONG, k)
        off_m.append(math.dist((ego.x_m, ego.y_m), LONG.axle_m[k]))
        counted.fix(float(LONG.stamp_s[k]), *LONG.position(k))
    assert off_m[999] < 0.01
    assert off_m[1000] == pytest.approx(20.5, abs=1.0)
    assert off_m[-1] < 1.0


def test_a_gap_early_in_the_drive_is_made_good_as_well() -> None:
    """The place is unsure by as much as may have been driven; the first position's error is not."""
    counted, noise = reckoning(), np.random.default_rng(4)
    for k in [*range(100), *range(140, len(LONG.stamp_s))]:
        ego = move(counted, LONG, k)
        counted.fix(float(LONG.stamp_s[k]), *LONG.position(k, noise))
    assert math.dist((ego.x_m, ego.y_m), LONG.axle_m[-1]) < 0.6


@pytest.mark.parametrize('first', [400, 1000])
def test_positions_that_come_late_do_not_spoil_what_was_added_up(first: int) -> None:
    """An exact drive stays nearly that, whatever the first position says: it is told apart from the place by then."""
    off_m = []
    for seed in range(8):
        counted, noise = reckoning(), np.random.default_rng(seed)
        for k in range(len(LONG.stamp_s)):
            ego = move(counted, LONG, k)
            if k >= first:
                counted.fix(float(LONG.stamp_s[k]), *LONG.position(k, noise))
        off_m.append(math.dist((ego.x_m, ego.y_m), LONG.axle_m[-1]))
    assert np.sqrt(np.mean(np.square(off_m))) < 0.2


def test_time_that_stands_still_or_runs_back_adds_nothing() -> None:
    counted = reckoning()
    first = counted.move(5.0, 10.0, 0.0, 0.0)
    for stamp_s in (5.0, 5.0, 4.0):
        again = counted.move(stamp_s, 10.0, 0.0, 0.0)
        assert (again.x_m, again.y_m) == (first.x_m, first.y_m)
    onward = counted.move(4.5, 10.0, 0.0, 0.0)
    assert onward.x_m == pytest.approx(first.x_m + 5.0)


def test_standing_the_place_does_not_wander_with_the_noise() -> None:
    """Five minutes at a light."""
    still = driven(lambda _: 0.0, lambda _: 0.0, 1.0)
    counted, noise, places = reckoning(), np.random.default_rng(3), []
    for k in range(6000):
        ego = counted.move(STEP_S * k, 0.0, 0.4, 0.0)
        places.append((ego.x_m, ego.y_m))
        counted.fix(STEP_S * k, *still.position(0, noise))
    assert np.hypot(*(np.array(places) - still.axle_m[0]).T).max() < 0.15
