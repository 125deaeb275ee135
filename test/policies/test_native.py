# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vla_driver.model.native.seeing.inputs import InputBuilder
from vla_driver.model.native.training import perceive
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import VARIABLE
from vla_driver.model.tokens import ClipBatch, ClipLabels, ModelInputs
from vla_driver.policies.blind import BlindPolicy
from vla_driver.policies.native import NativePolicy
from vla_driver.types import CameraRig, Intent, InvalidInput, Observation, Policy, PrunablePolicy

Observe = Callable[..., Observation]
Make = Callable[..., VlaModel]


def _positions(policy: NativePolicy, observations: list[Observation]) -> np.ndarray:
    return np.stack([policy.plan(observation).trajectory.positions_m for observation in observations])


def test_is_a_policy_that_plans(small_model: Make, observe: Observe) -> None:
    policy = NativePolicy(small_model())
    assert isinstance(policy, Policy)
    observation = observe(0)
    plan = policy.plan(observation)
    assert (plan.policy, plan.stamp_s, plan.ego) == ('model', observation.stamp_s, observation.ego)
    assert len(plan.trajectory) == 20
    assert plan.trajectory.dt_s == 0.25
    assert list(plan.timing_ms) == ['preprocess', 'vision', 'prefix', 'action', 'flow']
    assert all(value > 0 for value in plan.timing_ms.values())
    assert np.abs(plan.trajectory.curvature_per_m).max() <= 0.25


def test_same_observations_same_plans(small_model: Make, observe: Observe) -> None:
    drive = [observe(index) for index in range(4)]
    policy = NativePolicy(small_model())
    first = _positions(policy, drive)
    policy.reset()
    assert np.array_equal(_positions(policy, drive), first)
    assert np.array_equal(_positions(NativePolicy(small_model()), drive), first)


@pytest.mark.usefixtures('float32')
def test_plans_as_it_was_trained(small_model: Make, observe: Observe) -> None:
    """Tick by tick with a memory gives what training computes for the whole clip at once."""
    model = small_model()
    drive = [observe(index) for index in range(4)]
    inputs = [InputBuilder(model.config)(observation) for observation in drive]

    def stack(name: str) -> torch.Tensor:
        return torch.cat([getattr(one, name) for one in inputs])

    batch_inputs = ModelInputs(
        images=tuple(torch.cat(group) for group in zip(*(one.images for one in inputs), strict=True)),
        rays=inputs[0].rays,
        origins=inputs[0].origins,
        **{name: stack(name) for name in ('present', 'speed_mps', 'yaw_rate_rps', 'command', 'command_distance_m')},
        targets_m=stack('targets_m'),
    )
    pose = torch.tensor(np.stack([one.ego.pose for one in drive]))
    stamps = torch.tensor([one.stamp_s for one in drive], dtype=torch.float64)
    empty = torch.zeros(0)
    batch = ClipBatch(batch_inputs, ClipLabels((), (), *[empty] * 7), pose, stamps, ticks=4)
    with torch.no_grad():
        ego = model.ego(batch.inputs)
        seen, memory, _ = perceive(model, model.dropouts, batch, ego)
        assert seen is not None
        prefix = model.prefill(ego, seen.tokens, memory)
        controls = model.decode(model.act(prefix, ego), model.reflex(prefix, ego))
        rollout = model.flow.rollout(model.flow.normalise(controls), batch.inputs.speed_mps)
    driven = _positions(NativePolicy(model), drive)
    np.testing.assert_allclose(driven, rollout.positions_m.numpy(), atol=1e-4)


def test_bfloat16_stays_close(small_model: Make, observe: Observe, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = [observe(index) for index in range(3)]
    monkeypatch.setenv(VARIABLE, 'float32')
    exact = _positions(NativePolicy(small_model()), drive)
    monkeypatch.setenv(VARIABLE, 'bfloat16')
    rounded = _positions(NativePolicy(small_model()), drive)
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 0.5


def test_remembers_and_forgets(small_model: Make, observe: Observe) -> None:
    policy = NativePolicy(small_model())
    fresh = policy.plan(observe(5)).trajectory.positions_m
    policy.reset()
    policy.plan(observe(4))
    remembering = policy.plan(observe(5)).trajectory.positions_m
    assert np.abs(remembering - fresh).max() > 1e-4
    # A looped bag: the clock jumps back, and the plan is as that of a fresh policy.
    policy.plan(observe(9))
    assert np.array_equal(policy.plan(observe(5)).trajectory.positions_m, fresh)
    # After a long gap, too.
    policy.reset()
    policy.plan(observe(4, stamp_s=-60.0))
    assert np.array_equal(policy.plan(observe(5)).trajectory.positions_m, fresh)


def test_drives_on_without_some_cameras(small_model: Make, observe: Observe, rig: CameraRig) -> None:
    policy = NativePolicy(small_model())
    whole = policy.plan(observe(0)).trajectory.positions_m
    policy.reset()
    partly = policy.plan(observe(0, missing=('back', 'back_left'))).trajectory.positions_m
    assert not np.array_equal(whole, partly)
    # Cameras that a rig never had are the same as missing ones.
    few = CameraRig('few', tuple(camera for camera in rig if camera.name not in ('back', 'back_left')))
    observation = observe(0)
    frames = {name: frame for name, frame in observation.frames.items() if name in few}
    policy.reset()
    answer = policy.plan(dataclasses.replace(observation, frames=frames, rig=few, missing=()))
    np.testing.assert_allclose(answer.trajectory.positions_m, partly, atol=1e-6)


def test_unknown_cameras_and_intents_are_refused(small_model: Make, observe: Observe, rig: CameraRig) -> None:
    policy = NativePolicy(small_model())
    observation = observe(0)
    odd = CameraRig('odd', (*rig.cameras, dataclasses.replace(rig['front'], name='roof')))
    with pytest.raises(InvalidInput, match=r"\['roof'\].*does not know"):
        policy.plan(dataclasses.replace(observation, rig=odd, missing=('roof',)))
    with pytest.raises(InvalidInput, match='takes none'):
        policy.plan(observation, Intent(0.0, 'stop', 1.0))


def test_blind_control_sees_nothing(small_model: Make, observe: Observe) -> None:
    policy = BlindPolicy(small_model(blind=True))
    assert isinstance(policy, Policy) and not isinstance(policy, PrunablePolicy)
    assert policy.name == 'blind' and not policy.needs.pictures
    assert not any(name.startswith(('vision', 'memory')) for name in policy.model.state_dict())
    observation = observe(3)
    other = dataclasses.replace(observe(3), frames=observe(1).frames)
    assert np.array_equal(_positions(policy, [observation]), _positions(policy, [other]))
    faster = dataclasses.replace(observation, ego=dataclasses.replace(observation.ego, speed_mps=1.0))
    assert not np.array_equal(_positions(policy, [observation]), _positions(policy, [faster]))
