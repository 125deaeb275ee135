# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What pruning saves on the native model: the same rows as for Qwen2.5-VL (efficiency.py).

The native model writes no words: `prefill_ms` is the pruner and the prefix, `decode_ms_per_token` is None, and the
operations of the language model hold the action expert and the flow decoder as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from vla_driver.evaluate.cost.counting import counted, counted_stage
from vla_driver.evaluate.cost.efficiency import Row
from vla_driver.model.native.seeing.inputs import InputBuilder
from vla_driver.model.precision import autocast
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.pruning.stage import TokenStage, as_stage
from vla_driver.model.pruning.trained.early import EarlyHead, EarlyPruner
from vla_driver.model.tokens import ModelInputs, to_device
from vla_driver.policies.native import NativePolicy
from vla_driver.types import CameraFrame, CameraRig, EgoState, InvalidInput, Navigation, Observation, TurnCommand


class NativeBench:
    """A native checkpoint's architecture with random weights, and one observation of random pictures."""

    def __init__(self, config: Any, rig: CameraRig, device: torch.device) -> None:
        """Raises `InvalidInput` for the "meta" device: this model is small enough to be run."""
        if device.type == 'meta':
            raise InvalidInput('arch native: its operations are counted while it runs; give --device cpu or cuda')
        from vla_driver.model.native.vla import VlaModel

        torch.manual_seed(0)
        self.device = device
        self.policy = NativePolicy(VlaModel(config), device)
        self.observation = _observation(rig)
        self.policy.plan(self.observation)  # functions of the rig's rays are computed at the first tick only
        self.tokens = sum(len(names) * int(np.prod(config.token_grid(size))) for size, names in config.camera_groups)

    def pruner(self, name: str) -> Any:
        """Return a pruner by name, with random weights where it has weights; 'early:1' prunes before block 1."""
        kind, _, argument = name.partition(':')
        if kind == 'early' and argument.isdigit():
            vision, language = self.policy.config.vision_config, self.policy.config.language_config
            sizes = {'patches': vision.spatial_merge_size**2, 'token_width': language.hidden_size}
            return EarlyPruner(int(argument), 'head', EarlyHead(vision.hidden_size, **sizes).to(self.device))
        if name == 'recon':
            from vla_driver.model.pruning.trained.recon import ReconPruner
            from vla_driver.model.pruning.trained.recon_layers import layer_spec

            return ReconPruner(layer_spec(self.policy.config)).eval().requires_grad_(False).to(self.device)
        return make_pruner(name)

    def flops(self, pruner: Any, keep: int) -> tuple[int, int, int]:
        """Return the operations of vision, pruner and the rest; an in-model pruner's own are among the rest."""
        model, stage = self.policy.model, as_stage(pruner, TokenBudget(count=keep))
        with torch.inference_mode(), autocast(self.device):
            inputs = to_device(InputBuilder(self.policy.config)(self.observation), self.device)
            ego = model.ego(inputs)
            stage.begin()
            seen, vision = counted(lambda: model.encode(inputs, stage))
            stage.behind_encoder(seen.tokens, ego)  # rays are embedded once, as on the road
            scoring = counted(lambda: stage.behind_encoder(seen.tokens, ego))[1]
            inside = self._inside(stage, inputs, vision)
        self.prepare(pruner, keep)
        _, whole = counted(lambda: self.policy.plan(self.observation))
        return vision - inside, scoring + inside, whole - vision - scoring

    def _inside(self, stage: TokenStage, inputs: ModelInputs, vision: int) -> int:
        """Return which of the encoder's operations are the stage's: its attention, or the head that scores units."""
        if stage.needs_attention:
            return vision - counted(lambda: self.policy.model.encode(inputs))[1]
        counting = counted_stage(stage, lambda *_: 0)
        counted(lambda: self.policy.model.encode(inputs, counting))
        return counting.flops

    def prepare(self, pruner: Any, keep: int) -> None:
        """Prune from now on, on a tick that is neither the first with these rays nor remembers others."""
        self.policy.set_pruning(pruner, TokenBudget(count=keep))
        self.policy.plan(self.observation)
        self.policy.reset()

    def peak_memory_mb(self) -> float | None:
        """Return the largest memory of the device during one tick as pruned last, weights included; None on the CPU."""
        if self.device.type != 'cuda':
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        self.policy.plan(self.observation)
        return torch.cuda.max_memory_allocated(self.device) / 2**20


def measure_native(
    bench: NativeBench,
    keep: Sequence[int],
    names: Sequence[str],
    *,
    repeats: int = 20,
    advance: Callable[[str], None] = lambda what: None,
) -> Iterator[Row]:
    """Yield one row for 'none' and one for each other pruner and count of kept tokens; times as in `measure_qwen`."""
    cases = [('none', bench.tokens)] + [(name, count) for name in names if name != 'none' for count in keep]
    ready = {name: bench.pruner(name) for name, _ in cases}
    memory: dict[tuple[str, int], float | None] = {}
    flops, times = {}, {case: [] for case in cases}  # type: ignore[var-annotated]
    for case in cases:
        flops[case] = bench.flops(ready[case[0]], case[1])
        memory[case] = bench.peak_memory_mb()
        advance(f'{case[0]} {case[1]}: operations')
    for _ in range(repeats):
        for case in cases:
            bench.prepare(ready[case[0]], case[1])
            times[case].append(dict(bench.policy.plan(bench.observation).timing_ms))
            advance(f'{case[0]} {case[1]}: times')
    for case in cases:
        vision, pruner, language = flops[case]
        yield Row(
            *case,
            vision,
            pruner,
            language,
            vision + pruner + language,
            prefill_ms=statistics.median(one.get('pruner', 0.0) + one['prefix'] for one in times[case]),
            image_to_plan_ms=statistics.median(sum(one.values()) for one in times[case]),
            peak_memory_mb=memory[case],
        )


def _observation(rig: CameraRig) -> Observation:
    rng = np.random.default_rng(0)
    frames = {
        camera.name: CameraFrame(
            camera.name, 0.0, rng.integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8)
        )
        for camera in rig
    }
    navigation = Navigation(TurnCommand.FOLLOW, 0.0, np.array([[30.0, 0.0], [60.0, 0.0]]))
    return Observation(0.0, frames, rig, EgoState(0.0, 0.0, 0.0, 0.0, 8.0), navigation)
