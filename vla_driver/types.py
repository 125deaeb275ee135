# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the package: frozen, validated values that every other part speaks in.

Conventions (REP-103): lengths in metres, angles in radians, times in seconds, x forward, y left,
z up.  A camera's own frame is the optical one: z forward, x right, y down.  Arrays are read-only
after validation, so that a value can be shared between threads without a copy.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

#: The six cameras in mosaic order: upper row, then lower row.
CAMERA_NAMES = ('front_left', 'front', 'front_right', 'back_left', 'back', 'back_right')
#: The camera whose frames set the tick: every plan is stamped with its time.
ANCHOR_CAMERA = 'front'

#: The plan's horizon: 20 waypoints at 4 Hz, 5 s (MindVLA-U1, arXiv 2605.12624).
PLAN_STEPS = 20
PLAN_DT_S = 0.25


class VlaDriverError(Exception):
    """Base class of every error this package raises on purpose."""


class InvalidInput(VlaDriverError, ValueError):  # noqa: N818 - reads as a sentence where raised
    """A value from outside was refused; the message names it, what is allowed and what to do."""


class MalformedAnswer(InvalidInput):
    """What a language model wrote is neither a plan nor an intent; `fault` says in a word what is wrong with it."""

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(f'answer refused ({fault}): {detail}')
        self.fault = fault


def _finite(name: str, value: Any, shape: tuple[int | None, ...] | None = None) -> FloatArray:
    """Return `value` as a read-only float64 array; raise `InvalidInput` unless finite and of `shape`.

    A None in `shape` allows any length on that axis.
    """
    array = np.array(value, dtype=np.float64)
    if shape is not None and (
        array.ndim != len(shape)
        or any(want is not None and want != got for want, got in zip(shape, array.shape, strict=True))
    ):
        raise InvalidInput(f'{name}: shape {array.shape}, expected {shape} (None = any length)')
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(np.atleast_1d(array)))[0].tolist()
        raise InvalidInput(f'{name}: not finite at index {bad}: {np.atleast_1d(array)[tuple(bad)]}')
    array.setflags(write=False)
    return array


def _finite_number(name: str, value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise InvalidInput(f'{name} is {number}, expected a finite number')
    return number


class TurnCommand(enum.IntEnum):
    """What the navigation says about the next junction (the values of msg/TurnCommand.msg)."""

    FOLLOW = 0
    LEFT = 1
    STRAIGHT = 2
    RIGHT = 3


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera without distortion, mounted on the vehicle.

    intrinsics: [3, 3] pixel matrix K; base_from_camera: [4, 4] pose of the optical frame in base_link.
    """

    name: str
    width: int
    height: int
    intrinsics: FloatArray
    base_from_camera: FloatArray

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidInput(f'camera {self.name}: size {self.width}x{self.height}, expected positive numbers')
        k = _finite(f'camera {self.name}: intrinsics', self.intrinsics, (3, 3))
        if k[0, 0] <= 0 or k[1, 1] <= 0:
            raise InvalidInput(f'camera {self.name}: focal lengths {k[0, 0]}, {k[1, 1]}, expected positive numbers')
        pose = _finite(f'camera {self.name}: base_from_camera', self.base_from_camera, (4, 4))
        if not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-4):
            raise InvalidInput(f'camera {self.name}: base_from_camera holds no rotation (R R^T is not the identity)')
        object.__setattr__(self, 'intrinsics', k)
        object.__setattr__(self, 'base_from_camera', pose)

    def resized(self, width: int, height: int) -> CameraModel:
        """Return the same camera seen at another resolution (pixel centres at half-integers)."""
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return CameraModel(self.name, width, height, scale @ self.intrinsics, self.base_from_camera)


@dataclass(frozen=True)
class CameraRig:
    """The cameras of one vehicle, by name."""

    name: str
    cameras: tuple[CameraModel, ...]

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise InvalidInput(f'rig {self.name}: camera names repeat: {names}')
        if not names:
            raise InvalidInput(f'rig {self.name}: no cameras')

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names in the rig's order."""
        return tuple(camera.name for camera in self.cameras)

    def __getitem__(self, name: str) -> CameraModel:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise InvalidInput(f'rig {self.name} has no camera {name!r}; it has: {", ".join(self.names)}')

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[CameraModel]:
        return iter(self.cameras)


@dataclass(frozen=True)
class CameraFrame:
    """One decoded picture: image [H, W, 3] uint8 RGB, stamp in seconds.

    blank: a black picture that stands in for one that was not to be had.
    """

    camera: str
    stamp_s: float
    image: Image
    blank: bool = False

    def __post_init__(self) -> None:
        _finite_number(f'camera {self.camera}: stamp', self.stamp_s)
        image = self.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InvalidInput(
                f'camera {self.camera}: image of {image.dtype} {image.shape}, expected uint8 [H, W, 3] RGB'
            )


@dataclass(frozen=True)
class EgoState:
    """Where the vehicle is and how it moves, in an odometry frame that never jumps (REP-105)."""

    stamp_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    yaw_rate_rps: float = 0.0
    acceleration_mps2: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _finite_number(f'odometry: {name}', value)

    @property
    def pose(self) -> FloatArray:
        """[3]: x, y, yaw."""
        return np.array([self.x_m, self.y_m, self.yaw_rad])


@dataclass(frozen=True)
class Navigation:
    """What a driver gets from a navigation device: never a lane's centre line, map or signal state.

    target_points_m: [2, 2] the next two sparse route points, x forward and y left of base_link, at
    least 25 m apart along the route and noisy (as in CARLA's leaderboard).  route: another number for another route.
    """

    command: TurnCommand
    distance_m: float
    target_points_m: FloatArray
    route: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'command', TurnCommand(self.command))
        _finite_number('navigation: distance_m', self.distance_m)
        object.__setattr__(
            self, 'target_points_m', _finite('navigation: target_points_m', self.target_points_m, (2, 2))
        )


