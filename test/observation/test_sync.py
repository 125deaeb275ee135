# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""CameraSync: what leaves, when, and that nothing stops it."""

from __future__ import annotations

import contextlib
import math
import time

import pytest

from vla_driver.observation.sync import CameraSync, SyncedSet
from vla_driver.types import CAMERA_NAMES, InvalidInput

STEP_S = 0.1


def run(sync: CameraSync, frames: list[tuple[str, float]], flush: bool = True) -> list[SyncedSet]:
    """Push (camera, stamp) in order; payloads tell camera and stamp, so that a mix-up shows."""
    sets = [sync.push(camera, stamp_s, (camera, stamp_s)) for camera, stamp_s in frames]
    if flush:
        sets.append(sync.flush())
    return [s for s in sets if s is not None]


def ring(count: int, start_s: float = 100.0, spread_s: float = 0.002, silent: dict[str, int] | None = None):
    """`count` rounds at 10 Hz, camera i stamped i * spread_s late; `silent`: camera -> round it stops at."""
    return [
        (camera, start_s + k * STEP_S + i * spread_s)
        for k in range(count)
        for i, camera in enumerate(CAMERA_NAMES)
        if k < (silent or {}).get(camera, count)
    ]


def test_identical_stamps_need_no_slack():
    sync = CameraSync(CAMERA_NAMES, max_skew_s=0.0)
    sets = run(sync, ring(20, spread_s=0.0))
    assert len(sets) == 20
    assert all(s.skew_s == 0.0 and not s.missing and set(s.frames) == set(CAMERA_NAMES) for s in sets)


def test_frames_are_the_nearest_ones():
    sync = CameraSync(CAMERA_NAMES)
    sets = run(sync, ring(30, spread_s=0.008))
    assert len(sets) == 30
    for s in sets:
        for camera, frame in s.frames.items():
            assert frame.payload == (camera, frame.stamp_s)
            wanted = s.stamp_s + (CAMERA_NAMES.index(camera) - CAMERA_NAMES.index('front')) * 0.008
            assert frame.stamp_s == pytest.approx(wanted, abs=1e-9)
        assert s.skew_s == pytest.approx(0.032, abs=1e-6)


def test_a_camera_that_fires_before_the_anchor_costs_no_waiting():
    """Its next frame would come 80 ms after the anchor: it is settled by its own rhythm, once that is known."""
    sync = CameraSync(('front', 'back'))
    leaving = {}
    for k in range(5):
        for camera, stamp_s in (('back', k * STEP_S - 0.02), ('front', k * STEP_S)):
            for s in run(sync, [(camera, stamp_s)], flush=False):
                leaving[round(s.stamp_s, 3)] = (camera, stamp_s, s.frames['back'].stamp_s)
    for k in range(1, 5):
        camera, stamp_s, back_s = leaving[round(k * STEP_S, 3)]
        assert (camera, stamp_s) == ('front', k * STEP_S)
        assert back_s == pytest.approx(k * STEP_S - 0.02)


def test_waits_for_a_nearer_frame_that_is_due():
    sync = CameraSync(('front', 'back'), max_skew_s=0.06)
    for stamp_s in (0.0, 0.1):
        sync.push('back', stamp_s, None)
    assert sync.push('front', 0.15, None) is None  # 0.1 is within reach, but 0.2 may come and be as near
    synced = sync.push('back', 0.16, None)
    assert synced is not None and synced.frames['back'].stamp_s == 0.16


def test_frames_beyond_the_skew_do_not_match():
    sync = CameraSync(('front', 'back'), max_skew_s=0.03)
    assert (
        run(sync, [(c, k * STEP_S + (0.04 if c == 'back' else 0.0)) for k in range(10) for c in ('front', 'back')])
        == []
    )
    sync = CameraSync(('front', 'back'), max_skew_s=0.03)
    assert (
        len(run(sync, [(c, k * STEP_S + (0.03 if c == 'back' else 0.0)) for k in range(10) for c in ('front', 'back')]))
        == 10
    )


