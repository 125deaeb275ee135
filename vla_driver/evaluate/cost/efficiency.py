# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What pruning saves: operations of vision encoder, pruner and language model, and real times, paired in one run.

Operations are counted by torch's FlopCounterMode on the calls of the real modules (a multiplication and an addition
are two).  On the "meta" device nothing is computed, so the full architectures fit; a pruner whose selection depends
on values is counted on real random tokens instead.  Weights are random: a cost does not depend on them.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from vla_driver.evaluate.cost.counting import counted, counted_stage
from vla_driver.evaluate.cost.qwen_models import make_qwen, square_or_six
from vla_driver.model.pruning.budget import TokenBudget
from vla_driver.model.pruning.in_model import NOTHING_LEAVES, PrefillRun
from vla_driver.model.pruning.registry import PRUNER_NAMES, make_pruner
from vla_driver.model.pruning.stage import AnyPruner, AttentionWanted, TokenStage, as_stage
from vla_driver.model.pruning.trained.early import EarlyHead, EarlyPruner
from vla_driver.model.qwen.language import LanguageRunner
from vla_driver.model.qwen.sequence import Sequence as TokenSequence
from vla_driver.model.qwen.sequence import build, prune
from vla_driver.model.qwen.vision import VisionTower
from vla_driver.model.tokens import VisualTokens
from vla_driver.types import CAMERA_NAMES, InvalidInput

#: Words around the pictures: template, history of seven poses and question make about this many.
PROMPT_TOKENS: Final = 400
#: Length of an answer with six waypoints, about: 12 numbers of five characters and a sentence.
ANSWER_TOKENS: Final = 120
EARLY: Final = 'early'


@dataclass(frozen=True)
class Row:
    """One pruner at one number of kept tokens; times are medians, None where nothing was run.

    flops_vision: the encoder with its merger; flops_pruner: scoring and selecting, with the attention that the
    encoder computes only for the pruner; flops_language_model: prefill with the logits of the last token.
    image_to_plan_ms: vision, pruner, prefill and an answer of ANSWER_TOKENS tokens.
    """

    pruner: str
    kept: int
    flops_vision: int
    flops_pruner: int
    flops_language_model: int
    flops_whole: int
    prefill_ms: float | None = None
    decode_ms_per_token: float | None = None
    image_to_plan_ms: float | None = None
    peak_memory_mb: float | None = None