@dataclass(frozen=True)
class Observation:
    """Everything one tick of a policy may see.  `stamp_s` (t0) is the anchor camera's stamp.

    frames: camera name -> frame; a camera of the rig that has none is named in `missing`.
    trail: states of the ego in the seconds before `stamp_s`, oldest first, where odometry was collected; a policy that
    is slower than its history is fine-grained cannot collect them itself.
    """

    stamp_s: float
    frames: Mapping[str, CameraFrame]
    rig: CameraRig
    ego: EgoState
    navigation: Navigation
    missing: tuple[str, ...] = ()
    trail: tuple[EgoState, ...] = ()

    def __post_init__(self) -> None:
        _finite_number('observation: stamp_s', self.stamp_s)
        unknown = sorted(set(self.frames) - set(self.rig.names))
        if unknown:
            raise InvalidInput(f'observation: frames of {unknown}, but the rig has only {list(self.rig.names)}')
        absent = sorted(set(self.rig.names) - set(self.frames) - set(self.missing))
        if absent:
            raise InvalidInput(f'observation: no frame of {absent}, and `missing` does not name them')
        object.__setattr__(self, 'frames', MappingProxyType(dict(self.frames)))

    @property
    def unseen(self) -> tuple[str, ...]:
        """The cameras of the rig that show nothing: those without a frame, and those whose frame is blank."""
        return tuple(
            name for name in self.rig.names if name in self.missing or (name in self.frames and self.frames[name].blank)
        )


class MetaAction(str, enum.Enum):
    """What to do next along the road, in one word; where to turn is the navigation's to say."""

    KEEP = 'keep'  # hold the speed
    SPEED_UP = 'speed_up'
    SLOW_DOWN = 'slow_down'  # and go on
    STOP = 'stop'  # come to a stand
    WAIT = 'wait'  # stand, and stay
    START = 'start'  # stand, and go

    __str__ = str.__str__


class HazardKind(str, enum.Enum):
    """What a driver reacts to."""

    NONE = 'none'
    RED_LIGHT = 'red_light'  # or amber that leaves room to stop
    VEHICLE_AHEAD = 'vehicle_ahead'  # in the own lane
    VEHICLE_CROSSING = 'vehicle_crossing'
    PERSON = 'person'

    __str__ = str.__str__