def test_looped_bag_in_which_one_camera_had_ended_early_recovers():
    sync = CameraSync(CAMERA_NAMES)
    first = run(sync, ring(300, silent={'back_right': 250}), flush=False)
    assert len(first) == 250
    again = run(sync, ring(200), flush=False)
    assert len(again) >= 199
    assert again[-1].stamp_s == pytest.approx(100.0 + 199 * STEP_S + 0.002)
    assert sync.resets >= 1


@pytest.mark.parametrize('rounds', [3, 5, 12, 300])
def test_clean_loops_of_any_length_never_stop_the_sets(rounds):
    sync = CameraSync(CAMERA_NAMES)
    run(sync, ring(rounds), flush=False)
    laps = [len(run(sync, ring(rounds), flush=False)) for _ in range(12)]
    assert sync.resets >= 1
    if rounds * STEP_S > sync.jump_s + STEP_S:
        assert min(laps) >= rounds - 1
    else:  # too short to be told from frames that were overtaken, until there are many of them
        assert sum(laps) >= rounds


def test_sets_of_two_laps_are_never_mixed():
    sync = CameraSync(CAMERA_NAMES, policies={'back': 'skip'})
    run(sync, ring(40), flush=False)
    for s in run(sync, ring(40), flush=False):
        assert all(abs(frame.stamp_s - s.stamp_s) <= 0.06 for frame in s.frames.values())


def test_an_exception_where_the_set_is_used_does_not_stop_the_next():
    sync = CameraSync(CAMERA_NAMES)
    delivered = []

    def use(synced: SyncedSet | None) -> None:
        if synced is not None:
            delivered.append(synced)
            if len(delivered) == 1:
                raise RuntimeError('the user of the set failed')

    for camera, stamp_s in ring(10):
        with contextlib.suppress(RuntimeError):
            use(sync.push(camera, stamp_s, None))
    assert len(delivered) == 10


def test_worst_case_is_bounded():
    """Many candidates on five cameras, then the sixth: an approximate-time search multiplies, this must not."""
    sync = CameraSync(CAMERA_NAMES, max_skew_s=0.5, buffer=10)
    frames = []
    for i, camera in enumerate(CAMERA_NAMES[:5]):
        sign = 1 if i % 2 else -1
        frames += [(camera, 10 + sign * 0.5 * (0.55 + 0.04 * k)) for k in range(10)]
    start = time.process_time()  # what others take of the machine meanwhile does not count
    run(sync, sorted(frames, key=lambda f: f[1]) + [(CAMERA_NAMES[5], 10.0)])
    assert time.process_time() - start < 0.05


def test_memory_is_bounded():
    sync = CameraSync(CAMERA_NAMES, buffer=8)
    run(sync, ring(500, silent={'back': 0}), flush=False)
    assert max(len(camera.frames) for camera in sync._cameras.values()) <= 8
    assert sync.status().dropped >= 490


def test_a_required_camera_that_stops_stops_the_sets_and_is_named():
    sync = CameraSync(CAMERA_NAMES)
    sets = run(sync, ring(30, silent={'back': 10}))
    assert len(sets) == 10
    status = sync.status()
    assert status.missing == ('back',)
    assert 'last frame' in status.cameras['back'].problem
    assert status.cameras['front'].problem == ''


def test_a_camera_never_seen_is_named():
    sync = CameraSync(CAMERA_NAMES)
    run(sync, ring(10, silent={'front_left': 0}))
    assert sync.status().cameras['front_left'].problem == 'no frame yet'


@pytest.mark.parametrize('policy', ['skip', 'black'])
def test_a_camera_that_may_be_missing_does_not_stop_the_sets(policy):
    sync = CameraSync(CAMERA_NAMES, policies={'back': policy})
    sets = run(sync, ring(30, silent={'back': 10}))
    assert len(sets) == 30
    assert [s.missing for s in sets] == [()] * 10 + [('back',)] * 20
    assert sync.status().incomplete == 20


