# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Figures as published evaluations count them, against derivations of their own: polygons, single cells, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from shapely import LineString, box
from shapely.affinity import rotate, translate

from vla_driver.commands.evaluate.open_loop import _tell_published
from vla_driver.evaluate.displacement import STEP_TIMES_S
from vla_driver.evaluate.open_loop import BagResult
from vla_driver.evaluate.published import (
    LIDAR_M,
    PROTOCOLS,
    Around,
    Counted,
    Protocol,
    boundary_grid,
    count,
    drawn_boundary,
    occupied,
    summarise,
    touches,
)
from vla_driver.types import InvalidInput

ST_P3, UNIAD, BEV = (PROTOCOLS[name] for name in ('st-p3', 'uniad', 'bev-planner'))
NOBODY = [Around(np.zeros((0, 5)))] * 6


def straight(speed_mps: float) -> np.ndarray:
    return np.column_stack([speed_mps * STEP_TIMES_S, np.zeros(6), np.zeros(6)])


def one(x_m: float, y_m: float, *, walks: bool = False) -> Around:
    return Around(np.array([[x_m, y_m, 0.0, 1.0, 1.0]]), np.array([walks]))


def ego_polygon(point: np.ndarray, yaw_rad: float, protocol: Protocol):  # type: ignore[no-untyped-def]
    """Return the ego as a shape: 4.084 m by 1.85 m, its middle 0.5 m ahead of the LIDAR."""
    middle_m = 0.5 + (0.0 if protocol.lidar else LIDAR_M)
    body = box(middle_m - 2.042, -0.925, middle_m + 2.042, 0.925)
    return translate(rotate(body, yaw_rad, origin=(0, 0), use_radians=True), *point)