@dataclass(frozen=True)
class Intent:
    """What the slow half asks of the fast one, worth acting on for `ttl_s` after `stamp_s`, the pictures' stamp.

    pose [3]: x, y, yaw of the vehicle at `stamp_s` in the odometry frame; None where nobody knows it.
    target_speed_mps: NaN for none named.  hazard: what it reacts to; hazard_camera: which camera shows it, '' for none;
    hazard_m: how far away, NaN unknown.  confidence: 0 to 1.  text: the words that it was said in.
    """

    stamp_s: float
    meta_action: MetaAction
    ttl_s: float
    pose: FloatArray | None = None
    target_speed_mps: float = math.nan
    hazard: HazardKind = HazardKind.NONE
    hazard_camera: str = ''
    hazard_m: float = math.nan
    confidence: float = 1.0
    text: str = ''

    def __post_init__(self) -> None:
        _finite_number('intent: stamp_s', self.stamp_s)
        for name, kind in (('meta_action', MetaAction), ('hazard', HazardKind)):
            try:
                object.__setattr__(self, name, kind(getattr(self, name)))
            except ValueError:
                allowed = ', '.join(kind)
                raise InvalidInput(f'intent: {name} {getattr(self, name)!r}, allowed: {allowed}') from None
        if not (self.ttl_s > 0 and math.isfinite(self.ttl_s)):
            raise InvalidInput(f'intent: ttl_s is {self.ttl_s}, expected a positive number')
        if self.target_speed_mps < 0 or math.isinf(self.target_speed_mps):
            raise InvalidInput(
                f'intent: target_speed_mps is {self.target_speed_mps}, expected 0 or more, or NaN for none'
            )
        if self.hazard_m < 0 or math.isinf(self.hazard_m):
            raise InvalidInput(f'intent: hazard_m is {self.hazard_m}, expected 0 or more, or NaN for unknown')
        if not 0.0 <= self.confidence <= 1.0:
            raise InvalidInput(f'intent: confidence is {self.confidence}, expected 0 to 1')
        if self.pose is not None:
            object.__setattr__(self, 'pose', _finite('intent: pose', self.pose, (3,)))


class AgentKind(str, enum.Enum):
    """Who else is on the road."""

    VEHICLE = 'vehicle'
    PERSON = 'person'

    __str__ = str.__str__


@dataclass(frozen=True)
class Forecast:
    """Where somebody else will be, in base_link at t0.  Point k is reached at (k + 1) * dt_s, as in `Trajectory`.

    pose [3]: x, y, yaw of the body's centre at t0; speed_mps at t0; length_m, width_m of the body; positions_m [T, 2];
    yaw_rad [T]; existence: 0 to 1, how likely somebody is there at all.
    """

    kind: AgentKind
    pose: FloatArray
    speed_mps: float
    length_m: float
    width_m: float
    positions_m: FloatArray
    yaw_rad: FloatArray
    existence: float = 1.0
    dt_s: float = PLAN_DT_S

    def __post_init__(self) -> None:
        object.__setattr__(self, 'kind', AgentKind(self.kind))
        steps = len(self.positions_m)
        object.__setattr__(self, 'pose', _finite('forecast: pose', self.pose, (3,)))
        object.__setattr__(self, 'positions_m', _finite('forecast: positions_m', self.positions_m, (steps, 2)))
        object.__setattr__(self, 'yaw_rad', _finite('forecast: yaw_rad', self.yaw_rad, (steps,)))
        _finite_number('forecast: speed_mps', self.speed_mps)
        if not (self.length_m > 0 and self.width_m > 0):
            raise InvalidInput(f'forecast: a body of {self.length_m} x {self.width_m} m, expected positive sizes')
        if not 0.0 <= self.existence <= 1.0:
            raise InvalidInput(f'forecast: existence is {self.existence}, expected 0 to 1')


