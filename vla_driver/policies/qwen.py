# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A Qwen2.5-VL or Qwen3-VL checkpoint as Policy (a plan) and Reasoner (an intent)."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.stage import AnyPruner, TokenShapes
from vla_driver.model.qwen.answer import CLOSING, parse_intent, parse_waypoints
from vla_driver.model.qwen.grids import Grids, unit_tokens
from vla_driver.model.qwen.language import LanguageRunner
from vla_driver.model.qwen.loading import QwenParts
from vla_driver.model.qwen.prompt import EgoTrail, PromptTemplate, load_template
from vla_driver.model.qwen.sequence import Sequence, build, prune
from vla_driver.model.qwen.vision import VisionTower
from vla_driver.model.qwen.waypoints import fit_trajectory
from vla_driver.observation.resize import resize
from vla_driver.policies.native import refuse_intent
from vla_driver.policies.prunable import Prunable
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import EngineReport, InputNeeds, Intent, Observation, Plan

#: How long an intent is worth acting on.
INTENT_TTL_S: Final = 3.0
#: Of a camera without a picture: nuScenes' size, which is also what budgets are tried on before the first tick.
_NOMINAL: Final = (1600, 900)
#: So many of the latest tokens are looked at for the closing tag.
_TAIL: Final = 24


class QwenPolicy(Prunable):
    """Drives with a vision-language model that writes its waypoints.  Greedy, so the same frames give the same plan.

    Its memory is the ego's trail of the last 3 s.  A camera without a picture is shown black.  Every malformed answer
    is a `MalformedAnswer`, and there is no plan.  Not for use from two threads at once.
    """

    name = 'qwen'
    #: Why it is not graphs that drive, where they were to.
    engine_note = ''

    def __init__(
        self,
        parts: QwenParts,
        template: PromptTemplate | None = None,
        pruner: AnyPruner | None = None,
        budget: TokenBudget | None = None,
    ) -> None:
        super().__init__()
        self.parts = parts
        if parts.adapter is not None:
            self.name = f'qwen with the {parts.adapter} merged'
        self.template = load_template() if template is None else template
        self.device = parts.model.device
        self.answer = ''  # the text of the latest answer, as the model wrote it
        self._tower = VisionTower(parts.model.model.visual)
        self._language = LanguageRunner(parts.model)
        self._trail = EgoTrail()
        self.set_pruning(pruner, budget)

    @property
    def engine(self) -> EngineReport:
        """What computes."""
        precision = str(self.parts.model.dtype).removeprefix('torch.')
        return EngineReport('torch', f'torch-{self.device.type}', precision, torch.get_num_threads(), self.engine_note)

    @property
    def needs(self) -> InputNeeds:
        """The prompt's cameras as they come (the processor sizes them), and the trail of the ego's history."""
        return InputNeeds(self.template.cameras(), trail_s=self._trail.reach_s)

    def reset(self) -> None:
        """Forget earlier ticks."""
        self._trail.reset()

    def _computing(self) -> AbstractContextManager[object]:
        return nullcontext()  # the weights are in the precision in which they compute

    def _shapes(self) -> TokenShapes:
        """Return random tokens of six 1600x900 pictures."""
        names = self.template.cameras()
        grids = self._grids([_NOMINAL] * len(names))
        config, dtype = self.parts.model.config, self.parts.model.dtype
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(self.device)

        features = random(grids.units, 1, config.text_config.hidden_size).to(dtype)
        tokens = dataclasses.replace(unit_tokens(features, grids, names), attention=random(1, grids.units).abs())
        return TokenShapes(
            config=config,
            vision_depth=self._tower.depth,
            language_depth=self._language.depth,
            tokens=tokens,
            states=random(1, grids.units, grids.side**2, config.vision_config.hidden_size),
            text=8,
            device=self.device,
            dtype=dtype,
        )

    # --- Policy and Reasoner -------------------------------------------------------------------------------

    @torch.inference_mode()
    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation.

        Raises `MalformedAnswer` for an answer that is no plan, and `InvalidInput` for an intent: the published
        checkpoints were not trained to be told one.
        """
        refuse_intent(intent)
        watch = Stopwatch(self.device)
        self._trail.take(observation)
        self.answer = self._ask(observation, 'text', CLOSING, watch)
        waypoints = parse_waypoints(self.answer)
        trajectory = fit_trajectory(waypoints, observation.ego.speed_mps, self.template.reference_x_m)
        watch.mark('waypoints')
        timing_ms = self._stage.share_of(watch.timing_ms, 'prefill')
        return Plan(observation.stamp_s, trajectory, observation.ego, self.name, timing_ms=timing_ms)

    @torch.inference_mode()
    def reason(self, observation: Observation) -> Intent:
        """Return what the model says should be done, in one of the template's words; raises `MalformedAnswer`."""
        self._trail.take(observation)
        self.answer = self._ask(observation, 'reason', '</INTENT>', Stopwatch(self.device))
        action = parse_intent(self.answer, self.template.intents)
        return Intent(observation.stamp_s, action, INTENT_TTL_S, observation.ego.pose, text=self.answer)

    # --- one question --------------------------------------------------------------------------------------

    def _ask(self, observation: Observation, which: str, closing: str, watch: Stopwatch) -> str:
        """Return what the model writes, up to `closing`, the end of its turn, or the token limit."""
        self._stage.begin()
        self._seen_s = observation.stamp_s
        sequence, run = prune(self._read(observation, which, watch), self._stage, self._language.depth)
        written: list[int] = []
        for token in self._language.greedy(sequence, run):
            if not written:
                watch.mark('prefill')
            if token in self.parts.stop:
                break
            written.append(token)
            if closing in self._text(written[-_TAIL:]) or len(written) >= self.template.max_new_tokens:
                break
        text = self._text(written)
        watch.mark('decode')
        return text

    def _text(self, tokens: list[int]) -> str:
        text: str = self.parts.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _read(self, observation: Observation, which: str, watch: Stopwatch) -> Sequence:
        """Turn pictures and history into a sequence, without what has left inside the encoder."""
        cameras = self.template.cameras(which)
        missing = tuple(name for name in cameras if name not in observation.frames)
        pictures = [
            observation.frames[name].image
            if name in observation.frames
            else np.zeros((_NOMINAL[1], _NOMINAL[0], 3), np.uint8)
            for name in cameras
        ]
        pictures = [resize(one, *shrunk((one.shape[1], one.shape[0]), self.template.max_pixels)) for one in pictures]
        made = self.parts.images(pictures, size=self._size(), return_tensors='pt', input_data_format='channels_last')
        grids = Grids.from_thw(made['image_grid_thw'], self._tower.side)
        ids = self._ids(self.template.render(self._trail.lines(self.template), which), grids)
        watch.mark('preprocess')
        pixels = made['pixel_values'].to(self.device)
        encoded = self._tower.encode(pixels, grids, self._stage, cameras, missing)
        sequence = build(self.parts.model, ids, encoded, cameras, missing)
        watch.mark('vision')
        return sequence

    def _size(self) -> dict[str, int]:
        smallest, largest = (int(self.parts.images.size[edge]) for edge in ('shortest_edge', 'longest_edge'))
        return {'shortest_edge': min(smallest, self.template.max_pixels), 'longest_edge': largest}

    def _grids(self, sizes: list[tuple[int, int]]) -> Grids:
        """Return the grids that pictures of (width, height) get."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        factor, limits = self.parts.images.patch_size * self._tower.side, self._size()
        shapes = [
            smart_resize(height, width, factor, limits['shortest_edge'], limits['longest_edge'])
            for width, height in (shrunk(size, self.template.max_pixels) for size in sizes)
        ]
        return Grids(tuple(h // factor for h, _ in shapes), tuple(w // factor for _, w in shapes), self._tower.side)

    def _ids(self, text: str, grids: Grids) -> Tensor:
        """Return the token ids [1, L] of a rendered prompt, each picture's token repeated once for each unit."""
        pad = self.parts.model.config.image_token_id
        ids: list[int] = self.parts.tokenizer(text, add_special_tokens=False)['input_ids']
        counts = iter([r * c for r, c in zip(grids.rows, grids.columns, strict=True)])
        repeated = itertools.chain.from_iterable([token] * (next(counts) if token == pad else 1) for token in ids)
        return torch.tensor([list(repeated)])


def shrunk(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """Return (width, height) shrunk in proportion to at most `max_pixels`, as LLaMA-Factory does before the processor.

    The processor then rounds to whole tokens, up or down: 1600x900 becomes 682x384, and with it 672x392.
    """
    width, height = size
    factor = min(1.0, math.sqrt(max_pixels / (width * height)))
    return max(1, int(width * factor)), max(1, int(height * factor))


def load_qwen_policy(
    folder: str | os.PathLike[str],
    prompt: str | os.PathLike[str] | None = None,
    device: str | torch.device = 'cpu',
    dtype: Any = None,
) -> QwenPolicy:
    """Return the policy of the checkpoint in `folder`; prompt: a template file.  Raises `InvalidInput`."""
    from vla_driver.model.qwen.loading import load_parts

    template = load_template(prompt)  # first: it is quick, and a mistake in it should not wait for the weights
    return QwenPolicy(load_parts(folder, device, dtype), template)
