# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A whole checkpoint folder through the policy factory: plans, intents, pruning, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vla_driver.bag.write import BagWriter
from vla_driver.cli import main
from vla_driver.geometry.rig import load_rig
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.trained.early import EarlyPruner
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.pruning.trained.recon_layers import layer_spec
from vla_driver.model.qwen.prompt import IMAGE, EgoTrail, load_template
from vla_driver.observation.resize import resize
from vla_driver.policies.loading import load_policy
from vla_driver.policies.qwen import QwenPolicy, shrunk
from vla_driver.policies.registry import make_policy
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.resources import resource
from vla_driver.types import (
    CameraFrame,
    EgoState,
    Intent,
    InvalidInput,
    MalformedAnswer,
    MetaAction,
    Navigation,
    Observation,
    Policy,
    PrunablePolicy,
    Reasoner,
    TurnCommand,
)

RIG = load_rig('sim')
ORDER = ('front', 'front_right', 'front_left', 'back', 'back_left', 'back_right')
RANDOM: tuple[str, ...] = ()


def observe(tick: int = 0, missing: tuple[str, ...] = (), seed: int | None = None) -> Observation:
    rng = np.random.default_rng(tick if seed is None else seed)
    stamp = 0.5 * tick
    frames = {
        name: CameraFrame(name, stamp, rng.integers(0, 255, (192, 320, 3), dtype=np.uint8))
        for name in RIG.names
        if name not in missing
    }
    ego = EgoState(stamp, 2.5 * tick, 0.0, 0.0, 5.0)
    return Observation(stamp, frames, RIG, ego, Navigation(TurnCommand.FOLLOW, 0.0, np.ones((2, 2))), missing)


@pytest.mark.parametrize('family', ['qwen2.5', 'qwen3'])
def test_a_checkpoint_folder_plans_from_six_images(checkpoint: Callable[..., Path], family: str) -> None:
    policy: Any = make_policy('model', checkpoint(family))
    assert isinstance(policy, Policy)
    assert isinstance(policy, PrunablePolicy) and isinstance(policy, Reasoner)
    assert policy.needs.pictures and policy.needs.trail_s >= 3.0
    plan = policy.plan(observe())
    assert plan.policy == 'qwen'
    assert len(plan.trajectory) == 20
    np.testing.assert_allclose(plan.trajectory.positions_m[1:12:2, 0], 2.52 * np.arange(1, 7), atol=0.05)
    assert set(plan.timing_ms) == {'preprocess', 'vision', 'prefill', 'decode', 'waypoints'}
    assert policy.answer.startswith('<PLANNING>')
    assert policy.answer.endswith('</PLANNING>')
    again = policy.plan(observe())
    np.testing.assert_array_equal(again.trajectory.positions_m, plan.trajectory.positions_m)
    with pytest.raises(InvalidInput, match='takes none'):
        policy.plan(observe(), Intent(0.0, MetaAction.STOP, 1.0))


def test_every_kind_of_pruner_plans_and_says_what_it_kept(checkpoint: Callable[..., Path]) -> None:
    policy: Any = load_policy(checkpoint())
    assert policy.last_selection is None
    for pruner in (make_pruner('random'), make_pruner('vispruner'), make_pruner('fastv'), EarlyPruner(1, 'norm')):
        policy.set_pruning(pruner, TokenBudget(ratio=0.5, floor=2))
        plan = policy.plan(observe(missing=('back',)))
        selection = policy.last_selection
        assert len(plan.trajectory) == 20
        assert selection.pruner == pruner.name
        assert set(selection.cameras) == set(ORDER)
        assert selection.kept == selection.total // 2
        assert min(int(camera.kept.sum()) for camera in selection.cameras.values()) >= 2
    policy.set_pruning(None)
    assert policy.pruning == (None, None)


def test_pruning_that_does_not_fit_changes_nothing(checkpoint: Callable[..., Path]) -> None:
    policy: Any = load_policy(checkpoint(), 'random', TokenBudget(ratio=0.5))
    before = policy.pruning
    for pruner, budget, message in (
        (make_pruner('random'), None, 'no token budget'),
        (make_pruner('random'), TokenBudget(count=10**6), 'count 1000000'),
        (make_pruner('fastv:9'), TokenBudget(ratio=0.5), 'layer'),
        (EarlyPruner(2, 'norm'), TokenBudget(ratio=0.5), 'allowed: 1 to 1'),
    ):
        with pytest.raises(InvalidInput, match=message):
            policy.set_pruning(pruner, budget)
        assert policy.pruning == before