def test_without_the_anchor_nothing_leaves():
    sync = CameraSync(CAMERA_NAMES, policies={name: 'skip' for name in CAMERA_NAMES if name != 'front'})
    assert run(sync, ring(20, silent={'front': 0})) == []


def test_a_required_camera_that_is_always_late_delays_but_does_not_stop():
    """Frames of `back` arrive 1.2 anchor periods after their stamp, while newer anchors keep coming."""
    sync = CameraSync(('front', 'back'))
    events = [(k * STEP_S, 'front', k * STEP_S) for k in range(50)]
    events += [(k * STEP_S + 0.12, 'back', k * STEP_S) for k in range(50)]
    sets = []
    for now_s, camera, stamp_s in sorted(events):
        synced = sync.push(camera, stamp_s, None, now_s=now_s)
        sets += [synced] if synced else []
    assert [s.stamp_s for s in sets] == [pytest.approx(k * STEP_S) for k in range(50)]


def test_the_clock_ends_the_waiting():
    sync = CameraSync(('front', 'back'), policies={'back': 'skip'}, wait_s=0.05)
    assert sync.push('front', 7.0, None, now_s=1000.0) is None
    assert sync.poll(1000.04) is None
    synced = sync.poll(1000.05)
    assert synced is not None and synced.stamp_s == 7.0 and synced.missing == ('back',)
    assert sync.poll(1000.2) is None


def test_the_newest_complete_set_wins():
    sync = CameraSync(('front', 'back'))
    for stamp_s in (0.0, 0.1, 0.2):
        assert sync.push('front', stamp_s, None) is None
    assert sync.push('back', 0.2, None).stamp_s == 0.2
    assert sync.push('back', 0.1, None) is None
    assert sync.status().dropped == 2


def test_a_frame_that_was_overtaken_still_counts():
    sync = CameraSync(('front', 'back'), max_skew_s=0.02)
    sync.push('back', 0.1, None)
    sync.push('front', 0.0, None)
    assert sync.push('back', 0.0, None).stamp_s == 0.0
    assert sync.resets == 0


def test_one_wild_stamp_is_survived():
    sync = CameraSync(CAMERA_NAMES)
    run(sync, ring(5), flush=False)
    run(sync, [('back', 5000.0)], flush=False)
    assert len(run(sync, ring(20, start_s=101.0))) >= 18


def test_clocks_that_disagree_are_named():
    sync = CameraSync(CAMERA_NAMES)
    frames = [(c, t + (900.0 if c == 'back' else 0.0)) for c, t in ring(10)]
    assert run(sync, frames) == []
    status = sync.status()
    assert 'do the clocks agree' in status.cameras['back'].problem or status.cameras['front'].problem


def test_rewind_drops_only_the_time_before_the_jump():
    sync = CameraSync(CAMERA_NAMES)
    run(sync, ring(10), flush=False)
    assert not sync.rewind(200.0)
    assert sync.rewind(50.0)
    assert len(run(sync, ring(10, start_s=50.0))) == 10


def test_bad_arguments_and_stamps_are_refused_with_what_is_allowed():
    with pytest.raises(InvalidInput, match='require, skip, black'):
        CameraSync(CAMERA_NAMES, policies={'back': 'ignore'})
    with pytest.raises(InvalidInput, match='anchor'):
        CameraSync(('left', 'right'))
    with pytest.raises(InvalidInput, match='anchor: its policy must be require'):
        CameraSync(CAMERA_NAMES, policies={'front': 'skip'})
    with pytest.raises(InvalidInput, match='max_skew_s'):
        CameraSync(CAMERA_NAMES, max_skew_s=math.nan)
    sync = CameraSync(CAMERA_NAMES)
    with pytest.raises(InvalidInput, match='roof'):
        sync.push('roof', 1.0, None)
    with pytest.raises(InvalidInput, match='finite'):
        sync.push('front', math.nan, None)


