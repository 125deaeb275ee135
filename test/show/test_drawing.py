# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The plan is drawn where it is: pixels are compared with projected points."""

from __future__ import annotations

import numpy as np
import pytest

from vla_driver.geometry import unicycle
from vla_driver.geometry.projection import project
from vla_driver.geometry.rig import load_rig
from vla_driver.show import drawing
from vla_driver.show.film import FilmWriter
from vla_driver.types import CAMERA_NAMES, EgoState, InvalidInput, Plan, PlanSource

RIG = load_rig('sim')
GREY = np.full((192, 320, 3), 90, np.uint8)


def plan_of(speed: float = 8.0, curvature: float = 0.0, source: PlanSource = PlanSource.POLICY) -> Plan:
    trajectory = unicycle.integrate(speed, np.zeros(20), np.full(20, curvature))
    return Plan(0.0, trajectory, EgoState(0.0, 0.0, 0.0, 0.0, speed), 'test', source)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before.astype(int) != after.astype(int)).any(axis=2)


def test_the_carpet_lies_on_the_projected_path() -> None:
    plan = plan_of(curvature=0.02)
    drawn = drawing.draw_plan_in_camera(GREY, RIG['front'], plan)
    touched = changed(GREY, drawn)
    path = drawing.dense_path(plan)
    ground = np.column_stack([path[:, :2], np.zeros(len(path))])
    pixels, _, visible = project(RIG['front'], ground)
    near = visible & (path[:, 0] > 6.0) & (path[:, 0] < 25.0)
    assert near.sum() > 50
    columns, rows = np.floor(pixels[near]).astype(int).T
    assert touched[rows, columns].all()
    # The sky stays as it was, and so does the picture that was handed in.
    assert not touched[:80].any()
    assert (GREY == 90).all()


@pytest.mark.parametrize('camera', ['back', 'back_left', 'back_right'])
def test_cameras_that_look_back_see_no_plan_that_leads_ahead(camera: str) -> None:
    assert not changed(GREY, drawing.draw_plan_in_camera(GREY, RIG[camera], plan_of())).any()


def test_a_standing_car_has_no_carpet() -> None:
    assert len(drawing.dense_path(plan_of(speed=0.0))) == 1
    assert not changed(GREY, drawing.draw_plan_in_camera(GREY, RIG['front'], plan_of(speed=0.0))).any()


def test_a_fallback_is_drawn_in_another_colour() -> None:
    pictures = [
        drawing.draw_plan_in_camera(GREY, RIG['front'], plan_of(source=source)).astype(int) for source in PlanSource
    ]
    for k, picture in enumerate(pictures):
        assert all(np.abs(picture - other).max() > 50 for other in pictures[:k])


def test_the_mosaic_names_the_camera_that_is_missing() -> None:
    frames = dict.fromkeys(CAMERA_NAMES, GREY)
    whole = drawing.mosaic(frames, RIG, None, cell=(320, 192))
    del frames['back']
    without = drawing.mosaic(frames, RIG, None, cell=(320, 192))
    where = np.argwhere(changed(whole, without))
    # Second row, middle column, nothing else.
    assert where[:, 0].min() >= 196
    assert where[:, 1].min() >= 324
    assert where[:, 1].max() < 648
    assert (without[196:, 324:644] == drawing.STOP_COLOUR).all(axis=2).sum() == 0  # mixed, not pure
    assert without[200, 330, 0] > without[200, 330, 2] + 50  # a red label


def test_the_mosaic_keeps_aspect_ratios() -> None:
    square = np.full((100, 100, 3), 255, np.uint8)
    sheet = drawing.mosaic({'front_left': square}, RIG, None, cell=(320, 192))
    white = (sheet[100, :320] > 250).all(axis=1)
    assert 188 <= white.sum() <= 192


def test_the_birds_eye_view_has_left_on_the_left() -> None:
    left_turn = drawing.birds_eye(plan_of(curvature=0.05), drawing.Scene(), (400, 600))
    colour = np.array(drawing.PLAN_COLOUR)
    columns = np.argwhere(np.abs(left_turn.astype(int) - colour).max(axis=2) < 8)[:, 1]
    assert columns.min() < 150
    assert columns.max() < 215  # the ego stands in the middle; nothing of a left turn is right of it
    agent = np.array([[10.0, 5.0, 0.0, 4.5, 1.8]])
    scene = drawing.birds_eye(None, drawing.Scene(agents=agent), (400, 600))
    at = np.argwhere((scene == drawing.AGENT_COLOUR).all(axis=2)).mean(axis=0)
    scale = 600 / 56
    assert at[1] == pytest.approx(200 - 5 * scale, abs=3)
    assert at[0] == pytest.approx(600 * 42 / 56 - 10 * scale, abs=12)


def test_a_target_point_outside_is_shown_at_the_edge() -> None:
    scene = drawing.Scene(targets_m=np.array([[120.0, 0.0], [20.0, 0.0]]))
    picture = drawing.birds_eye(None, scene, (400, 600))
    rows = np.argwhere((picture == drawing.TARGET_COLOUR).all(axis=2))[:, 0]
    assert rows.min() < 40  # the arrow head
    assert ((rows > 200) & (rows < 300)).any()  # the diamond 20 m ahead


@pytest.mark.parametrize('suffix', ['.mp4', '.webp', '.gif'])
def test_films_can_be_read_back(tmp_path, suffix: str) -> None:  # type: ignore[no-untyped-def]
    import cv2
    from PIL import Image

    path = tmp_path / f'film{suffix}'
    with FilmWriter(path, fps=5.0, width=160) as film:
        for k in range(6):
            film.add(np.full((97, 321, 3), 40 * k, np.uint8))
    if suffix == '.mp4':
        video = cv2.VideoCapture(str(path))
        frames = 0
        while video.read()[0]:
            frames += 1
        assert frames == 6
        assert video.get(cv2.CAP_PROP_FPS) == 5.0
    else:
        with Image.open(path) as picture:
            assert picture.n_frames == 6
            assert picture.size == (160, 48)


def test_an_unknown_film_format_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match=r"suffix '\.avi'"):
        FilmWriter(tmp_path / 'film.avi', fps=5.0)
