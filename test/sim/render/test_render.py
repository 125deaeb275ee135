# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The renderer against geometry: labels must lie where the camera model projects the world to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import moderngl
import numpy as np
import pytest
import sumolib

from vla_driver.geometry.projection import project
from vla_driver.geometry.rig import intrinsics_from_fov, mount
from vla_driver.geometry.se2 import points_to_global
from vla_driver.sim.render.renderer import SKY_DEPTH_M, CameraRender, GraphicsUnavailableError, Renderer
from vla_driver.sim.world.scene import Actor, Look, SemanticClass, SignalHead, SignalState
from vla_driver.types import CameraModel, CameraRig, InvalidInput

pytestmark = pytest.mark.gl

NET = Path(__file__).parents[2] / 'networks' / 'crossroads.net.xml'
#: On the right-hand lane from A0 to B0, heading east, 30 m before the junction B0.
POSE = np.array([120.0, 65.2, 0.0])
LOOK = Look(seed=4, haze=0.5)


def _camera(name: str, yaw_deg: float, fov_deg: float, width: int = 160, height: int = 96) -> CameraModel:
    return CameraModel(
        name, width, height, intrinsics_from_fov(width, height, fov_deg), mount([1.2, 0.0, 1.6], yaw_deg)
    )


RIG = CameraRig(
    'surround',
    (
        _camera('front_left', 55, 70),
        _camera('front', 0, 70, 320, 192),
        _camera('front_right', -55, 70),
        _camera('back_left', 110, 70),
        _camera('back', 180, 110),
        _camera('back_right', -110, 70),
    ),
)


@pytest.fixture(scope='module')
def net() -> sumolib.net.Net:
    return sumolib.net.readNet(str(NET), withInternal=True)


@pytest.fixture(scope='module')
def renderer(net: sumolib.net.Net) -> Iterator[Renderer]:
    try:
        made = Renderer(net, RIG, LOOK)
    except GraphicsUnavailableError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def _at(ahead_m: float, left_m: float, kind: SemanticClass = SemanticClass.CAR, number: int = 300, **more) -> Actor:
    size = {
        SemanticClass.CAR: (4.5, 1.8, 1.5),
        SemanticClass.TRUCK: (8.0, 2.5, 3.2),
        SemanticClass.BICYCLE: (1.8, 0.6, 1.75),
        SemanticClass.PEDESTRIAN: (0.45, 0.55, 1.75),
    }[kind]
    x, y = points_to_global(POSE, np.array([ahead_m, left_m]))
    return Actor(number, kind, x, y, more.pop('yaw_rad', 0.0), *size, **more)


def _centre(mask: np.ndarray) -> np.ndarray:
    v, u = np.nonzero(mask)
    return np.array([u.mean() + 0.5, v.mean() + 0.5])


def test_an_actor_ahead_is_labelled_where_it_projects(renderer: Renderer) -> None:
    out = renderer.render(POSE, [_at(15.0, 0.0)], [])
    front = out['front']
    mask = front.instance == 300
    pixels, _, visible = project(RIG['front'], [[15.0 - 2.25, 0.0, 0.75]])
    assert visible[0]
    assert np.abs(_centre(mask) - pixels[0]).max() < 4.0
    assert (front.semantic[mask] == SemanticClass.CAR).all()
    # The nearest surface is the rear end, 15 - 4.5 / 2 - 1.2 m along the axis of a lens at x = 1.2.
    assert front.depth_m[mask].min() == pytest.approx(15.0 - 2.25 - 1.2, rel=0.05)
    assert sum((view.instance == 300).any() for view in out.values()) == 1


@pytest.mark.parametrize('camera', RIG.names)
def test_every_camera_sees_what_is_in_front_of_it(renderer: Renderer, camera: str) -> None:
    axis = RIG[camera].base_from_camera[:3, 2]
    ahead, left = 1.2 + 9.0 * axis[0], 9.0 * axis[1]
    out = renderer.render(POSE, [_at(ahead, left, SemanticClass.PEDESTRIAN, 65535)], [])
    mask = out[camera].instance == 65535
    pixels, depth, _ = project(RIG[camera], [[ahead, left, 0.9]])
    assert np.abs(_centre(mask) - pixels[0]).max() < 3.0
    assert np.median(out[camera].depth_m[mask]) == pytest.approx(depth[0], rel=0.05)


def test_the_ground_has_the_depth_of_the_plane(renderer: Renderer) -> None:
    front = renderer.render(POSE, [], [])['front']
    pixels, depth, _ = project(RIG['front'], [[8.0, 0.0, 0.0], [20.0, 0.5, 0.0]])
    for (u, v), expected in zip(pixels, depth):
        assert front.semantic[int(v), int(u)] == SemanticClass.ROAD
        assert front.depth_m[int(v), int(u)] == pytest.approx(expected, rel=0.05)