@pytest.mark.parametrize('protocol', PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_the_ego_touches_what_its_shape_touches_but_for_the_cells_at_its_edge(protocol: Protocol) -> None:
    """On ways and boxes by chance: nearer than the grid can tell they may differ, farther they may not."""
    rng = np.random.default_rng(0)
    told = {True: 0, False: 0}
    for _ in range(400):
        point = np.array([rng.uniform(2.0, 30.0), rng.uniform(-10.0, 10.0)])
        yaw = float(np.arctan2(point[1], point[0])) if protocol.turned else 0.0
        x, y = point + rng.uniform(-6.0, 6.0, 2)
        length, width, turn = rng.uniform(3.0, 8.0), rng.uniform(3.0, 6.0), rng.uniform(-3.0, 3.0)
        grid = occupied(np.array([[x, y, turn, length, width]]), protocol)
        [hit] = touches(point[None], [grid], protocol)
        other = translate(
            rotate(box(-length / 2, -width / 2, length / 2, width / 2), turn, origin=(0, 0), use_radians=True), x, y
        )
        ego, cell_m = ego_polygon(point, yaw, protocol), protocol.cell_m
        if ego.distance(other) > 2.0 * cell_m:
            assert not hit
            told[False] += 1
        elif ego.buffer(-cell_m).intersects(other.buffer(-cell_m)):
            assert hit
            told[True] += 1
    assert min(told.values()) > 40


def test_footprints_have_the_published_number_of_cells() -> None:
    """8 by 4 cells of 0.5 m, and 41 by 18 cells of 0.1 m: middles within 4.084 m by 1.85 m."""
    for protocol, cells in ((ST_P3, 32), (UNIAD, 32), (BEV, 41 * 18)):
        hits = 0
        for row in range(protocol.cells // 2 - 60, protocol.cells // 2 + 60):
            for column in range(protocol.cells // 2 - 30, protocol.cells // 2 + 30):
                grid = np.zeros((protocol.cells, protocol.cells), dtype=np.uint8)
                grid[row, column] = 1
                hits += touches(np.zeros((1, 2)), [grid], protocol)[0]
        assert hits == cells


def test_what_a_value_at_three_seconds_means_differs() -> None:
    """An error that grows by 0.5 m a step is 3 m at 3 s, and 1.75 m on the way there."""
    for protocol, expected in ((UNIAD, [1.0, 2.0, 3.0]), (ST_P3, [0.75, 1.25, 1.75]), (BEV, [0.75, 1.25, 1.75])):
        figures = summarise(protocol, [count(protocol, straight(5.0), straight(4.0), NOBODY)])
        np.testing.assert_allclose([figures['l2_m'][at] for at in ('1s', '2s', '3s')], expected)
        assert figures['collision_rate']['mean'] == 0.0 == figures['driven_collision_rate']['mean']


def test_the_lidar_is_ahead_of_the_axle() -> None:
    """A vehicle that turns on the spot moves its LIDAR, not its rear axle."""
    turned = np.column_stack([np.zeros(6), np.zeros(6), np.full(6, np.pi / 2)])
    still = np.zeros((6, 3))
    assert count(BEV, turned, still).error_m[5] == 0.0
    np.testing.assert_allclose(count(UNIAD, turned, still).error_m[5], np.sqrt(2.0) * LIDAR_M)


def test_a_collision_counts_at_its_step_in_the_mean_or_from_then_on() -> None:
    """Somebody stands where the plan, and not the driven way, is after 1 s and nowhere else."""
    others = [one(10.0, 0.0) if k == 1 else Around(np.zeros((0, 5))) for k in range(6)]
    rates = {}
    for protocol in PROTOCOLS.values():
        counted = count(protocol, straight(8.0), straight(1.0), others)
        assert counted.collides is not None
        assert counted.collides.tolist() == [False, True, False, False, False, False]
        rates[protocol.name] = [summarise(protocol, [counted])['collision_rate'][at] for at in ('1s', '2s', '3s')]
    np.testing.assert_allclose(rates['uniad'], [1, 0, 0])
    np.testing.assert_allclose(rates['st-p3'], [1 / 2, 1 / 4, 1 / 6])
    np.testing.assert_allclose(rates['bev-planner'], [1, 1, 1])


def test_where_the_driven_way_collides_too_the_labels_are_at_fault() -> None:
    others = [one(10.0, 0.0)] * 6
    for protocol in PROTOCOLS.values():
        counted = count(protocol, straight(8.0), straight(8.0), others)
        assert counted.collides is not None
        assert counted.driven_collides is not None
        assert not counted.collides.any()
        assert counted.driven_collides[1]
        assert summarise(protocol, [counted])['driven_collision_rate']['mean'] > 0.0


def test_people_are_in_the_way_of_one_protocol_only() -> None:
    others = [one(10.0, 0.0, walks=True)] * 6
    hits = {p.name: bool(np.any(count(p, straight(8.0), straight(1.0), others).collides)) for p in PROTOCOLS.values()}
    assert hits == {'st-p3': True, 'uniad': False, 'bev-planner': False}


def test_a_future_that_is_not_whole_counts_in_one_protocol_only() -> None:
    driven = straight(4.0)
    driven[3:] = np.nan
    others = [one(40.0, 0.0)] * 3 + [None] * 3
    plans = {
        p.name: [count(p, straight(5.0), straight(4.0), NOBODY), count(p, straight(5.0), driven, others)]
        for p in PROTOCOLS.values()
    }
    figures = summarise(UNIAD, plans['uniad'])
    assert figures['samples'] == 2
    np.testing.assert_allclose(figures['l2_m']['3s'], 3.0 / 2)  # its missing steps count as no error
    assert summarise(ST_P3, plans['st-p3'])['samples'] == summarise(BEV, plans['bev-planner'])['samples'] == 1
    with pytest.raises(InvalidInput, match='bev-planner: no plan counts'):
        summarise(BEV, plans['bev-planner'][1:])


def test_the_roads_edge_is_touched_where_the_ego_turned_along_its_way_crosses_it() -> None:
    """A line at the side; the plan leaves the road, the driven way does not."""
    lines = [np.array([[-20.0, 2.85], [40.0, 2.85]])]
    leaving = np.column_stack([4.0 * STEP_TIMES_S, 0.9 * STEP_TIMES_S, np.full(6, 0.22)])
    counted = count(BEV, leaving, straight(4.0), None, lines)
    yaw = np.arctan2(0.9, 4.0)
    line = LineString(lines[0])
    expected = [ego_polygon(pose[:2], yaw, BEV).distance(line) == 0.0 for pose in leaving]
    assert counted.off_road is not None
    assert counted.off_road.tolist() == expected
    assert 0 < sum(expected) < 6
    figures = summarise(BEV, [counted])
    assert figures['off_road_rate']['3s'] == 1.0
    assert figures['driven_off_road_rate']['3s'] == 0.0
    assert 'collision_rate' not in figures
    assert 'off_road_rate' not in summarise(UNIAD, [count(UNIAD, leaving, straight(4.0), None, lines)])


def test_a_line_is_one_cell_wide_and_lies_where_it_was_put() -> None:
    grid = boundary_grid([np.array([[-10.0, 5.02], [10.0, 5.02]])], BEV)
    rows, columns = np.nonzero(grid)
    assert set(columns) == {549}  # cell 549 holds 4.9 to 5.0: the published cut, half a cell lower than it is
    assert (rows.min(), rows.max()) == (399, 599)


#: A line that comes from behind the patch, turns left 20 m ahead and leaves the patch at its side.
CORNER = np.array([[-70.0, 2.5], [20.0, 2.5], [20.0, 60.0]])


def test_of_the_boundary_twenty_points_of_each_piece_in_the_patch_are_drawn() -> None:
    """By hand: 71 m from the patch's rear to the corner and 22.3 m from there to its side, in 19 equal parts."""
    (drawn,) = drawn_boundary([CORNER])
    along = np.arange(20) * (71.0 + 22.3) / 19
    expected = [(-51.0 + s, 2.5) if s <= 71.0 else (20.0, 2.5 + s - 71.0) for s in along]
    np.testing.assert_allclose(drawn, expected, atol=1e-9)


def test_what_the_patch_cuts_in_two_is_two_lines_and_where_a_ring_begins_it_is_not_cut() -> None:
    # Out at the side and in again: 20 points each.
    wave = np.array([[-10.0, 0.0], [-10.0, 30.0], [10.0, 30.0], [10.0, 0.0]])
    left, right = sorted(drawn_boundary([wave]), key=lambda line: float(line[0, 0]))
    np.testing.assert_allclose(left, np.column_stack([np.full(20, -10.0), np.linspace(0.0, 24.8, 20)]), atol=1e-9)
    np.testing.assert_allclose(np.sort(right[:, 1]), np.linspace(0.0, 24.8, 20), atol=1e-9)
    # A ring that begins at (0, 0) and is cut at the side is one line from cut to cut: 49.6 m and its 10 m.
    ring = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 40.0], [0.0, 40.0], [0.0, 0.0]])
    (drawn,) = drawn_boundary([ring])
    assert sorted(map(tuple, drawn[[0, -1]].round(9).tolist())) == [(0.0, 24.8), (10.0, 24.8)]
    np.testing.assert_allclose(np.abs(np.diff(drawn, axis=0)).sum(axis=1).max(), 59.6 / 19, atol=1e-9)


