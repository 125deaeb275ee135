# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The fast half told an intent: fading, guidance, what the prefix must not know, and what training tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.models import SMALL_LANGUAGE
from torch import Tensor

from vla_driver.model.layers.attention import split_heads
from vla_driver.model.native.intent import IntentEncoder, indecision, null_inputs, read_behind
from vla_driver.model.native.seeing.inputs import InputBuilder
from vla_driver.model.native.telling import told_in_training
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.tokens import CONFIDENCE, WEIGHT, ClipBatch, IntentInputs, Prefix
from vla_driver.policies.blind import BlindPolicy
from vla_driver.policies.native import NativePolicy
from vla_driver.policies.native_intents import set_guidance
from vla_driver.policies.registry import make_policy
from vla_driver.types import HazardKind, Intent, InvalidInput, MetaAction, Observation

Make = Callable[..., VlaModel]
Observe = Callable[..., Observation]


def say(weight: float = 1.0, action: int = 3, hazard_m: float = 20.0) -> IntentInputs:
    return IntentInputs(torch.tensor([[action, 1, 2]]), torch.tensor([[0.0, 1.0, hazard_m, 1.0, 0.5, 0.9, weight]]))


def prefix_of(model: VlaModel, observation: Observation) -> tuple[Prefix, Tensor]:
    inputs = InputBuilder(model.config)(observation)
    ego = model.ego(inputs)
    return model.prefill(ego, model.encode(inputs).tokens, None), ego


def test_an_intent_fades_into_the_null_intent(small_model: Make) -> None:
    encoder = small_model(intent=True).intents
    assert isinstance(encoder, IntentEncoder)
    with torch.no_grad():
        encoder.null.normal_()
        full, half, none, silent = (encoder(one) for one in (say(1.0), say(0.5), say(0.0), null_inputs(1)))
        other = encoder(say(1.0, action=0))
        farther = encoder(say(1.0, hazard_m=40.0))
    assert full.shape == (1, 2, 32)
    assert torch.equal(none, silent) and torch.equal(none[0], encoder.null)
    torch.testing.assert_close(half, 0.5 * (full + none))
    assert (full - other).abs().max() > 1e-3 and (full - farther).abs().max() > 1e-4


