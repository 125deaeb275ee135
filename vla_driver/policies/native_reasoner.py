# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The native model as a Reasoner: one observation in, one sentence and its intent out, with a memory between.

It reads what the fast half reads, with the same weights, and then goes on in words.  It has its own memory, for it runs
in its own process and at its own rate.  Whether thinking is worth it, its gate says (`doubt`), without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

from vla_driver.model.native.seeing.inputs import InputBuilder
from vla_driver.model.native.seeing.memory import MemoryState
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ModelInputs, Prefix, VisualTokens, to_device
from vla_driver.model.words.decoding import Said, Trust, say
from vla_driver.model.words.grammar import Statement
from vla_driver.model.words.labels import ACTIONS, HAZARDS, shown_cameras
from vla_driver.model.words.losses import word_weights
from vla_driver.policies.native import picture_sizes, ready_to_drive, torch_engine
from vla_driver.policies.stopwatch import Stopwatch
from vla_driver.types import EngineReport, InputNeeds, Intent, InvalidInput, Observation

#: How long an intent is worth acting on.
INTENT_TTL_S: Final = 2.0
#: The gate asks for words where the last ones are wrong with more than this chance.
ASK_ABOVE: Final = 0.3


@dataclass(frozen=True)
class _Read:
    """What was read of one observation: its prefix, and the cameras that show something."""

    observation: Observation
    prefix: Prefix
    seen: tuple[str, ...]


class NativeReasoner:
    """Speaks with a VlaModel that has words.  Deterministic: the same observations give the same sentences.

    It names only cameras whose pictures it has and reads.  Not for use from two threads at once.
    """

    name = 'model'
    engine_note = ''

    def __init__(
        self,
        model: VlaModel,
        device: str | torch.device = 'cpu',
        ttl_s: float = INTENT_TTL_S,
        ask_above: float = ASK_ABOVE,
    ):
        """The model is taken over, as by `NativePolicy`.

        ttl_s: how long its intents hold; ask_above: see `asks`.  Raises `InvalidInput` for a model without words, a
        time that is not positive and a chance out of range.  A blind model guesses: it is a control.
        """
        if not model.config.words_config.grammar:
            raise InvalidInput(
                'this checkpoint has no words (words_config.grammar is 0): it drives, but cannot reason; give a '
                'checkpoint that was trained with words'
            )
        if not ttl_s > 0 or not 0.0 <= ask_above <= 1.0:
            raise InvalidInput(
                f'reasoner: intents hold {ttl_s} s and it asks above {ask_above}; allowed: a positive time and 0 to 1'
            )
        self.config, self.device = model.config, torch.device(device)
        self.ttl_s, self.ask_above = ttl_s, ask_above
        self.model = ready_to_drive(model, self.device)
        self._trust = Trust(word_weights(self.model.words), self.config.words_config.temperature)
        self._inputs = InputBuilder(self.config)
        self._memory = MemoryState(self.config.memory_config)
        self._read: _Read | None = None
        self._last: tuple[float, Statement, tuple[int, ...]] | None = None
        self.said: Said | None = None  # the latest sentence
        self.timing_ms: dict[str, float] = {}
        self.considered = self.asked = 0

    @property
    def engine(self) -> EngineReport:
        """What computes."""
        return torch_engine(self.device, self.engine_note)

    @property
    def needs(self) -> InputNeeds:
        """The model's cameras, at the sizes that it works at."""
        return InputNeeds(tuple(self.config.camera_names), picture_sizes(self.config))

    def reset(self) -> None:
        """Forget earlier ticks and what was said."""
        self._memory.reset()
        self._read = self._last = self.said = None

    @torch.inference_mode()
    def reason(self, observation: Observation) -> Intent:
        """Return what the model says should be done, and why, stamped and placed as the observation is.

        Raises InvalidInput for cameras that the model does not know.
        """
        watch = Stopwatch(self.device)
        read = self._perceive(observation, watch)
        guess = self._last[2] if self._last is not None else ()
        speaker, layers = self.model.words, self.model.language.layers
        with autocast(self.device):
            self.said = say(speaker, layers, read.prefix, read.seen, guess, self._trust)
        statement = speaker.grammar.understand(self.said.words, read.seen)
        self._last = observation.stamp_s, statement, self.said.words
        watch.mark('words')
        self.timing_ms = watch.timing_ms
        return statement.intent(
            observation.stamp_s,
            self.ttl_s,
            observation.ego.pose,
            self.said.confidence,
            speaker.grammar.text(self.said.words),
        )

    @torch.inference_mode()
    def doubt(self, observation: Observation) -> float:
        """Return the chance that what was last said no longer holds; 1 where nothing was, or its time is over.

        `reason` on the same observation then goes on from what was read here.
        """
        read = self._perceive(observation, Stopwatch(self.device))
        if self._last is None or not 0.0 <= (age_s := observation.stamp_s - self._last[0]) <= self.ttl_s:
            return 1.0
        action, hazard, camera = self._last[1].meaning
        if camera and camera not in read.seen:
            return 1.0
        place = self.config.camera_names.index(camera) if camera else -1
        said = torch.tensor([[ACTIONS.index(action), HAZARDS.index(hazard), place]], device=self.device)
        with autocast(self.device):
            logit = self.model.words.gate(read.prefix.scene, said, torch.tensor([age_s], device=self.device))
        return float(logit.sigmoid())

    def asks(self, observation: Observation) -> bool:
        """Whether thinking is worth it: `doubt` exceeds `ask_above`.  `asked` of `considered` counts how often."""
        worth = self.doubt(observation) > self.ask_above
        self.considered += 1
        self.asked += worth
        return worth

    # --- reading ---------------------------------------------------------------------------------------------

    def _perceive(self, observation: Observation, watch: Stopwatch) -> _Read:
        """Read an observation, once."""
        if self._read is not None and self._read.observation is observation:
            return self._read
        inputs = to_device(self._inputs(observation), self.device)
        if self._memory.observe_clock(observation.stamp_s):
            self._last = None
        watch.mark('preprocess')
        with autocast(self.device):
            prefix, tokens = self._prefill(observation, inputs)
        watch.mark('prefix')
        names = self.config.camera_names
        shown = shown_cameras(tokens, 1, len(names), self.device)[0] & inputs.present[0]
        hidden = observation.unseen
        seen = tuple(name for name, there in zip(names, shown.tolist(), strict=True) if there and name not in hidden)
        self._read = _Read(observation, prefix, seen)
        return self._read

    def _prefill(self, observation: Observation, inputs: ModelInputs) -> tuple[Prefix, VisualTokens | None]:
        model = self.model
        ego = model.ego(inputs)
        if self.config.blind:
            return model.prefill(ego, None, None), None
        tokens = model.encode(inputs).tokens
        pooled = model.pool(tokens)
        remembered = self._memory.read(observation.ego, observation.stamp_s, pooled)
        self._memory.write(pooled, observation.ego, observation.stamp_s)
        return model.prefill(ego, tokens, remembered), tokens
