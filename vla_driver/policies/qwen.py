# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A Qwen2.5-VL or Qwen3-VL checkpoint as Policy (a plan) and Reasoner (an intent)."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from vla_driver.model.pruning.base import KeptTokens, Pruner, needs_attention
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.controls import NoPruner
from vla_driver.model.pruning.early import EarlyPruner
from vla_driver.model.pruning.in_model import InModelPruner, Layout, PrefillPruning, check_stages
from vla_driver.model.pruning.recon import ReconPruner
from vla_driver.model.pruning.selection import Selection, make_selection
from vla_driver.model.qwen.answer import CLOSING, parse_intent, parse_waypoints
from vla_driver.model.qwen.early import early_exit, unit_tokens
from vla_driver.model.qwen.language import LanguageRunner
from vla_driver.model.qwen.loading import QwenParts
from vla_driver.model.qwen.prompt import EgoTrail, PromptTemplate, load_template
from vla_driver.model.qwen.sequence import Sequence, build
from vla_driver.model.qwen.vision import Encoded, Grids, VisionTower
from vla_driver.model.qwen.waypoints import fit_trajectory
from vla_driver.model.tokens import VisualTokens
from vla_driver.observation.resize import resize
from vla_driver.types import Intent, InvalidInput, Observation, Plan

#: How long an intent is worth acting on.
INTENT_TTL_S: Final = 3.0
#: Of a camera without a picture: nuScenes' size, which is also what budgets are tried on before the first tick.
_NOMINAL: Final = (1600, 900)
#: So many of the latest tokens are looked at for the closing tag.
_TAIL: Final = 24

AnyPruner = Pruner | InModelPruner | EarlyPruner


@dataclass(frozen=True)
class _Asked:
    """One question, encoded: the whole sequence, without what early pruning left out, and where its tokens lay."""

    sequence: Sequence
    encoded: Encoded
    cameras: tuple[str, ...]
    missing: tuple[str, ...]