class QwenBench:
    """One architecture, one set of random pictures, and everything that is measured on them."""

    def __init__(self, arch: str, tokens: int, device: torch.device, scale: int = 1) -> None:
        self.arch, self.device, self.scale = arch, device, scale
        self.grids = square_or_six(tokens)
        self.names = ('front',) if len(self.grids.rows) == 1 else CAMERA_NAMES
        torch.manual_seed(0)
        self.model = make_qwen(arch, device, scale)
        self.tower = VisionTower(self.model.model.visual)
        self.language = LanguageRunner(self.model)
        self.ids = self._ids()
        self._prefills: dict[int, int] = {}
        width = 3 * 2 * 14 * 14
        count = self.grids.units * self.grids.side**2
        generator = torch.Generator().manual_seed(0)
        self.pixels = (
            torch.empty(count, width, device='meta')
            if device.type == 'meta'
            else torch.randn(count, width, generator=generator).to(device, self.model.dtype)
        )

    def _ids(self) -> Tensor:
        config = self.model.config
        half = PROMPT_TOKENS // 2
        parts = [torch.full((half,), 100)]
        for rows, columns in zip(self.grids.rows, self.grids.columns, strict=True):
            image = torch.full((rows * columns,), config.image_token_id)
            parts += [torch.tensor([config.vision_start_token_id]), image, torch.tensor([config.vision_end_token_id])]
        parts.append(torch.full((half,), 200))
        return torch.cat(parts).unsqueeze(0)

    def pruner(self, name: str) -> AnyPruner:
        """Return a pruner by name, with random weights where it has weights; 'early:8' prunes before block 8."""
        torch.manual_seed(0)
        kind, _, argument = name.partition(':')
        if kind == EARLY:
            head = EarlyHead(self.model.config.vision_config.hidden_size).to(self.device, torch.float32)
            if not argument.isdigit():
                raise InvalidInput(f'pruner {name!r}: expected {EARLY}:BLOCK, such as {EARLY}:6')
            return EarlyPruner(int(argument), 'head', head)
        if name == 'recon':
            from vla_driver.model.pruning.trained.recon import ReconPruner
            from vla_driver.model.pruning.trained.recon_layers import layer_spec

            with self.device:
                pruner = ReconPruner(layer_spec(self.model.config)).eval().requires_grad_(False)
            return pruner.store(self.device, self.model.dtype)
        return make_pruner(name)

    # --- operations ----------------------------------------------------------------------------------------

    def flops(self, name: str, keep: int) -> tuple[int, int, int]:
        """Return the operations of vision, pruner and language model (prefill) with `keep` tokens kept."""
        stage = counted_stage(self.stage(name, keep), self._scoring_flops)
        with torch.inference_mode():
            sequence, vision = self._encoded(stage)
            sequence, run = prune(sequence, stage, self.language.depth)
            choosing = stage.flops  # inside the encoder or behind it
            language = self._prefill_flops(sequence, run)
            asked = self._attention_flops if stage.needs_attention else 0
            # What a stage does inside the encoder or the prefill was counted there as well.
            inside = choosing if stage.needs_pictures else 0
            return vision - inside, stage.flops + asked, language - (stage.flops - choosing)

    def stage(self, name: str, keep: int) -> TokenStage:
        """Return the stage of a pruner by name that keeps `keep` tokens."""
        return as_stage(self.pruner(name), TokenBudget(count=keep))

    def _encoded(self, stage: TokenStage) -> tuple[TokenSequence, int]:
        """Return the sequence and the operations of the encoder, without the attention that a stage asks for."""
        if not stage.needs_pictures:
            return self._whole
        encoded, vision = counted(lambda: self.tower.encode(self.pixels, self.grids, stage, self.names))
        return build(self.model, self.ids, encoded, self.names), vision

    @functools.cached_property
    def _whole(self) -> tuple[TokenSequence, int]:
        """The sequence without pruning, and the operations of the encoder."""
        encoded, vision = counted(lambda: self.tower.encode(self.pixels, self.grids))
        return build(self.model, self.ids, encoded, self.names), vision

    @functools.cached_property
    def _attention_flops(self) -> int:
        """What the encoder does more when a pruner asks for the attention that tokens receive."""
        _, more = counted(lambda: self.tower.encode(self.pixels, self.grids, AttentionWanted()))
        return more - self._whole[1]

    def _prefill_flops(self, sequence: TokenSequence, run: PrefillRun) -> int:
        """Return the operations of a prefill; where nothing leaves they depend on the length of the sequence alone."""
        if run is not NOTHING_LEAVES:
            return counted(lambda: self.language.prefill(sequence, run))[1]
        length = sequence.embeddings.shape[1]
        if length not in self._prefills:
            self._prefills[length] = counted(lambda: self.language.prefill(sequence))[1]
        return self._prefills[length]

    def _scoring_flops(self, pruner: Any, budget: TokenBudget, tokens: VisualTokens, text: Tensor) -> int:
        """Return the operations of a selection: on the bench's device, or on real tokens where values decide."""
        if hasattr(pruner, 'stack'):
            # ReconPruner: its layer, and the product with the scorer's one row, which torch's counter does not know.
            layer = counted(lambda: pruner.stack(tokens.features, tokens, pruner.query))[1]
            return layer + 2 * tokens.features[0].numel()
        generator = torch.Generator().manual_seed(0)
        real = torch.device('cpu') if self.device.type == 'meta' else self.device
        tokens = dataclasses.replace(
            tokens,
            features=torch.randn(tokens.features.shape, generator=generator).to(real),
            attention=torch.rand(1, self.grids.units, generator=generator).to(real),
        )
        text = torch.randn(text.shape, generator=generator).to(real)
        return counted(lambda: pruner.select(tokens, budget, text))[1]

    # --- times ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def once(self, stage: TokenStage, answer: int) -> dict[str, float]:
        """Return the milliseconds of one tick: prefill (pruner included), decoding a token, image to plan."""
        self._wait()
        began = time.perf_counter()
        stage.begin()
        encoded = self.tower.encode(self.pixels, self.grids, stage, self.names)
        sequence = build(self.model, self.ids, encoded, self.names)
        self._wait()
        seen = time.perf_counter()
        sequence, run = prune(sequence, stage, self.language.depth)
        logits, cache = self.language.prefill(sequence, run)
        self._wait()
        filled = time.perf_counter()
        for step in range(answer):
            logits = self.language.step(int(logits[0].argmax()), sequence.next_position + step, cache)
        self._wait()
        done = time.perf_counter()
        decode = 1e3 * (done - filled) / answer
        plan = 1e3 * (filled - began) + decode * ANSWER_TOKENS
        return {'prefill_ms': 1e3 * (filled - seen), 'decode_ms_per_token': decode, 'image_to_plan_ms': plan}

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def peak_memory_mb(self, stage: TokenStage, answer: int) -> float | None:
        """Return the largest memory of the device during one tick, weights included; None on the CPU."""
        if self.device.type != 'cuda':
            return None
        torch.cuda.reset_peak_memory_stats(self.device)
        self.once(stage, answer)
        return torch.cuda.max_memory_allocated(self.device) / 2**20