def test_a_pruner_of_another_backbone_is_refused(checkpoint: Callable[..., Path]) -> None:
    """Also where its tokens are as wide; and one that fits computes in the model's own precision."""
    ours, other = load_policy(checkpoint('qwen2.5')), load_policy(checkpoint('qwen3'))
    assert isinstance(ours, QwenPolicy) and isinstance(other, QwenPolicy)
    pruner = ReconPruner(layer_spec(ours.parts.model.config))
    ours.set_pruning(pruner, TokenBudget(ratio=0.5))
    assert ours.pruning[0] is pruner
    assert pruner.query.dtype == ours.parts.model.dtype
    # On a GPU the model is in bfloat16, in which positions would be wrong.
    frequencies = pruner.stack.rotary.inv_freq.clone()
    pruner.store('cpu', torch.bfloat16)
    assert {weight.dtype for weight in pruner.parameters()} == {torch.bfloat16}
    assert torch.equal(pruner.stack.rotary.inv_freq, frequencies)
    assert frequencies.dtype == torch.float32
    with pytest.raises(InvalidInput, match='ReconPruner for qwen2_5_vl of width 64 does not fit a qwen3_vl checkpoint'):
        other.set_pruning(pruner, TokenBudget(ratio=0.5))
    assert other.pruning == (None, None)


def test_what_is_seen_and_told_reaches_the_language_model(checkpoint: Callable[..., Path]) -> None:
    """With random weights, other pictures, another order of cameras and another history give other logits."""
    policy: Any = load_policy(checkpoint('qwen2.5', RANDOM))

    def logits(observation: Observation) -> Tensor:
        policy.reset()
        policy._trail.add(observation.ego)
        with torch.inference_mode():
            sequence = policy._read(observation, 'text', Stopwatch(policy.device))
            return policy._language.prefill(sequence)[0]

    first = observe(seed=1)
    swapped = {**first.frames, 'front': first.frames['back'], 'back': first.frames['front']}
    faster = dataclasses.replace(first.ego, speed_mps=15.0)
    torch.testing.assert_close(logits(first), logits(first), rtol=0, atol=0)
    for other in (
        observe(seed=2),
        dataclasses.replace(first, frames=swapped),
        dataclasses.replace(first, ego=faster),
        observe(seed=1, missing=('back',)),
    ):
        assert (logits(first) - logits(other)).abs().max() > 1e-5


def test_a_malformed_answer_is_an_error_and_no_plan(checkpoint: Callable[..., Path]) -> None:
    short = load_policy(checkpoint('qwen2.5', ('<PLANNING>', '[x, y]: ', '[1.00, 0.00]', '</PLANNING>')))
    with pytest.raises(MalformedAnswer, match='too_few_points'):
        short.plan(observe())
    endless = load_policy(checkpoint('qwen2.5', ('<PLANNING>', *(f'word{n} ' for n in range(12)))))
    endless.template = dataclasses.replace(endless.template, max_new_tokens=9)  # type: ignore[union-attr]
    with pytest.raises(MalformedAnswer, match='no_closing_tag'):
        endless.plan(observe())


def test_the_reasoner_gives_a_typed_intent(checkpoint: Callable[..., Path]) -> None:
    policy: Any = load_policy(checkpoint('qwen2.5', ('<INTENT>', 'slow_down', '</INTENT>')))
    intent = policy.reason(observe(3))
    assert (intent.stamp_s, intent.meta_action) == (1.5, MetaAction.SLOW_DOWN)
    assert intent.ttl_s > 0
    np.testing.assert_array_equal(intent.pose, observe(3).ego.pose)
    assert intent.text == '<INTENT>slow_down</INTENT>'
    unknown: Any = load_policy(checkpoint('qwen2.5', ('<INTENT>', 'fly', '</INTENT>', '.')))
    with pytest.raises(MalformedAnswer, match='unknown_intent'):
        unknown.reason(observe())
    # A template has its own words for what can be meant.
    own = dataclasses.replace(load_template(), intents={'fly': MetaAction.SPEED_UP})
    unknown.template = own
    assert unknown.reason(observe()).meta_action is MetaAction.SPEED_UP
    with pytest.raises(InvalidInput, match="'left' means 'turn_left'; allowed: keep"):
        dataclasses.replace(own, intents={'left': 'turn_left'})  # type: ignore[dict-item]