def test_sky_is_above_and_road_below(renderer: Renderer) -> None:
    front = renderer.render(POSE, [], [])['front']
    assert (front.semantic[0, 140:180] == SemanticClass.SKY).all()
    assert (front.depth_m[front.semantic == SemanticClass.SKY] == SKY_DEPTH_M).all()
    assert (front.depth_m[front.semantic != SemanticClass.SKY] < SKY_DEPTH_M).all()
    assert front.semantic[-1, 160] == SemanticClass.ROAD
    labels = set(np.unique(front.semantic).tolist())
    for expected in (SemanticClass.LANE_MARKING, SemanticClass.CROSSWALK, SemanticClass.SIDEWALK):
        assert expected in labels
    assert SemanticClass.UNLABELED not in labels


def test_signals_show_their_state_in_the_right_lens(renderer: Renderer) -> None:
    def head(state: SignalState) -> SignalHead:
        return SignalHead(POSE[0] + 40.0, POSE[1], 4.5, np.pi, state)

    lenses, _, _ = project(RIG['front'], [[40.0, 0.0, 4.5 + dz] for dz in (0.64, 0.0, -0.64)])
    rows = lenses[:, 1].astype(int)
    column = int(lenses[0, 0])
    seen = {}
    for state in (SignalState.RED, SignalState.AMBER, SignalState.GREEN):
        front = renderer.render(POSE, [], [head(state)])['front']
        assert (front.semantic[rows, column] == SemanticClass.TRAFFIC_LIGHT).all()
        assert (front.semantic == SemanticClass.POLE).any()
        seen[state] = front.rgb[rows, column].astype(int)
        brightest = int(seen[state].max(axis=1).argmax())
        assert brightest == {SignalState.RED: 0, SignalState.AMBER: 1, SignalState.GREEN: 2}[state]
    red, green = seen[SignalState.RED][0], seen[SignalState.GREEN][2]
    assert red[0] > green[0] + 80
    assert green[1] > red[1] + 80


def test_a_signal_seen_from_behind_shows_no_light(renderer: Renderer) -> None:
    pictures = [
        renderer.render(POSE, [], [SignalHead(POSE[0] + 12, POSE[1], 3.0, 0.0, state)])['front'].rgb
        for state in (SignalState.RED, SignalState.GREEN)
    ]
    assert np.array_equal(*pictures)


def test_rear_and_front_of_a_car_differ(renderer: Renderer) -> None:
    def redness(yaw: float) -> float:
        front = renderer.render(POSE, [_at(9.0, 0.0, number=7, yaw_rad=yaw)], [])['front']
        body = front.rgb[front.instance == 7].astype(int)
        return float(((body[:, 0] > 150) & (body[:, 1] < 60)).mean())

    assert redness(0.0) > redness(np.pi) + 0.02


def test_a_walking_person_swings_the_legs(renderer: Renderer) -> None:
    def width_of_legs(phase: float) -> int:
        walker = _at(6.0, 0.0, SemanticClass.PEDESTRIAN, yaw_rad=np.pi / 2, speed_mps=1.4, phase_rad=phase)
        mask = renderer.render(POSE, [walker], [])['front'].instance == 300
        rows, columns = np.nonzero(mask)
        feet = columns[rows > rows.max() - 6]
        return int(feet.max() - feet.min())

    assert width_of_legs(np.pi / 2) > 1.5 * width_of_legs(0.0)


def test_people_on_the_sidewalk_stand_on_it(renderer: Renderer) -> None:
    def feet(left_m: float) -> float:
        person = _at(8.0, left_m, SemanticClass.PEDESTRIAN)
        mask = renderer.render(POSE, [person], [])['front'].instance == 300
        return float(np.nonzero(mask)[0].max())

    # The sidewalk's middle is 2.85 m to the right of the lane's; a curb of 0.13 m is 4 pixels at 6.8 m.
    assert feet(0.0) - feet(-2.85) >= 3


def test_bodies_darken_the_road_but_not_its_label(renderer: Renderer) -> None:
    empty = renderer.render(POSE, [], [])['front']
    out = renderer.render(POSE, [_at(12.0, 0.0)], [])['front']
    ground = (out.instance == 0) & (empty.semantic == SemanticClass.ROAD)
    assert np.array_equal(out.semantic[ground], empty.semantic[ground])
    darker = empty.rgb.astype(int).sum(axis=2) - out.rgb.astype(int).sum(axis=2)
    assert (darker[ground] > 60).sum() > 20