class QwenPolicy:
    """Drives with a vision-language model that writes its waypoints.  Greedy, so the same frames give the same plan.

    Its memory is the ego's trail of the last 3 s.  A camera without a picture is shown black.  Every malformed answer
    is a `MalformedAnswer`, and there is no plan.  Not for use from two threads at once.
    """

    name = 'qwen'
    blind = False

    def __init__(
        self,
        parts: QwenParts,
        template: PromptTemplate | None = None,
        pruner: AnyPruner | None = None,
        budget: TokenBudget | None = None,
    ) -> None:
        self.parts = parts
        self.template = load_template() if template is None else template
        self.device = parts.model.device
        self.answer = ''  # the text of the latest answer, as the model wrote it
        self._tower = VisionTower(parts.model.model.visual)
        self._language = LanguageRunner(parts.model)
        self._trail = EgoTrail()
        self._pruner: AnyPruner | None = None
        self._budget: TokenBudget | None = None
        self._last: tuple[str, float, VisualTokens, KeptTokens] | None = None
        self.set_pruning(pruner, budget)

    def reset(self) -> None:
        """Forget earlier ticks."""
        self._trail.reset()

    # --- pruning -------------------------------------------------------------------------------------------

    def set_pruning(self, pruner: AnyPruner | None, budget: TokenBudget | None = None) -> None:
        """Prune visual tokens from the next tick on; None or `NoPruner`: keep all.

        Tried at once on random tokens of six 1600x900 pictures.  Raises `InvalidInput`, with the reason, and changes
        nothing, for a pruner that does not fit the model and a budget that is missing or cannot be met.
        """
        if pruner is None or isinstance(pruner, NoPruner):
            self._pruner, self._budget, self._last = None, None, None
            return
        if budget is None:
            raise InvalidInput(f'pruner {pruner.name!r}: no token budget; give one, as in TokenBudget(ratio=0.5)')
        if isinstance(pruner, ReconPruner):
            pruner.check(self.parts.model.config)
            # One layer over all tokens: in float32 it would cost a GPU more than it saves.
            pruner.store(self.device, self.parts.model.dtype).eval()
        head = getattr(pruner, 'head', None)
        if isinstance(head, torch.nn.Module):
            head.to(self.device).eval()
        with torch.inference_mode():
            self._try(pruner, budget)
        self._pruner, self._budget, self._last = pruner, budget, None

    def _try(self, pruner: AnyPruner, budget: TokenBudget) -> None:
        names = self.template.cameras()
        grids = self._grids([_NOMINAL] * len(names))
        config = self.parts.model.config
        generator = torch.Generator().manual_seed(0)
        if isinstance(pruner, EarlyPruner):
            pruner.check(self._tower.depth)
            width = config.vision_config.hidden_size
            states = torch.randn(grids.units, grids.side**2, width, generator=generator).to(self.device)
            # What attention a unit receives is not known without pictures; its shape is.
            early_exit(pruner, budget, grids, names).choose(states, lambda: states[:, 0, 0])
            return
        width = config.text_config.hidden_size
        features = torch.randn(grids.units, 1, width, generator=generator).to(self.device, self.parts.model.dtype)
        tokens = unit_tokens(features, grids, names)
        if isinstance(pruner, InModelPruner):
            sizes = [r * c for r, c in zip(grids.rows, grids.columns, strict=True)]
            check_stages(pruner, sizes, names, budget, self._language.depth)
            return
        if needs_attention(pruner):
            tokens = _with_attention(tokens, torch.rand(1, grids.units, generator=generator).to(self.device))
        pruner.select(tokens, budget, tokens.features[:, :8])

    @property
    def pruning(self) -> tuple[AnyPruner | None, TokenBudget | None]:
        """The pruner and its budget, (None, None) where all tokens are kept."""
        return self._pruner, self._budget

    @property
    def last_selection(self) -> Selection | None:
        """What the latest tick kept, by camera; None before the first tick and where nothing is pruned."""
        return None if self._last is None else make_selection(*self._last)

    # --- Policy and Reasoner -------------------------------------------------------------------------------

    @torch.inference_mode()
    def plan(self, observation: Observation, intent: Intent | None = None) -> Plan:
        """Return the plan for one observation.

        Raises `MalformedAnswer` for an answer that is no plan, and `InvalidInput` for an intent: the published
        checkpoints were not trained to be told one.
        """
        if intent is not None:
            raise InvalidInput(f'intent {intent.name!r}: this model takes none; plan without one')
        marks = [('start', time.perf_counter())]

        def mark(stage: str) -> None:
            if self.device.type == 'cuda':
                torch.cuda.synchronize(self.device)
            marks.append((stage, time.perf_counter()))

        self._trail.take(observation)
        self.answer = self._ask(observation, 'text', CLOSING, mark)
        waypoints = parse_waypoints(self.answer)
        trajectory = fit_trajectory(waypoints, observation.ego.speed_mps, self.template.reference_x_m)
        mark('waypoints')
        return Plan(
            stamp_s=observation.stamp_s,
            trajectory=trajectory,
            ego=observation.ego,
            policy=self.name,
            timing_ms={stage: 1e3 * (end - begin) for (_, begin), (stage, end) in itertools.pairwise(marks)},
        )

    @torch.inference_mode()
    def reason(self, observation: Observation) -> Intent:
        """Return what the model says should be done, one of the template's intents; raises `MalformedAnswer`."""
        self._trail.take(observation)
        self.answer = self._ask(observation, 'reason', '</INTENT>', lambda stage: None)
        name = parse_intent(self.answer, self.template.intents)
        return Intent(observation.stamp_s, name, INTENT_TTL_S)

    # --- one question --------------------------------------------------------------------------------------

    def _ask(self, observation: Observation, which: str, closing: str, mark: Callable[[str], None]) -> str:
        """Return what the model writes, up to `closing`, the end of its turn, or the token limit."""
        asked = self._read(observation, which, mark)
        sequence, run = self._prune(asked, observation.stamp_s)
        mark('pruner')
        written: list[int] = []
        for token in self._language.greedy(sequence, run):
            if not written:
                mark('prefill')
                if run is not None:
                    self._keep_record(run.kept, asked.sequence.tokens, observation.stamp_s)
            if token in self.parts.stop:
                break
            written.append(token)
            if closing in self._text(written[-_TAIL:]) or len(written) >= self.template.max_new_tokens:
                break
        text = self._text(written)
        mark('decode')
        return text

    def _text(self, tokens: list[int]) -> str:
        text: str = self.parts.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _read(self, observation: Observation, which: str, mark: Callable[[str], None]) -> _Asked:
        """Turn pictures and history into a sequence."""
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
        mark('preprocess')
        early = None
        if isinstance(self._pruner, EarlyPruner):
            assert self._budget is not None
            early = early_exit(self._pruner, self._budget, grids, cameras, missing)
        attention = not isinstance(self._pruner, EarlyPruner) and needs_attention(self._pruner)
        encoded = self._tower.encode(made['pixel_values'].to(self.device), grids, attention=attention, early=early)
        sequence = build(self.parts.model, ids, encoded, cameras, missing)
        mark('vision')
        return _Asked(sequence, encoded, cameras, missing)

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

    def _prune(self, asked: _Asked, stamp_s: float) -> tuple[Sequence, PrefillPruning | None]:
        """Return what is left of the sequence before the language model, and what will prune inside it."""
        pruner, budget, sequence = self._pruner, self._budget, asked.sequence
        if pruner is None or budget is None:
            return sequence, None
        if isinstance(pruner, EarlyPruner):
            whole = unit_tokens(torch.zeros(asked.encoded.grids.units, 1, 1), asked.encoded.grids, asked.cameras)
            self._keep_record(KeptTokens(asked.encoded.kept.unsqueeze(0)), whole, stamp_s)
            return sequence, None
        if isinstance(pruner, InModelPruner):
            return sequence, start_in_model(pruner, budget, sequence, self._language.depth)
        kept = pruner.select(sequence.tokens, budget, sequence.embeddings[:, sequence.text])
        self._keep_record(kept, sequence.tokens, stamp_s)
        return sequence.select(kept.index[0], None if kept.features is None else kept.features[0]), None

    def _keep_record(self, kept: KeptTokens, tokens: VisualTokens, stamp_s: float) -> None:
        assert self._pruner is not None
        self._last = self._pruner.name, stamp_s, tokens, kept