@dataclass(frozen=True)
class Trajectory:
    """A path with times in base_link at t0.  Point k is reached at (k + 1) * dt_s; t0 itself is left out.

    positions_m [T, 2] (x forward, y left), yaw_rad [T], speed_mps [T], acceleration_mps2 [T] and
    curvature_per_m [T], the last two being the unicycle controls held during the step to point k.
    """

    positions_m: FloatArray
    yaw_rad: FloatArray
    speed_mps: FloatArray
    acceleration_mps2: FloatArray
    curvature_per_m: FloatArray
    dt_s: float = PLAN_DT_S

    def __post_init__(self) -> None:
        steps = len(self.positions_m)
        if steps < 1 or not self.dt_s > 0:
            raise InvalidInput(f'trajectory: {steps} points every {self.dt_s} s, expected at least one and dt_s > 0')
        object.__setattr__(self, 'positions_m', _finite('trajectory: positions_m', self.positions_m, (steps, 2)))
        for name in ('yaw_rad', 'speed_mps', 'acceleration_mps2', 'curvature_per_m'):
            object.__setattr__(self, name, _finite(f'trajectory: {name}', getattr(self, name), (steps,)))

    def __len__(self) -> int:
        return len(self.positions_m)

    @property
    def times_s(self) -> FloatArray:
        """[T] seconds after t0."""
        return self.dt_s * np.arange(1, len(self) + 1, dtype=np.float64)


class PlanSource(str, enum.Enum):
    """Where a plan comes from: the policy itself, or a named fallback of the plan guard.

    An enum.StrEnum, which the Python of ROS 2 Humble (3.10) does not have yet.
    """

    POLICY = 'policy'
    BRAKED = 'braked'
    SHIFTED = 'shifted_previous'
    STOP = 'stop'

    __str__ = str.__str__


@dataclass(frozen=True)
class HeededIntent:
    """What became of an intent in a plan.

    meta_action: what was wanted; age_s: of its pictures; weight: how much it counted, 1 fresh to 0; agreement: how well
    the plan does what was wanted, 1 to 0 (`planning/agreement.py`).
    """

    meta_action: MetaAction
    age_s: float
    weight: float
    agreement: float


@dataclass(frozen=True)
class Plan:
    """A policy's answer to one observation, stamped with the observation's t0.

    ego: the state the trajectory starts from (so that a follower can move it by odometry);
    ttl_s: the plan must not be acted on later than stamp_s + ttl_s; forecasts: where others will be, as far as the
    policy says;
    timing_ms: stage -> milliseconds; reason: why this source, empty for an undisturbed policy plan;
    uncertainty: 0 to 1, how undecided the policy was between courses of speed, NaN unknown; wants_words: 0 to 1, how
    much the slow half is worth asking, NaN unknown; heeded: what became of the intent, None where there was none.
    """

    stamp_s: float
    trajectory: Trajectory
    ego: EgoState
    policy: str
    source: PlanSource = PlanSource.POLICY
    reason: str = ''
    ttl_s: float = 1.0
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    forecasts: tuple[Forecast, ...] = ()
    uncertainty: float = math.nan
    wants_words: float = math.nan
    heeded: HeededIntent | None = None

    def __post_init__(self) -> None:
        _finite_number('plan: stamp_s', self.stamp_s)
        if not self.ttl_s > 0:
            raise InvalidInput(f'plan: ttl_s is {self.ttl_s}, expected a positive number')
        object.__setattr__(self, 'timing_ms', MappingProxyType(dict(self.timing_ms)))

    def is_fresh(self, now_s: float) -> bool:
        """Whether the plan may be acted on at `now_s` (a plan from the future may not, either)."""
        return -0.5 <= now_s - self.stamp_s <= self.ttl_s


@dataclass(frozen=True)
class InputNeeds:
    """What a policy looks at, so that nobody decodes, draws or collects what it would not see.

    cameras: the names of those whose pictures it looks at; None: all of the rig.  image_sizes: camera -> (width,
    height) that it works at: larger pictures are of no use to it; a camera that is not named is taken as it comes.
    trail_s: how far back it wants to know where the ego was (`Observation.trail`); 0: not at all.  intents: whether it
    can be told an intent.
    """

    cameras: tuple[str, ...] | None = None
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    trail_s: float = 0.0
    intents: bool = False

    @property
    def pictures(self) -> bool:
        """Whether it looks at any picture."""
        return self.cameras is None or bool(self.cameras)