def test_labels_are_left_out_on_request(renderer: Renderer) -> None:
    actors = [_at(15.0, 0.0), _at(10.0, 4.0, SemanticClass.BICYCLE, 12), _at(-12.0, 0.0, SemanticClass.TRUCK, 13)]
    full, plain = renderer.render(POSE, actors, []), renderer.render(POSE, actors, [], labels=False)
    for camera in RIG:
        assert full[camera.name].rgb.shape == (camera.height, camera.width, 3)
        assert full[camera.name].rgb.dtype == np.uint8
        assert full[camera.name].semantic.dtype == np.uint8
        assert full[camera.name].instance.dtype == np.uint16
        assert full[camera.name].depth_m.dtype == np.float32
        assert plain[camera.name] == CameraRender(plain[camera.name].rgb)
        assert np.array_equal(plain[camera.name].rgb, full[camera.name].rgb)


def test_an_off_centre_principal_point_moves_the_picture(net: sumolib.net.Net, renderer: Renderer) -> None:
    matrix = intrinsics_from_fov(200, 120, 80)
    matrix[0, 2], matrix[1, 1], matrix[1, 2] = 120.0, 1.2 * matrix[1, 1], 45.0
    camera = CameraModel('front', 200, 120, matrix, mount([1.5, 0.2, 1.8], 10.0, 4.0, 3.0))
    odd = Renderer(net, CameraRig('odd', (camera,)), LOOK)
    try:
        person = _at(10.0, 2.0, SemanticClass.PEDESTRIAN)
        mask = odd.render(POSE, [person], [])['front'].instance == 300
        # Another renderer's context in the same process must not disturb this one.
        other = renderer.render(POSE, [person], [])['front'].instance == 300
    finally:
        odd.close()
    assert np.abs(_centre(mask) - project(camera, [[10.0, 2.0, 0.9]])[0][0]).max() < 2.5
    assert np.abs(_centre(other) - project(RIG['front'], [[10.0, 2.0, 0.9]])[0][0]).max() < 2.5


def test_the_sky_has_no_seam(net: sumolib.net.Net, renderer: Renderer) -> None:
    camera = CameraModel('up', 240, 64, intrinsics_from_fov(240, 64, 90), mount([0, 0, 1.6], 180.0, -25.0))
    sky = Renderer(net, CameraRig('sky', (camera,)), dataclasses.replace(LOOK, haze=1.5))
    try:
        out = sky.render([400.0, 400.0, 0.0], [], [])['up']
    finally:
        sky.close()
    columns = out.rgb[:40].astype(int)
    assert (out.semantic[:40] == SemanticClass.SKY).all()
    assert columns.std() > 2.0
    assert np.abs(np.diff(columns, axis=1)).max() < 12


def test_a_look_is_reproducible_and_looks_differ(net: sumolib.net.Net, renderer: Renderer) -> None:
    def picture(look: Look) -> np.ndarray:
        made = Renderer(net, RIG, look)
        try:
            return made.render(POSE, [_at(14.0, 0.0)], [], labels=False)['front'].rgb
        finally:
            made.close()

    first = renderer.render(POSE, [_at(14.0, 0.0)], [], labels=False)['front'].rgb
    assert np.array_equal(first, picture(LOOK))
    assert (first != picture(dataclasses.replace(LOOK, seed=5))).mean() > 0.3
    assert picture(dataclasses.replace(LOOK, brightness=0.75)).mean() < 0.85 * first.mean()


def test_more_instances_than_expected_are_drawn(renderer: Renderer) -> None:
    crowd = [_at(6.0 + 0.06 * k, 12.0 * ((k % 40) / 20 - 1), SemanticClass.PEDESTRIAN, 1 + k) for k in range(1500)]
    front = renderer.render(POSE, crowd, [])['front']
    assert len(np.unique(front.instance)) > 100
    # The buffers have been replaced by larger ones; the next picture is whole again.
    assert (renderer.render(POSE, [_at(15.0, 0.0)], [])['front'].instance == 300).any()


@pytest.mark.parametrize(
    ('actor', 'message'),
    [
        (_at(9.0, 0.0, number=65536), r'65536.*1\.\.65535'),
        (_at(9.0, 0.0, number=0), r'actor id 0'),
        (dataclasses.replace(_at(9.0, 0.0), kind=SemanticClass.BUILDING), 'BUILDING'),
        (dataclasses.replace(_at(9.0, 0.0), x_m=float('nan')), 'not finite'),
        (dataclasses.replace(_at(9.0, 0.0), width_m=0.0), 'width_m'),
    ],
)
def test_actors_that_cannot_be_drawn_are_refused(renderer: Renderer, actor: Actor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        renderer.render(POSE, [actor], [])


def test_a_pose_that_is_not_finite_is_refused(renderer: Renderer) -> None:
    with pytest.raises(InvalidInput, match='ego_pose'):
        renderer.render([0.0, float('inf'), 0.0], [], [])


def test_missing_graphics_names_the_packages(net: sumolib.net.Net, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError('libEGL.so.1 not loaded')

    monkeypatch.setattr(moderngl, 'create_context', fail)
    with pytest.raises(GraphicsUnavailableError, match=r'libEGL.*apt-get install .*libegl1'):
        Renderer(net, RIG, LOOK)