@pytest.mark.usefixtures('float32')
@torch.no_grad()
def test_intents_read_the_prefix_which_does_not_read_them(small_model: Make, observe: Observe) -> None:
    """Running them behind the cache equals one pass over the whole sequence under the mixed mask."""
    model = small_model(intent=True)
    language = model.language
    x, said = torch.randn(1, 9, 32), torch.randn(1, 2, 32)
    prefix = language.prefill(x, 3)
    told = read_behind(language, prefix, said)
    both = torch.cat([x, said], dim=1)
    mask = torch.ones(11, 11, dtype=torch.bool)
    mask[:9, 9:] = False
    for number, layer in enumerate(language.layers):
        normed = layer.norm1(both)
        k, v = (split_heads(part, layer.kv_heads) for part in layer.kv(normed).chunk(2, dim=-1))
        torch.testing.assert_close(told.keys[number], k, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(told.values[number], v, atol=1e-5, rtol=1e-5)
        q = split_heads(layer.q(normed), layer.heads)
        repeat = layer.heads // layer.kv_heads
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        both = both + layer.out(mixed)
        both = both + layer.mlp(layer.norm2(both))
    assert torch.equal(told.scene, prefix.scene)
    assert all(torch.equal(after[:, :, :9], before) for after, before in zip(told.keys, prefix.keys, strict=True))


@pytest.mark.usefixtures('float32')
@pytest.mark.parametrize('attention', [[], ['local_strided', 'full']])
@torch.no_grad()
def test_reading_and_telling_in_one_pass(small_model: Make, observe: Observe, attention: list[str]) -> None:
    language = {**SMALL_LANGUAGE, 'attention': attention, 'expert_layers': [1], 'num_experts': 4, 'expert_size': 16}
    model = small_model(intent=True, language_config=language)
    inputs = InputBuilder(model.config)(observe(0))
    ego, tokens = model.ego(inputs), model.encode(inputs).tokens
    kept = KeptTokens(torch.arange(0, len(tokens.camera), 3).unsqueeze(0))
    for what, said in ((None, say()), (kept, None)):
        prefix = model.prefill(ego, tokens, None, what)
        (told, ego_told), (same, (once, ego_once)) = (
            model.tell(prefix, ego, said),
            model.read(ego, tokens, None, what, intent=said),
        )
        assert torch.equal(ego_told, ego_once)
        for one, other in ((prefix, same), (told, once)):
            torch.testing.assert_close(one.keys, other.keys, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one.values, other.values, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one.scene, other.scene, atol=1e-5, rtol=1e-5)
        assert once.keys[0].shape[2] == same.keys[0].shape[2] + 2


@torch.no_grad()
def test_a_model_without_intents_is_as_it_was(small_model: Make, observe: Observe) -> None:
    model = small_model()
    prefix, ego = prefix_of(model, observe(0))
    same, still = model.tell(prefix, ego)
    assert same is prefix and still is ego
    assert not any(name.startswith('intents') for name in model.state_dict())


@torch.no_grad()
def test_guidance_exaggerates_what_an_intent_changes(small_model: Make, observe: Observe) -> None:
    model = small_model(intent=True)
    prefix, ego = prefix_of(model, observe(0))
    hidden, unguided = model.act(*model.tell(prefix, ego, say())), model.act(*model.tell(prefix, ego))
    reflex = model.reflex(prefix, ego)
    assert (hidden - unguided).abs().max() > 1e-3
    told, untold = model.decode(hidden, reflex), model.decode(unguided, reflex)
    one = model.decode_all(hidden, reflex, unguided=unguided, guidance=1.0).controls
    torch.testing.assert_close(one, told, atol=1e-4, rtol=1e-4)
    none = model.decode_all(hidden, reflex, unguided=unguided, guidance=0.0).controls
    torch.testing.assert_close(none, untold, atol=1e-4, rtol=1e-4)
    # One Euler step from one start: the step is v0 + s (vz - v0).
    model.flow.solve_with('euler', 1)
    flow = model.flow
    x = flow.anchors[torch.tensor([2])].float()
    x = torch.stack([x[..., 0], reflex.bend], dim=-1)
    v, v0 = (flow.velocity(x, torch.zeros(1), flow.condition(h, reflex)) for h in (hidden, unguided))
    flow.anchors[:] = flow.anchors[2]  # whichever is chosen
    got = model.decode_all(hidden, reflex, unguided=unguided, guidance=1.5).controls
    torch.testing.assert_close(got, flow.denormalise(x + v0 + 1.5 * (v - v0)), atol=1e-4, rtol=1e-4)


def test_indecision_runs_from_one_vote_to_all_alike() -> None:
    assert float(indecision(torch.zeros(32))) == pytest.approx(1.0)
    sure = torch.zeros(32)
    sure[3] = 100.0
    assert float(indecision(sure)) == pytest.approx(0.0, abs=1e-6)
    assert float(indecision(torch.tensor([5.0, 5.0, -90.0, -90.0]))) == pytest.approx(0.5)


@pytest.mark.parametrize('policy', [NativePolicy, BlindPolicy])
def test_policies_are_told(small_model: Make, observe: Observe, policy: type[NativePolicy] | type[BlindPolicy]) -> None:
    blind = policy is BlindPolicy
    driver, deaf = policy(small_model(intent=True, blind=blind)), policy(small_model(blind=blind))
    assert driver.needs.intents and not deaf.needs.intents
    seen = observe(2)  # at 1.0 s
    intent = Intent(0.6, MetaAction.STOP, 2.0, seen.ego.pose, 0.0, HazardKind.RED_LIGHT, 'front', 12.0, 0.9)

    def positions(told: Intent | None, guidance: float = 1.0) -> np.ndarray:
        driver.reset()
        driver.guidance = guidance
        return driver.plan(seen, told).trajectory.positions_m

    silent, told = positions(None), positions(intent)
    assert not np.array_equal(silent, told)
    assert np.array_equal(positions(intent), told)
    assert not np.allclose(positions(intent, 1.5), told)
    np.testing.assert_allclose(positions(intent, 0.0), silent, atol=1e-4)
    # What is too old, or from the future, is nothing; what nobody knows, is nothing to trip over.
    assert np.array_equal(positions(dataclasses.replace(intent, ttl_s=0.4)), silent)
    assert np.array_equal(positions(dataclasses.replace(intent, stamp_s=1.2)), silent)
    bare = Intent(0.6, MetaAction.KEEP, 2.0)
    assert np.isfinite(positions(bare)).all()
    assert np.array_equal(positions(dataclasses.replace(bare, hazard_camera='roof')), positions(bare))
    assert not np.array_equal(positions(dataclasses.replace(intent, pose=seen.ego.pose - [5.0, 5.0, 0.0])), told)
    uncertainty = driver.plan(seen, intent).uncertainty
    assert 0.0 <= uncertainty <= 1.0
    with pytest.raises(InvalidInput, match="intent 'stop': this model takes none"):
        deaf.plan(seen, intent)


def test_training_tells_truth_silence_and_lies_in_their_shares() -> None:
    torch.manual_seed(0)
    rows = 20_000
    kinds = torch.stack([torch.arange(rows) % 6, torch.arange(rows) % 5, torch.arange(rows) % 7], dim=1)
    numbers = torch.zeros(rows, 7)
    numbers[:, 0], numbers[:, 4], numbers[:, WEIGHT] = torch.arange(rows), 0.5, 0.75
    numbers[: rows // 4, WEIGHT] = 0.0  # of drives that recorded no reason
    told = told_in_training(IntentInputs(kinds, numbers), silent=0.15, wrong=0.2)
    there = torch.arange(rows) >= rows // 4
    heard = told.numbers[:, WEIGHT] > 0
    assert not heard[~there].any()
    assert float(heard[there].float().mean()) == pytest.approx(0.85, abs=0.01)
    assert set(told.numbers[heard, WEIGHT].tolist()) == {0.75}
    true = told.numbers[:, 0] == numbers[:, 0]
    assert float((~true).float().mean()) == pytest.approx(0.2, abs=0.01)
    # The less confident, the more often wrong: as often as a calibrated slow half would be.
    confidence = told.numbers[:, CONFIDENCE]
    for low, high in ((0.3, 0.7), (0.7, 0.9), (0.95, 1.0)):
        band = (confidence >= low) & (confidence < high)
        assert float(true[band].float().mean()) == pytest.approx(0.95 * float(confidence[band].mean()), abs=0.05)
    assert torch.equal(told.numbers[:, 4], numbers[:, 4])
    assert (told.kinds >= 0).all() and (told.kinds.amax(dim=0) == torch.tensor([5, 4, 6])).all()
    always = told_in_training(IntentInputs(kinds, numbers), silent=0.0, wrong=0.0)
    assert torch.equal(always.kinds, kinds) and torch.equal(always.numbers[:, 0], numbers[:, 0])


def test_training_learns_to_heed_an_intent(small_model: Make, clip_batch: Callable[..., ClipBatch]) -> None:
    """Where nothing but the intent says what the expert does, a short training makes plans follow it."""
    model = small_model(intent=True, blind=True)  # quick, and nothing else to tell the rows by
    batch = clip_batch(model.config, clips=2, ticks=4)
    goes = torch.arange(8) % 2 == 0
    controls = torch.zeros(8, 20, 2)
    controls[goes, :, 0], controls[~goes, :, 0] = 1.5, -2.0
    numbers = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.4, 1.0, 0.8]]).repeat(8, 1)
    kinds = torch.zeros(8, 3, dtype=torch.int64)
    kinds[:, 0] = torch.where(goes, 1, 3)
    inputs = dataclasses.replace(
        batch.inputs,
        speed_mps=torch.full((8,), 6.0),
        yaw_rate_rps=torch.zeros(8),
        command=torch.zeros(8, dtype=torch.int64),
        command_distance_m=torch.zeros(8),
        targets_m=torch.ones(8, 2, 2),
    )
    labels = dataclasses.replace(batch.labels, controls=controls, told=IntentInputs(kinds, numbers))
    batch = dataclasses.replace(batch, inputs=inputs, labels=labels)
    with torch.no_grad():
        model.flow.anchors[:3, :, 0], model.flow.anchors[3:, :, 0] = -1.5, 1.0
        model.flow.anchors[..., 1] = 0.0
    torch.manual_seed(0)
    model.train()
    model.dropouts.wrong = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(150):
        optimizer.zero_grad()
        model(batch, stage='policy').loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    assert model.intents.null.grad is not None and float(model.intents.meta_action.weight.grad.abs().sum()) > 0
    model.eval()
    with torch.no_grad():
        ego = model.ego(batch.inputs)
        prefix = model.prefill(ego, None, None)
        reflex = model.reflex(prefix, ego)
        planned = model.decode(model.act(*model.tell(prefix, ego, batch.labels.told)), reflex)[..., 0].mean(dim=1)
        silent = model.decode(model.act(*model.tell(prefix, ego)), reflex)[..., 0].mean(dim=1)
    assert float(planned[goes].min()) > float(planned[~goes].max()) + 1.0
    assert float((silent[goes].mean() - silent[~goes].mean()).abs()) < 0.3
    # In validation nothing is said: figures are of the fast half alone.
    unsaid = dataclasses.replace(batch, labels=dataclasses.replace(labels, told=None))
    with torch.no_grad():
        assert torch.equal(model(batch, stage='policy').hidden, model(unsaid, stage='policy').hidden)


def test_guidance_is_for_who_heeds_an_intent(tmp_path: Path, small_model: Make) -> None:
    told, deaf = tmp_path / 'told', tmp_path / 'deaf'
    small_model(intent=True).save_pretrained(told)
    small_model().save_pretrained(deaf)
    policy = make_policy('model', told, guidance=1.5, device='cpu')
    assert isinstance(policy, NativePolicy) and policy.guidance == 1.5
    set_guidance(policy, 1.0)
    assert policy.guidance == 1.0
    with pytest.raises(InvalidInput, match='guidance 7: expected 0'):
        set_guidance(policy, 7.0)
    assert make_policy('model', deaf, device='cpu', engine='torch').needs.intents is False
    for name, checkpoint in (('model', deaf), ('constant-velocity', None)):
        with pytest.raises(InvalidInput, match=r'guidance 1\.5: policy .* can be told no intent'):
            make_policy(name, checkpoint, guidance=1.5, device='cpu')
