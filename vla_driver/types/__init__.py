# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the package: frozen, validated values that every other part speaks in.

Conventions (REP-103): lengths in metres, angles in radians, times in seconds, x forward, y left,
z up.  A camera's own frame is the optical one: z forward, x right, y down.  Arrays are read-only
after validation, so that a value can be shared between threads without a copy.
"""

from __future__ import annotations

from vla_driver.types.cameras import ANCHOR_CAMERA, CAMERA_NAMES, CameraFrame, CameraModel, CameraRig
from vla_driver.types.checks import FloatArray, Image
from vla_driver.types.errors import InvalidInput, MalformedAnswer, VlaDriverError
from vla_driver.types.intent import HazardKind, Intent, MetaAction
from vla_driver.types.observation import EgoState, Navigation, Observation, TurnCommand
from vla_driver.types.plan import PLAN_DT_S, PLAN_STEPS, AgentKind, Forecast, HeededIntent, Plan, PlanSource, Trajectory
from vla_driver.types.policies import (
    NO_ENGINE,
    NO_PICTURES,
    CameraSelection,
    EngineReport,
    ForecastingPolicy,
    InputNeeds,
    Policy,
    PrunablePolicy,
    Reasoner,
    RoutedPolicy,
    Selection,
)

__all__ = [
    'ANCHOR_CAMERA',
    'AgentKind',
    'CAMERA_NAMES',
    'CameraFrame',
    'CameraModel',
    'CameraRig',
    'CameraSelection',
    'EgoState',
    'EngineReport',
    'FloatArray',
    'Forecast',
    'ForecastingPolicy',
    'HazardKind',
    'HeededIntent',
    'Image',
    'InputNeeds',
    'Intent',
    'InvalidInput',
    'MalformedAnswer',
    'MetaAction',
    'NO_ENGINE',
    'NO_PICTURES',
    'Navigation',
    'Observation',
    'PLAN_DT_S',
    'PLAN_STEPS',
    'Plan',
    'PlanSource',
    'Policy',
    'PrunablePolicy',
    'Reasoner',
    'RoutedPolicy',
    'Selection',
    'Trajectory',
    'TurnCommand',
    'VlaDriverError',
]