def pruner_names(early_blocks: Sequence[int]) -> tuple[str, ...]:
    """Return the rows' names: every pruner of any model, and early pruning before each of the blocks."""
    return (*(name for name in PRUNER_NAMES if name != 'plan'), *(f'{EARLY}:{block}' for block in early_blocks))


def check_keep(tokens: int, keep: Sequence[int]) -> None:
    """Raise `InvalidInput` unless every count of kept tokens is 1 to `tokens`."""
    for count in keep:
        if not 1 <= count <= tokens:
            raise InvalidInput(f'keep {count} of {tokens} tokens; allowed: 1 to {tokens}')


def check_device(name: str) -> torch.device:
    """Return a device that is there; raise `InvalidInput` for a GPU that is not."""
    if name == 'cuda' and not torch.cuda.is_available():
        raise InvalidInput(
            'device cuda: no GPU that torch can use is here; count with --device meta, or time on the cpu'
        )
    return torch.device(name)


def measure_qwen(
    bench: QwenBench,
    keep: Sequence[int],
    names: Sequence[str],
    *,
    repeats: int = 5,
    answer: int = 16,
    advance: Callable[[str], None] = lambda what: None,
) -> Iterator[Row]:
    """Yield one row for 'none' and one for each other pruner and count of kept tokens.

    Times (not on "meta") are medians over `repeats` rounds; each round runs every row once, so that all rows see the
    same drift of the machine.  answer: tokens decoded in a round, scaled up to ANSWER_TOKENS in image_to_plan_ms.
    advance: told after each piece of work.
    """
    cases = [('none', bench.grids.units)] + [(name, count) for name in names if name != 'none' for count in keep]
    flops = {}
    for case in cases:
        flops[case] = bench.flops(*case)
        advance(f'{case[0]} {case[1]}: operations')
    times: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    memory: dict[tuple[str, int], float | None] = dict.fromkeys(cases)
    if bench.device.type != 'meta':
        for name, count in cases:  # warm-up; no other pruner's weights lie in the memory then
            alone = bench.stage(name, count)
            bench.once(alone, 1)
            memory[name, count] = bench.peak_memory_mb(alone, 1)
            del alone
            advance(f'{name} {count}: warm-up')
        ready = {name: bench.pruner(name) for name, _ in cases}
        for _ in range(repeats):
            for case in cases:
                times[case].append(bench.once(as_stage(ready[case[0]], TokenBudget(count=case[1])), answer))
                advance(f'{case[0]} {case[1]}: times')
    for case in cases:
        vision, pruner, language = flops[case]
        found = times[case]

        def median(key: str, found: list[dict[str, float]] = found) -> float | None:
            return statistics.median(one[key] for one in found) if found else None

        yield Row(
            *case,
            vision,
            pruner,
            language,
            vision + pruner + language,
            prefill_ms=median('prefill_ms'),
            decode_ms_per_token=median('decode_ms_per_token'),
            image_to_plan_ms=median('image_to_plan_ms'),
            peak_memory_mb=memory[case],
        )


def as_dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows for JSON, with each one's whole-model saving against 'none'."""
    whole = next(row.flops_whole for row in rows if row.pruner == 'none')
    return [{**dataclasses.asdict(row), 'flops_saving': round(whole / row.flops_whole, 3)} for row in rows]
