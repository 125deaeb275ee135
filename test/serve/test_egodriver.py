# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The egodriver contract over real gRPC: by the other side's own loop, and asked by our simulator."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from carla_driver_interface.geometry import Pose, Trajectory
from carla_driver_interface.protocol import (
    DriveRequest,
    DriveSessionRequest,
    EgodriverServiceStub,
    Empty,
    RolloutCameraImage,
    RolloutEgoTrajectory,
)
from carla_driver_interface.server import serving
from carla_driver_interface.testing import FakeCamera, FakeLoop, LoopResult

from vla_driver.geometry.rig import load_rig
from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.policies.egodriver import EgodriverPolicy
from vla_driver.policies.registry import make_policy
from vla_driver.serve import egodriver
from vla_driver.serve.egodriver import EgoDriver
from vla_driver.serve.maps import write_map
from vla_driver.settings.serving import ServingParameters
from vla_driver.types import (
    CameraFrame,
    EgoState,
    Intent,
    InvalidInput,
    MalformedAnswer,
    Navigation,
    Observation,
    Plan,
    Policy,
    TurnCommand,
)

SIX = [
    FakeCamera(f'cam_{name}', 320, 192, fov, x, y, 1.55, yaw_left_deg=yaw)
    for name, fov, x, y, yaw in (
        ('f', 70, 1.7, 0.0, 0),
        ('fl', 70, 1.5, 0.5, 55),
        ('fr', 70, 1.5, -0.5, -55),
        ('bl', 70, 1.0, 0.5, 110),
        ('br', 70, 1.0, -0.5, -110),
        ('b', 110, 0.0, 0.0, 180),
    )
]
#: No test may hang on how fast this machine is.
PATIENT = ServingParameters(sessions=2, answer_within_s=60.0)


def nano() -> Policy:
    return make_policy('model', engine='torch')


@pytest.fixture(scope='module')
def nanos() -> EgoDriver:
    """Two policies are loaded once for all tests: sessions reset them."""
    return EgoDriver(nano, PATIENT)


@pytest.fixture
def served(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[str]]:
    @contextlib.contextmanager
    def serve(driver: EgoDriver, unix: bool = False) -> Iterator[str]:
        host = f'unix://{tmp_path}/driver.sock' if unix else '127.0.0.1'
        with serving(driver, port=0, host=host) as port:
            yield host if unix else f'{host}:{port}'

    return serve


def drive(address: str, steps: int, speed_mps: float = 5.0) -> LoopResult:
    with FakeLoop(address, SIX, initial_speed_mps=speed_mps) as loop:
        return loop.run(steps)


@pytest.mark.parametrize('unix', [False, True], ids=['tcp', 'unix'])
def test_the_other_sides_loop_drives_nano(nanos: EgoDriver, served: Callable[..., object], unix: bool) -> None:
    with served(nanos, unix) as address:
        result = drive(address, 12)
    assert result.steps == 12
    assert [debug.scalars['answered_planned'] for debug in result.debug if debug is not None] == [1.0] * 12
    assert result.ego.positions[-1, 0] > 4.0
    assert np.abs(result.lateral_offsets_m).max() < 1.0


