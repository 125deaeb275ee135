# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A policy elsewhere: whoever answers AlpaSim's egodriver contract (`vla_driver serve egodriver`, and others).

So the simulator here is the runtime of that contract, and any driver that speaks it can be measured by our figures.
A server's plan is a list of poses; speeds and controls are made of them.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import uuid
from collections.abc import Callable
from typing import Any, Final

import grpc
import numpy as np
from carla_driver_interface.contract import contract_metadata, negotiate
from carla_driver_interface.geometry import Pose, waypoints_to_proto
from carla_driver_interface.geometry import Trajectory as Poses
from carla_driver_interface.protocol import (
    AvailableCamera,
    CameraSpec,
    CarlaRendererData,
    DriveRequest,
    DriveSessionCloseRequest,
    DriveSessionRequest,
    DynamicState,
    EgodriverServiceStub,
    OpenCVPinholeCameraParam,
    RolloutCameraImage,
    RolloutEgoTrajectory,
    Route,
    RouteRequest,
    ShutterType,
    Vec3,
    channel_options,
    pack_renderer_data,
)
from scipy.spatial.transform import Rotation

from vla_driver.geometry import se2, unicycle
from vla_driver.observation.decode import encode_png
from vla_driver.types import (
    NO_ENGINE,
    PLAN_DT_S,
    PLAN_STEPS,
    CameraModel,
    EngineReport,
    FloatArray,
    InputNeeds,
    Intent,
    InvalidInput,
    MalformedAnswer,
    Observation,
    Plan,
    Trajectory,
)

#: A server that loads a model at its first call takes its time.
_TIMEOUT_S: Final = 60.0
#: Braking beyond the end of an answer.
_TAIL_MPS2: Final = 2.0
#: Who moves less in a step does not turn: the quotient would be noise.
_TURNS_M: Final = 0.05