def test_faults_of_a_folder_are_named(checkpoint: Callable[..., Path], edit_json: Callable[..., None]) -> None:
    folder = checkpoint()

    def refused(message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            load_policy(folder)

    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    for name, message in (
        ('preprocessor_config.json', 'preprocessor_config.json'),
        ('tokenizer.json', 'no tokenizer.json'),
        ('config.json', 'no config.json'),
    ):
        (folder / name).unlink()
        refused(message)
        (folder / name).write_bytes(kept[name])
    # From transformers 5 on, all of the processor's settings are in one file.
    edit_json(folder / 'preprocessor_config.json', image_mean=[0.1, 0.2, 0.3])
    pictures = json.loads((folder / 'preprocessor_config.json').read_text())
    (folder / 'preprocessor_config.json').unlink()
    (folder / 'processor_config.json').write_text(json.dumps({'image_processor': pictures}))
    loaded = load_policy(folder)
    assert isinstance(loaded, QwenPolicy)
    assert list(loaded.parts.images.image_mean) == [0.1, 0.2, 0.3]
    (folder / 'processor_config.json').unlink()
    (folder / 'preprocessor_config.json').write_bytes(kept['preprocessor_config.json'])
    edit_json(folder / 'preprocessor_config.json', patch_size=16)
    refused('patch_size is 16')
    (folder / 'preprocessor_config.json').write_bytes(kept['preprocessor_config.json'])
    edit_json(folder / 'config.json', image_token_id=7)
    refused('image_token_id = 7')
    edit_json(folder / 'config.json', model_type='llama')
    refused("'llama' model")
    (folder / 'config.json').write_bytes(kept['config.json'])
    (folder / 'model.safetensors').write_bytes(kept['model.safetensors'][:5000])
    refused('does not load')
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    refused('pickles')
    with pytest.raises(InvalidInput, match='not found'):
        load_policy(folder / 'nowhere')


def test_templates_are_checked_and_the_checkpoint_may_bring_its_own(checkpoint: Callable[..., Path]) -> None:
    template = load_template()
    assert template.cameras() == template.cameras('reason') == ORDER
    text = template.render('HISTORY')
    assert text.count(IMAGE) == 6
    assert 'HISTORY' in text
    assert text.endswith('<|im_start|>assistant\n')
    folder = checkpoint()
    words = resource('config', 'prompts', 'default.yaml').read_text()
    own = folder / 'prompt.yaml'
    for change, message in (
        (words.replace('<image:back_right>', '<image:roof>', 1), 'roof'),
        (words.replace('<image:front>', '', 1), 'does not show <image:front>'),
        (words.replace('<image:back>', '<image:front>', 1), 'each once'),
        (words.replace('history_poses: 7', 'history_poses: 0'), 'history_poses is 0'),
        (words.replace('history_poses: 7', 'history_poses: many'), "history_poses is 'many'"),
        (words.replace('{x:.2f}', '{z:.2f}'), 'history_line'),
        (words.replace('{seconds:.1f}', '{minutes}'), 'history_header .*allowed places: seconds'),
        (words.replace('steering_ratio: 15.0', 'steering_ratio: 0'), 'steering_ratio is 0; allowed: above 0'),
        (words.replace('max_pixels: 262144', ''), 'expected exactly'),
        ('[', 'no YAML'),
    ):
        own.write_text(change)
        with pytest.raises(InvalidInput, match=message):
            load_policy(folder)
    own.write_text(words.replace('history_poses: 7', 'history_poses: 3'))
    assert load_policy(folder).template.history_poses == 3  # type: ignore[union-attr]
    assert load_policy(folder, prompt=resource('config', 'prompts', 'default.yaml')).template == template  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match='cannot be read'):
        load_policy(folder, prompt=folder / 'nothing.yaml')