def test_sessions_side_by_side_drive_as_each_does_alone(nanos: EgoDriver, served: Callable[..., object]) -> None:
    with served(nanos) as address:
        alone = [drive(address, 10, speed) for speed in (3.0, 8.0)]
        together: dict[float, LoopResult] = {}

        def run(speed: float) -> None:
            together[speed] = drive(address, 10, speed)

        threads = [threading.Thread(target=run, args=(speed,)) for speed in (3.0, 8.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for speed, result in zip((3.0, 8.0), alone, strict=True):
        assert together[speed].ego.positions == pytest.approx(result.ego.positions, abs=1e-3)


def test_alpasims_mode_and_version(served: Callable[..., object]) -> None:
    driver = EgoDriver(ConstantVelocityPolicy, PATIENT)
    with serving(driver, port=0, host='127.0.0.1', mode='alpasim') as port:
        with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
            version = EgodriverServiceStub(channel).get_version(Empty(), timeout=10.0)
        result = drive(f'127.0.0.1:{port}', 3)
    assert version.version_id.startswith('vla_driver-')
    assert result.steps == 3


class Defective(ConstantVelocityPolicy):
    """Fails as no policy should, once it has been warmed up."""

    def __init__(self) -> None:
        self.plans = 0

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        self.plans += 1
        if self.plans > 1:
            raise ZeroDivisionError('a defect')
        return super().plan(observation, intent)


def test_a_defect_is_answered_with_a_stop(served: Callable[..., object], caplog: pytest.LogCaptureFixture) -> None:
    with served(EgoDriver(Defective, PATIENT)) as address:
        result = drive(address, 3)
    assert result.steps == 3
    assert result.debug[0].scalars['answered_fallback'] == 1.0
    assert result.speeds_mps[-1] < result.speeds_mps[0]
    assert 'ZeroDivisionError' in caplog.text


def test_one_session_too_many_is_refused_with_what_to_do(served: Callable[..., object]) -> None:
    driver = EgoDriver(ConstantVelocityPolicy, ServingParameters(sessions=1))
    with served(driver) as address, grpc.insecure_channel(address) as channel:
        stub = EgodriverServiceStub(channel)
        stub.start_session(request('a'), timeout=10.0)
        with pytest.raises(grpc.RpcError, match=r'1 sessions are open, as many as may be: close one, or .*--sessions'):
            stub.start_session(request('b'), timeout=10.0)


def test_a_silent_session_makes_place_for_another_one(
    served: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = EgoDriver(ConstantVelocityPolicy, ServingParameters(sessions=1))
    monkeypatch.setattr(egodriver, '_SILENT_S', 0.0)
    with served(driver) as address, grpc.insecure_channel(address) as channel:
        stub = EgodriverServiceStub(channel)
        stub.start_session(request('a'), timeout=10.0)
        stub.start_session(request('b'), timeout=10.0)
        with pytest.raises(grpc.RpcError, match='session a was given up'):
            stub.drive(DriveRequest(session_uuid='a', time_now_us=0), timeout=10.0)
        assert len(stub.drive(DriveRequest(session_uuid='b', time_now_us=0), timeout=10.0).trajectory.poses) == 0


def test_a_camera_that_the_policy_does_not_have_is_refused_before_the_port_opens() -> None:
    with pytest.raises(InvalidInput, match='camera roof: the policy has none of that name; it has front'):
        EgoDriver(ConstantVelocityPolicy, PATIENT, {'roof': 'cam_f'})


def test_a_pose_that_is_none_is_refused_and_nothing_is_seen_from_it(served: Callable[..., object]) -> None:
    with served(EgoDriver(ConstantVelocityPolicy, PATIENT)) as address, grpc.insecure_channel(address) as channel:
        stub = EgodriverServiceStub(channel)
        stub.start_session(request('a'), timeout=10.0)

        def answered(now_us: int, x_m: float) -> int:
            at = Trajectory([now_us], [Pose.from_xyz_yaw(x_m, 0.0, 0.0, 0.0)])
            told = RolloutEgoTrajectory(session_uuid='a', trajectory=at.to_proto())
            if np.isfinite(x_m):
                stub.submit_egomotion_observation(told, timeout=10.0)
            else:
                with pytest.raises(grpc.RpcError, match=r'egomotion at 0\.100000 s: pose .* expected finite numbers'):
                    stub.submit_egomotion_observation(told, timeout=10.0)
            return len(stub.drive(DriveRequest(session_uuid='a', time_now_us=now_us), timeout=10.0).trajectory.poses)

        assert answered(0, 1.0) > 0
        with pytest.raises(grpc.RpcError, match='session a: its newest pose is not finite'):
            answered(100_000, float('nan'))
        assert answered(200_000, 2.0) > 0


def test_cameras_that_show_nothing_ahead_are_refused(served: Callable[..., object]) -> None:
    driver = EgoDriver(ConstantVelocityPolicy, ServingParameters(sessions=1))
    with served(driver) as address, grpc.insecure_channel(address) as channel:
        stub = EgodriverServiceStub(channel)
        with pytest.raises(grpc.RpcError, match='no camera looks ahead'):
            stub.start_session(request('a', FakeCamera('rear', yaw_left_deg=180.0)), timeout=10.0)
        stub.start_session(request('a'), timeout=10.0)  # its place is free again


def request(session: str, camera: FakeCamera = SIX[0]) -> DriveSessionRequest:
    made = DriveSessionRequest(session_uuid=session)
    made.rollout_spec.vehicle.available_cameras.append(camera.available_camera(1))
    return made


def observation(stamp_s: float = 0.0, speed_mps: float = 6.0) -> Observation:
    rig = load_rig('sim')
    frames = {}
    for camera in rig:
        picture = np.random.default_rng(1).integers(0, 255, (camera.height, camera.width, 3), np.uint8)
        frames[camera.name] = CameraFrame(camera.name, stamp_s, picture)
    ego = EgoState(stamp_s, 100.0, -20.0, 2.0, speed_mps)
    navigation = Navigation(TurnCommand.FOLLOW, 60.0, np.array([[35.0, 0.0], [70.0, 0.0]]))
    return Observation(stamp_s, frames, rig, ego, navigation)


def ahead() -> np.ndarray:
    """100 m straight on from the ego of `observation`, in the odometry frame."""
    way = np.arange(0.0, 100.0, 2.0)[:, None]
    return np.array([100.0, -20.0]) + way * np.array([np.cos(2.0), np.sin(2.0)])


def test_a_plan_that_comes_over_the_wire_is_the_plan(nanos: EgoDriver, served: Callable[..., object]) -> None:
    own = nano().plan(observation())
    with served(nanos) as address:
        remote = EgodriverPolicy(address, ahead)
        plan = remote.plan(observation())
        remote.close()
    assert plan.trajectory.positions_m == pytest.approx(own.trajectory.positions_m, abs=1e-3)
    assert plan.trajectory.yaw_rad == pytest.approx(own.trajectory.yaw_rad, abs=1e-4)
    assert plan.trajectory.speed_mps == pytest.approx(own.trajectory.speed_mps, abs=0.3)


def test_a_served_drive_knows_the_junctions_of_the_map_that_it_is_in(
    served: Callable[..., object], tmp_path: Path
) -> None:
    """`ahead` is straight: by the route alone nothing is ahead, by the map a junction that is crossed."""
    (x, y), (dx, dy) = ahead()[15], np.array([np.cos(2.0), np.sin(2.0)])
    road = f'<geometry x="{x}" y="{y}" hdg="{np.arctan2(dy, dx)}" length="20"><line/></geometry>'
    text = f'<OpenDRIVE><road id="1" junction="7"><planView>{road}</planView></road></OpenDRIVE>'
    write_map(tmp_path, 'town', text)
    wanted = ServingParameters(sessions=1, answer_within_s=60.0, map_dir=str(tmp_path))
    driver = EgoDriver(ConstantVelocityPolicy, wanted)
    with served(driver) as address:
        for world, command in (('', TurnCommand.FOLLOW), ('town', TurnCommand.STRAIGHT), ('other', TurnCommand.FOLLOW)):
            remote = EgodriverPolicy(address, ahead, world)
            for _ in range(40):  # until the map is read
                remote.plan(observation())
                (session,) = driver._sessions.values()
                if session._turn[0] is not TurnCommand.FOLLOW:
                    break
                time.sleep(0.05)
            assert session._turn[0] is command
            if world == 'town':
                assert session._turn[1] == pytest.approx(30.0, abs=1.5)
            remote.close()


def test_reset_ends_the_session(served: Callable[..., object]) -> None:
    driver = EgoDriver(ConstantVelocityPolicy, ServingParameters(sessions=1, answer_within_s=60.0))
    with served(driver) as address:
        remote = EgodriverPolicy(address, ahead)
        for _ in range(3):
            assert remote.plan(observation()).trajectory.speed_mps == pytest.approx(np.full(20, 6.0), abs=1e-3)
            remote.reset()
        remote.close()


def test_nobody_there_is_said_with_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r'no egodriver answers at unix:.*: UNAVAILABLE.*serve egodriver --address'):
        EgodriverPolicy(f'unix://{tmp_path}/nobody.sock', ahead)


def test_what_the_server_says_reaches_the_fallback(served: Callable[..., object]) -> None:
    driver = EgoDriver(ConstantVelocityPolicy, ServingParameters(sessions=1, answer_within_s=60.0))
    with served(driver) as address:
        first, second = EgodriverPolicy(address, ahead), EgodriverPolicy(address, ahead)
        first.plan(observation())
        with pytest.raises(MalformedAnswer, match=r'FAILED_PRECONDITION.*sessions are open'):
            second.plan(observation())
        first.close()
        second.close()


def test_pictures_of_an_undeclared_camera_are_refused_by_name(served: Callable[..., object]) -> None:
    driver = EgoDriver(ConstantVelocityPolicy, ServingParameters(sessions=1))
    with served(driver) as address, grpc.insecure_channel(address) as channel:
        stub = EgodriverServiceStub(channel)
        stub.start_session(request('a'), timeout=10.0)
        image = RolloutCameraImage(session_uuid='a')
        image.camera_image.logical_id = 'roof'
        with pytest.raises(grpc.RpcError, match="'roof' was not declared"):
            stub.submit_image_observation(image, timeout=10.0)