class EgodriverPolicy:
    """Asks a server of the egodriver contract; every drive is a session of its own there.

    address: HOST:PORT or unix:///path.  route: returns the way ahead [N, 2] in the odometry frame.  world: the name of
    the map that the drive is in, for servers that have it.
    """

    name = 'egodriver'

    def __init__(self, address: str, route: Callable[[], FloatArray], world: str = '') -> None:
        """Raises InvalidInput where nobody answers."""
        self._address, self._route = address, route
        self._renderer_data = pack_renderer_data(CarlaRendererData(map_name=world, map_id=world)) if world else b''
        self._channel = grpc.insecure_channel(address, options=channel_options())
        self._stub = EgodriverServiceStub(self._channel)
        self._session = ''
        try:
            version, self._revision = negotiate(self._stub, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            self._channel.close()
            raise InvalidInput(
                f'no egodriver answers at {address}: {_words(error)}; start one: vla_driver serve egodriver '
                f'--address {address}'
            ) from error
        self._about = str(version.version_id)
        atexit.register(self.close)

    @property
    def needs(self) -> InputNeeds:
        """All pictures, as they come."""
        return InputNeeds()

    @property
    def engine(self) -> EngineReport:
        """Nothing here computes."""
        return NO_ENGINE.noting(f'{self._about} at {self._address}')

    def reset(self) -> None:
        """End the session; the next plan begins another one."""
        if self._session:
            session, self._session = self._session, ''
            with contextlib.suppress(grpc.RpcError):  # it is over in any case
                self._stub.close_session(DriveSessionCloseRequest(session_uuid=session), timeout=_TIMEOUT_S)

    def close(self) -> None:
        """End the session and the connection."""
        atexit.unregister(self.close)
        self.reset()
        self._channel.close()

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the server's plan; raise InvalidInput for an intent, MalformedAnswer where it has none."""
        if intent is not None:
            raise InvalidInput('an egodriver server cannot be told an intent')
        try:
            if not self._session:
                self._start(observation)
            answer = self._ask(observation)
        except grpc.RpcError as error:
            raise MalformedAnswer('egodriver', f'{self._address} says {_words(error)}') from error
        poses = Poses.from_proto(answer.trajectory)
        return Plan(observation.stamp_s, _trajectory(poses, observation), observation.ego, self.name)

    def _start(self, observation: Observation) -> None:
        session = str(uuid.uuid4())
        request = DriveSessionRequest(session_uuid=session)
        request.rollout_spec.vehicle.available_cameras.extend(_declared(camera) for camera in observation.rig)
        metadata = contract_metadata(self._revision)
        self._stub.start_session(request, timeout=_TIMEOUT_S, metadata=metadata)
        self._session = session

    def _ask(self, observation: Observation) -> Any:
        now_us, ego, session = round(observation.stamp_s * 1e6), observation.ego, self._session
        pose = Pose.from_xyz_yaw(ego.x_m, ego.y_m, 0.0, ego.yaw_rad)
        state = DynamicState(linear_velocity=Vec3(x=ego.speed_mps), angular_velocity=Vec3(z=ego.yaw_rate_rps))
        moved = RolloutEgoTrajectory(session_uuid=session, dynamic_states=[state])
        moved.trajectory.CopyFrom(Poses([now_us], [pose]).to_proto())
        self._stub.submit_egomotion_observation(moved, timeout=_TIMEOUT_S)
        ahead = se2.points_to_local(ego.pose, self._route())
        points = waypoints_to_proto(np.column_stack([ahead, np.zeros(len(ahead))]))
        route = Route(timestamp_us=now_us, waypoints=points)
        self._stub.submit_route(RouteRequest(session_uuid=session, route=route), timeout=_TIMEOUT_S)
        for name, frame in observation.frames.items():
            image = RolloutCameraImage(session_uuid=session)
            image.camera_image.logical_id = name
            image.camera_image.frame_start_us = image.camera_image.frame_end_us = round(frame.stamp_s * 1e6)
            image.camera_image.image_bytes = encode_png(frame.image)
            self._stub.submit_image_observation(image, timeout=_TIMEOUT_S)
        request = DriveRequest(session_uuid=session, time_now_us=now_us, time_query_us=now_us)
        request.renderer_data = self._renderer_data
        return self._stub.drive(request, timeout=_TIMEOUT_S)


def _declared(camera: CameraModel) -> AvailableCamera:
    k, pose = camera.intrinsics, camera.base_from_camera
    spec = CameraSpec(
        opencv_pinhole_param=OpenCVPinholeCameraParam(
            principal_point_x=k[0, 2], principal_point_y=k[1, 2], focal_length_x=k[0, 0], focal_length_y=k[1, 1]
        ),
        logical_id=camera.name,
        resolution_w=camera.width,
        resolution_h=camera.height,
        shutter_type=ShutterType.GLOBAL,
    )
    mounted = Pose.from_rotation(pose[:3, 3], Rotation.from_matrix(pose[:3, :3]))
    return AvailableCamera(intrinsics=spec, rig_to_camera=mounted.to_proto(), logical_id=camera.name)


def _trajectory(poses: Poses, observation: Observation) -> Trajectory:
    """Return the poses of an answer as a trajectory of base_link at t0.

    Between poses the way is straight; beyond the last one the vehicle goes straight on and brakes gently.  Raises
    MalformedAnswer for fewer than two poses (the contract's way to say nothing), for less than half a second, and for
    what is not finite.
    """
    at_s = np.array(poses.timestamps_us, dtype=np.float64) * 1e-6 - observation.stamp_s
    steps = min(PLAN_STEPS, int((at_s[-1] + 1e-6) / PLAN_DT_S)) if len(at_s) else 0
    if len(at_s) < 2 or steps < 2:
        raise MalformedAnswer(
            'egodriver', f'{len(at_s)} poses for {max(0, steps) * PLAN_DT_S:g} s, expected 0.5 s or more'
        )
    forward = [pose.rotation_matrix[:, 0] for pose in poses.poses]
    rows = np.array(
        [[*pose.position[:2], math.atan2(f[1], f[0])] for pose, f in zip(poses.poses, forward, strict=True)]
    )
    if not (np.isfinite(rows).all() and (np.diff(at_s) > 0.0).all()):
        raise MalformedAnswer('egodriver', 'its poses are not finite, or their times do not grow')
    seen = se2.relative(observation.ego.pose, rows)
    seen[:, 2] = np.unwrap(seen[:, 2])
    places = np.column_stack([np.interp(PLAN_DT_S * np.arange(steps + 1), at_s, column) for column in seen.T])
    mean_mps = np.hypot(*np.diff(places[:, :2], axis=0).T) / PLAN_DT_S
    # The speed at a point is the mean of those of the ways before and behind it; at the end the change goes on.
    last_mps = max(0.0, 1.5 * mean_mps[-1] - 0.5 * mean_mps[-2])
    speed = np.concatenate([0.5 * (mean_mps[:-1] + mean_mps[1:]), [last_mps]])
    before = np.concatenate([[max(0.0, observation.ego.speed_mps)], speed[:-1]])
    arc = 0.5 * (before + speed) * PLAN_DT_S
    turned = np.diff(places[:, 2])
    curvature = np.divide(turned, arc, out=np.zeros(steps), where=arc > _TURNS_M)
    answered = Trajectory(
        positions_m=places[1:, :2],
        yaw_rad=se2.wrap(places[1:, 2]),
        speed_mps=speed,
        acceleration_mps2=(speed - before) / PLAN_DT_S,
        curvature_per_m=curvature,
    )
    return answered if steps == PLAN_STEPS else _lengthened(answered)


def _lengthened(short: Trajectory) -> Trajectory:
    """Return a trajectory of `PLAN_STEPS` points: what is missing goes straight on and brakes."""
    missing = PLAN_STEPS - len(short)
    tail = unicycle.integrate(short.speed_mps[-1], np.full(missing, -_TAIL_MPS2), np.zeros(missing), PLAN_DT_S)
    end = np.array([*short.positions_m[-1], short.yaw_rad[-1]])
    after = se2.compose(end, np.column_stack([tail.positions_m, tail.yaw_rad]))
    return Trajectory(
        positions_m=np.vstack([short.positions_m, after[:, :2]]),
        yaw_rad=np.concatenate([short.yaw_rad, after[:, 2]]),
        speed_mps=np.concatenate([short.speed_mps, tail.speed_mps]),
        acceleration_mps2=np.concatenate([short.acceleration_mps2, tail.acceleration_mps2]),
        curvature_per_m=np.concatenate([short.curvature_per_m, tail.curvature_per_m]),
    )


def _words(error: Any) -> str:
    return f'{error.code().name}: {error.details()}'