def test_a_bag_is_evaluated_with_a_pruner(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """The way in which owners of a checkpoint find out what a pruner costs them."""
    with BagWriter(tmp_path / 'bag', RIG) as bag:
        bag.write_route(0.0, [[30.0, 0.0], [60.0, 0.0]])
        for tick in range(50):
            bag.write_odometry(EgoState(0.1 * tick, 0.5 * tick, 0.0, 0.0, 5.0))
            if tick % 5 == 0:
                bag.write_observation(observe(tick // 5))
    words = ['evaluate', 'open-loop', str(tmp_path / 'bag'), '--model', str(checkpoint())]
    for pruner in ('divprune', 'sparsevlm'):
        file = tmp_path / f'{pruner}.json'
        assert main([*words, '--pruner', pruner, '--prune-ratio', '0.5', '--json', str(file)]) == 0
        found = json.loads(file.read_text())
        assert found['pruning']['pruner'] == pruner
        assert found['samples'] == 4
        # It always answers with 2.52 m a step; 2.5 m were driven.
        assert found['UniAD']['l2_m']['3s'] == pytest.approx(0.12, abs=0.06)


def test_pictures_have_the_size_of_impromptus_training(checkpoint: Callable[..., Path]) -> None:
    assert shrunk((1600, 900), 512 * 512) == (682, 384)
    assert shrunk((320, 192), 512 * 512) == (320, 192)
    policy: Any = load_policy(checkpoint())
    policy.parts.images.size = {'shortest_edge': 3136, 'longest_edge': 12845056}  # as published; the tiny one's are not
    grids = policy._grids([(1600, 900), (320, 192)])
    assert list(zip(grids.rows, grids.columns, strict=True)) == [(14, 24), (7, 11)]
    picture = np.zeros((900, 1600, 3), np.uint8)
    made = policy.parts.images([resize(picture, 682, 384)], size=policy._size(), return_tensors='pt')
    assert made['image_grid_thw'].tolist() == [[1, 28, 48]]


def test_history_reaches_back_between_slow_plans() -> None:
    """A model that takes 2.8 s for a plan sees one tick of 28; the odometry between comes with the observation."""
    template, trail = load_template(), EgoTrail()
    for number in range(3):
        now = observe(0)
        stamp = 10.0 + 2.8 * number

        def state(stamp_s: float) -> EgoState:
            return EgoState(stamp_s, 5.0 * stamp_s, 0.0, 0.0, 5.0)

        known = tuple(state(stamp - 0.1 * back) for back in range(35, 0, -1))
        trail.take(dataclasses.replace(now, stamp_s=stamp, ego=state(stamp), trail=known))
        lines = trail.lines(template).splitlines()[1:]
        assert [line[:8] for line in lines] == [f'(t-{age:.1f}s)' for age in (3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.0)]
        assert lines[0].startswith('(t-3.0s) [-15.00, 0.00]')


def test_history_is_told_relative_to_now() -> None:
    template = load_template()
    trail = EgoTrail()
    assert trail.lines(template) == ''
    for tick in range(9):  # 4 s of driving along +y of the odometry frame, 10 Hz would do as well
        trail.add(EgoState(0.5 * tick, 7.0, 2.0 * tick, np.pi / 2, 4.0))
    header, *lines = trail.lines(template).splitlines()
    assert header == template.history_header.format(seconds=3.0).strip()
    assert len(lines) == 7
    assert lines[0].startswith('(t-3.0s) [-12.00, 0.00]')
    assert 'Velocity: X 4.00, Y 0.00' in lines[0]
    assert lines[-1].startswith('(t-0.0s) [0.00, 0.00]')
    # Between two observations the pose is interpolated; a clock that jumps starts afresh.
    trail.add(EgoState(4.25, 7.0, 17.0, np.pi / 2, 4.0))
    assert trail.lines(template).splitlines()[-2].startswith('(t-0.5s) [-2.00, 0.00]')
    trail.add(EgoState(1.0, 0.0, 0.0, 0.0, 4.0, 0.4))
    assert len(trail.lines(template).splitlines()) == 2
    assert 'Steering angle: 3.80' in trail.lines(template)  # 15 arctan(2.588 * 0.4 / 4)


def test_history_of_a_turn_is_that_of_the_reference_point_and_the_vehicle() -> None:
    """A circle at 5 m/s and 0.3 rad/s, by the formulas of Impromptu-VLA's data: 0.9 rad of it in 3 s."""
    text = '{x} {y} {vx} {vy} {ax} {ay} {steering}'
    template = dataclasses.replace(
        load_template(), history_header='{seconds}:', history_line=text, history_separator=', ', history_poses=7
    )
    trail, radius_m = EgoTrail(), 5.0 / 0.3
    for tick in range(7):
        yaw = 0.15 * tick
        # Odometry tells no acceleration; it is in the speeds.
        trail.add(EgoState(0.5 * tick, radius_m * np.sin(yaw), -radius_m * np.cos(yaw), yaw, 5.0 + 0.25 * tick, 0.3))
    seconds, told = trail.lines(template).split(':')
    then = [float(value) for value in told.split(', ')[0].split()]
    ahead_m, turned = 0.94, 0.9
    x = -radius_m * np.sin(turned) + ahead_m * (np.cos(turned) - 1)
    y = radius_m * (1 - np.cos(turned)) - ahead_m * np.sin(turned)
    assert seconds == '3.0'
    assert then == pytest.approx([x, y, 5.0, 0.0, 0.5, 1.5, 15 * np.arctan(2.588 * 0.06)], abs=0.006)
    assert told.split(', ')[-1].startswith('0.0 0.0 6.5 0.0 0.5 ')


def test_acceleration_is_that_around_each_time_and_nothing_from_a_single_state() -> None:
    template = dataclasses.replace(
        load_template(), history_header='', history_line='{ax}', history_separator=' ', history_poses=3
    )
    trail = EgoTrail()
    for tick in range(31):  # 2 s at 8 m/s, then braking at 3 m/s2
        stamp = 0.1 * tick
        trail.add(EgoState(stamp, 0.0, 0.0, 0.0, 8.0 - 3.0 * max(0.0, stamp - 2.0)))
    # At 2.0 s one half of what is looked at is steady.
    assert trail.lines(template) == '-1.5 -3.0 -3.0'
    alone = EgoTrail()
    alone.add(EgoState(1.0, 0.0, 0.0, 0.0, 8.0))
    assert alone.lines(template) == '0.0'