@pytest.mark.parametrize(
    'line', [[(30.0, 30.0), (60.0, 30.0)], [(51.5, 0.0), (80.0, 0.0)], [(50.0, 25.8), (52.0, 23.8)], [(1.0, 1.0)] * 2]
)
def test_lines_beyond_the_patch_that_touch_it_in_a_point_or_have_no_length_are_not_drawn(
    line: list[tuple[float, float]],
) -> None:
    assert drawn_boundary([np.array(line)]) == []


def test_who_touches_a_corner_that_is_cut_short_does_not_leave_the_road() -> None:
    """The chord goes from (17.7, 2.5) to (20, 5.2); the ego is at the corner (20, 2.5) behind it."""
    plan = np.tile([19.6, 1.7, 0.0], (6, 1))
    body = ego_polygon(plan[1, :2], 0.0, BEV)
    assert body.intersects(LineString(CORNER))
    assert body.distance(LineString(drawn_boundary([CORNER])[0])) > 0.3
    counted = count(BEV, plan, straight(1.0), None, [CORNER])
    assert counted.off_road is not None
    assert not counted.off_road[1:].any()  # there the ego is not turned
    assert touches(plan[:, :2], [boundary_grid([CORNER], BEV)] * 6, BEV)[1:].all()


def test_a_plan_without_any_recorded_future_says_nothing_of_collisions() -> None:
    """It counts for the error, as published, but nobody knows who would have been there."""
    others = [one(10.0, 0.0)] * 6
    nothing = np.full((6, 3), np.nan)
    plans = [count(UNIAD, straight(8.0), straight(1.0), others), count(UNIAD, straight(8.0), nothing, [None] * 6)]
    assert plans[1].collides is plans[1].driven_collides is None
    figures = summarise(UNIAD, plans)
    assert (figures['samples'], figures['samples_with_agents']) == (2, 1)
    assert figures['collision_rate']['1s'] == 1.0
    assert 'collision_rate' not in summarise(UNIAD, plans[1:])


def told(capsys: pytest.CaptureFixture[str], protocol: Protocol, *plans: Counted) -> str:
    _tell_published(protocol, [BagResult('bag', counted={protocol.name: list(plans)})])
    return capsys.readouterr().out


@pytest.mark.parametrize('protocol', PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_it_is_said_of_how_many_plans_collisions_are_known(
    protocol: Protocol, capsys: pytest.CaptureFixture[str]
) -> None:
    known = count(protocol, straight(5.0), straight(4.0), NOBODY)
    partly = count(protocol, straight(5.0), straight(4.0), [*NOBODY[:5], None])
    never = count(protocol, straight(5.0), straight(4.0))
    rows = [line for line in told(capsys, protocol, known, known, partly).splitlines() if 'known of' in line]
    assert len(rows) == 2 and all(line.endswith('0.00  known of 2 plans') for line in rows)
    assert 'known of' not in told(capsys, protocol, known)
    assert 'no collisions: agents of no plan are known at all its steps' in told(capsys, protocol, partly)
    assert 'no collisions: no bag has /ground_truth/agents' in told(capsys, protocol, never)


def test_shapes_and_lengths_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r'uniad: poses of shapes \(5, 3\) and \(6, 3\), expected \(6, 3\)'):
        count(UNIAD, np.zeros((5, 3)), np.zeros((6, 3)))
    with pytest.raises(InvalidInput, match='st-p3: others at 2 times, expected 6'):
        count(ST_P3, np.zeros((6, 3)), np.zeros((6, 3)), NOBODY[:2])


@pytest.mark.parametrize('protocol', PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_where_the_others_are_unknown_nothing_is_said_of_collisions(protocol: Protocol) -> None:
    known = count(protocol, straight(5.0), straight(4.0), NOBODY)
    partly = count(protocol, straight(5.0), straight(4.0), [*NOBODY[:4], None, NOBODY[5]])
    assert known.collides is not None
    assert partly.collides is partly.driven_collides is None
    figures = summarise(protocol, [known, partly])
    assert (figures['samples'], figures['samples_with_agents']) == (2, 1)
    assert 'collision_rate' not in summarise(protocol, [partly])