def start_in_model(pruner: InModelPruner, budget: TokenBudget, sequence: Sequence, depth: int) -> PrefillPruning:
    """Return one run of an in-model pruner over a sequence, for `LanguageRunner.prefill`.

    Judges are the words after the last picture, as in SparseVLM's published code: under a causal mask those before it
    have not seen all pictures, and would favour the first cameras.
    """
    layout = Layout(
        visual=sequence.visual.unsqueeze(0),
        text=sequence.text[sequence.text > sequence.visual[-1]].unsqueeze(0),
        camera=sequence.tokens.camera,
        names=sequence.tokens.names,
        valid=sequence.tokens.valid,
        last=1,
    )
    return PrefillPruning(pruner, budget, layout, sequence.embeddings, depth)


def shrunk(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """Return (width, height) shrunk in proportion to at most `max_pixels`, as LLaMA-Factory does before the processor.

    The processor then rounds to whole tokens, up or down: 1600x900 becomes 682x384, and with it 672x392.
    """
    width, height = size
    factor = min(1.0, math.sqrt(max_pixels / (width * height)))
    return max(1, int(width * factor)), max(1, int(height * factor))


def _with_attention(tokens: VisualTokens, attention: Tensor) -> VisualTokens:
    return dataclasses.replace(tokens, attention=attention)


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