def test_a_camera_that_is_gone_is_waited_for_no_longer_than_a_second():
    """Waited for, it would make every tick late by the whole wait, for as long as the drive lasts."""
    sync = CameraSync(('front', 'back'), policies={'back': 'skip'}, wait_s=0.05)
    delays = []
    for k in range(40):
        for camera in ('back', 'front') if k < 10 else ('front',):
            stamp_s = 100.0 + k * STEP_S
            got = sync.push(camera, stamp_s, None, stamp_s)
            if got is None and camera == 'front':
                got = sync.poll(stamp_s + 0.05)
                delays.append(0.05)
            elif camera == 'front':
                delays.append(0.0)
            assert camera == 'back' or got is not None
    assert delays[:10] == [0.0] * 10
    assert set(delays[10:19]) == {0.05}
    assert set(delays[21:]) == {0.0}


def test_a_camera_that_never_spoke_is_not_waited_for_either():
    sync = CameraSync(('front', 'back'), policies={'back': 'black'}, wait_s=0.05)
    at_once = [sync.push('front', 100.0 + k * STEP_S, None, 100.0 + k * STEP_S) for k in range(12)]
    assert all(got is not None and got.missing == ('back',) for got in at_once[6:])
    required = CameraSync(('front', 'back'), wait_s=0.05)
    assert not any(required.push('front', 100.0 + k * STEP_S, None) for k in range(30))


def test_frames_farther_than_the_skew_are_named_with_how_far():
    """Cameras that fire 70 ms after the front one, at 5 Hz."""
    sync = CameraSync(('front', 'back'))
    for k in range(20):
        sync.push('front', 100.0 + 0.2 * k, None)
        sync.push('back', 100.07 + 0.2 * k, None)
    problem = sync.status().cameras['back'].problem
    assert '0.070 s from those of front' in problem
    assert 'max_skew_s' in problem
    wider = CameraSync(('front', 'back'), max_skew_s=0.08)
    assert (
        len(
            run(
                wider,
                [(c, 100.0 + 0.2 * k + (0.07 if c == 'back' else 0.0)) for k in range(9) for c in ('front', 'back')],
            )
        )
        == 9
    )
    assert wider.status().cameras['back'].problem == ''


def test_clocks_of_cameras_that_differ_are_no_matter_of_skew():
    sync = CameraSync(('front', 'back'))
    for k in range(30):
        sync.push('front', 100.0 + 0.1 * k, None)
        sync.push('back', 105.0 + 0.1 * k, None)
    ((reason, count),) = sync.lost().items()
    assert 'do the clocks agree?' in reason
    assert 'max_skew_s' not in reason
    assert count > 20


@pytest.mark.parametrize('frozen', ['front', 'back'])
def test_a_frozen_camera_is_named_and_no_healthy_one(frozen):
    """It sends on and on, with the stamp of its last picture."""
    sync = CameraSync(CAMERA_NAMES)
    for k in range(60):
        for camera in CAMERA_NAMES:
            sync.push(camera, 100.0 + 0.1 * (min(k, 10) if camera == frozen else k), None, now_s=0.1 * k)
    status = sync.status(now_s=5.9)
    assert status.missing == (frozen,)
    assert status.cameras[frozen].problem == 'repeats its stamp, last new frame 4.90 s ago'
    silent = sync.status(now_s=9.0, stale_s=1.0).cameras[frozen].problem
    assert silent == 'last frame 8.00 s ago'  # what repeated itself has stopped, too


def test_a_camera_that_sends_each_frame_twice_is_well():
    sync = CameraSync(CAMERA_NAMES)
    for k in range(20):
        for camera in CAMERA_NAMES * 2:
            sync.push(camera, 100.0 + 0.1 * k, None, now_s=0.1 * k)
    assert sync.status(now_s=1.95).missing == ()