#: The needs of a policy that looks at no picture.
NO_PICTURES = InputNeeds(cameras=())


@dataclass(frozen=True)
class EngineReport:
    """What computes a policy: for logs, diagnostics and reports.

    engine: 'torch', 'onnx' (exported graphs), or '' for a policy without a network; provider: what runs the engine's
    operations, such as 'OpenVINOExecutionProvider' or 'torch-cpu'; precision: 'float32' or 'bfloat16'; threads: of its
    arithmetic; note: why not what was asked for, in words.
    """

    engine: str = ''
    provider: str = ''
    precision: str = ''
    threads: int = 0
    note: str = ''

    def noting(self, note: str) -> EngineReport:
        """Return the report with something to say."""
        return EngineReport(self.engine, self.provider, self.precision, self.threads, note)

    def describe(self) -> str:
        """Return it in one line: 'onnx on OpenVINO, bfloat16, 2 threads'."""
        if not self.engine:
            return 'no network'
        threads = f'{self.threads} thread' + ('' if self.threads == 1 else 's')
        return f'{self.engine} on {self.provider}, {self.precision}, {threads}' + (
            f' ({self.note})' if self.note else ''
        )


#: The engine of a policy that computes no network.
NO_ENGINE = EngineReport()


@runtime_checkable
class Policy(Protocol):
    """The fast path.  Native model, expert and controls are all policies."""

    name: str

    @property
    def needs(self) -> InputNeeds:
        """What `plan` looks at."""

    @property
    def engine(self) -> EngineReport:
        """What computes it."""

    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation."""

    def reset(self) -> None:
        """Forget earlier ticks (after a clock jump, or before another route)."""


@dataclass(frozen=True)
class CameraSelection:
    """One camera: kept bool [rows, columns] of its token grid; scores float32 of the same shape, or None."""

    kept: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Selection:
    """What one tick kept: of which pruner, of the pictures of stamp_s, per camera name.

    A score of -inf: the token had left (or was absent) before the last scoring.
    """

    pruner: str
    stamp_s: float
    cameras: Mapping[str, CameraSelection]

    @property
    def kept(self) -> int:
        """How many tokens stayed, over all cameras."""
        return sum(int(camera.kept.sum()) for camera in self.cameras.values())

    @property
    def total(self) -> int:
        """How many tokens there were."""
        return sum(camera.kept.size for camera in self.cameras.values())


@runtime_checkable
class PrunablePolicy(Policy, Protocol):
    """A policy with visual tokens, some of which may be left out."""

    def own_pruner(self, spec: str) -> Any:
        """Return a pruner for `set_pruning` that this policy has itself for a name such as 'recon', else None."""

    def set_pruning(self, pruner: Any, budget: Any = None) -> None:
        """Prune with a pruner within a `TokenBudget` (model/pruning) from the next tick on; None: keep all.

        Raises `InvalidInput`, changing nothing, for what does not fit.
        """

    @property
    def last_selection(self) -> Selection | None:
        """What the latest tick kept; None before the first tick and where nothing is pruned."""


@runtime_checkable
class ForecastingPolicy(Policy, Protocol):
    """A policy that says where others will be (`Plan.forecasts`), where somebody wants to know."""

    #: Whether somebody does, from the next tick on.  What is planned for the ego is the same without.
    forecasting: bool


@runtime_checkable
class RoutedPolicy(Policy, Protocol):
    """A policy whose tokens may be read by experts, some of many."""

    @property
    def last_load(self) -> dict[int, FloatArray]:
        """Of the last tick: language layer -> load of each of its experts [N], 1 for an even one; {} without any."""


@runtime_checkable
class Reasoner(Protocol):
    """The slow path: words to a typed intent."""

    name: str

    @property
    def needs(self) -> InputNeeds:
        """What `reason` looks at."""

    def reason(self, observation: Observation) -> Intent:
        """Return the intent for one observation; raises `MalformedAnswer` where what was said is none."""

    def reset(self) -> None:
        """Forget earlier observations (after a clock jump, or before another route)."""
