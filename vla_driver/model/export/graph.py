# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""A part of a tick as a function of named tensors: the base of all graphs, the names of tensors, and their sizes."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.layers.experts import overheard
from vla_driver.model.layers.rays import RayFunction
from vla_driver.model.layers.routing import Routing, load_of
from vla_driver.model.native.intent import indecision
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.tokens import IntentInputs, ModelInputs, Prefix, Remembered, VisualTokens

EGO = ('speed_mps', 'yaw_rate_rps', 'command', 'command_distance_m', 'targets_m')
#: What the slow half said; all zeros: nothing.
TOLD = ('intent_kinds', 'intent_numbers')
#: What the others' futures follow from, of models that forecast them: hidden [1, T + A, D] of all queries, and of the
#: ego's own plan the reflex's trunk [1, H] and curvatures bend [1, T], and all votes for its anchor [1, anchors].
OF_OTHERS = ('hidden', 'trunk', 'bend', 'votes')
REMEMBERED = ('remembered_features', 'remembered_valid', 'motion', 'age_s')
#: What the graph `rig` gives the others, and which of it is of every token.
OF_TOKENS = ('token_rays', 'token_origins', 'token_position', 'spread')
OF_POOLED = ('pooled_rays', 'pooled_origins')
RIG = ('patch_position', *OF_TOKENS, *OF_POOLED)


def told_to(config: VlaConfig) -> tuple[str, ...]:
    """Return the inputs of what the slow half said, of models that can be told."""
    return TOLD if config.intent else ()


def decided_by(config: VlaConfig) -> tuple[str, ...]:
    """Return what a decision consists of, the controls first.

    `OF_OTHERS`: of models that forecast others, for a graph of its own (graphs.py); uncertainty [1]: of the choice
    among courses of speed, 0 to 1; wants_words [1]: the chance that what was said no longer holds, of models with words
    that can be told; expert_load [1, layers, N]: how much each expert read of this tick, over an even share, in those
    layers of the language model that have experts (`LanguageConfig.routed_layers`).
    """
    others = OF_OTHERS if config.action_config.num_agents else ()
    words = ('wants_words',) if config.intent and config.words_config.grammar else ()
    load = ('expert_load',) if config.language_config.routed_layers else ()
    return ('controls', *others, 'uncertainty', *words, *load)


@dataclass(frozen=True)
class Shapes:
    """The sizes that tensors of one model have; see model/tokens.py."""

    images: tuple[tuple[int, ...], ...]
    cameras: int
    patches: int
    tokens: int
    pooled: int
    ticks: int
    width: int
    patch_width: int
    unit: int
    horizon: int


def shapes_of(model: VlaModel) -> Shapes:
    """Return the sizes of a model that sees."""
    config, vision = model.config, model.config.vision_config
    images = tuple((1, len(names), height, width, 3) for (width, height), names in config.camera_groups)
    grids = [(config.patch_grid(size), config.token_grid(size), len(names)) for size, names in config.camera_groups]
    return Shapes(
        images=images,
        cameras=len(config.camera_names),
        patches=sum(rows * columns * count for (rows, columns), _, count in grids),
        tokens=sum(rows * columns * count for _, (rows, columns), count in grids),
        pooled=len(model.memory_pool.camera),
        ticks=len(config.memory_config.ages_s),
        width=config.language_config.hidden_size,
        patch_width=vision.hidden_size,
        unit=vision.spatial_merge_size**2,
        horizon=config.action_config.horizon,
    )


@contextlib.contextmanager
def answered(function: RayFunction, answer: Tensor) -> Iterator[None]:
    """Within, `function` gives `answer` where its shape is asked for, instead of computing it."""
    function.given = answer
    try:
        yield
    finally:
        function.given = None


class Graph(nn.Module, abc.ABC):
    """A part of a tick as a function of named tensors.

    inputs, outputs: their names, in the order in which `forward` takes and gives them.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    #: The graph that this one is joined to, and takes what it puts out.
    behind = ''
    #: The graphs that are joined to make this one, of whose outputs it has its own alone; empty where torch follows it.
    #: What its module computes is then what they are compared with.
    parts: tuple[str, ...] = ()

    def __init__(self, model: VlaModel) -> None:
        super().__init__()
        self.model = model
        self.pictures = tuple(f'images_{number}' for number in range(len(model.config.camera_groups)))
        if not model.config.blind:
            self.camera, self.row, self.column = cells_of(model)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs."""
        return self.compute(dict(zip(self.inputs, tensors, strict=True)))

    @abc.abstractmethod
    def compute(self, given: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs for inputs by name."""

    def pieces(self) -> dict[str, Graph]:
        """Return those of `parts` that are nothing but parts."""
        return {}

    def example(self, name: str) -> Tensor:
        """Return an input of the right shape, to follow the graph with; its numbers do not matter."""
        if name.startswith('images_'):
            return torch.zeros(shapes_of(self.model).images[int(name.removeprefix('images_'))], dtype=torch.uint8)
        return _examples(self.model)[name]

    def model_inputs(self, given: Mapping[str, Tensor]) -> ModelInputs:
        """Return the model's own inputs; rays and origins are answered for by the rig's graph."""
        shapes = shapes_of(self.model)
        nothing = torch.zeros(1)
        return ModelInputs(
            images=tuple(given[name] for name in self.pictures if name in given),
            present=given.get('present', nothing),
            rays=torch.zeros(1, shapes.patches, 3),
            origins=torch.zeros(1, shapes.cameras, 3),
            **{name: given.get(name, nothing) for name in EGO},
        )

    def tokens_of(self, given: Mapping[str, Tensor], features: Tensor) -> VisualTokens:
        """Return features [1, N, D] as tokens of the rig."""
        return VisualTokens(
            features=features,
            camera=self.camera,
            row=self.row,
            column=self.column,
            rays=given['token_rays'],
            origins=given['token_origins'],
            valid=given['present'][:, self.camera],
            names=self.model.config.camera_names,
        )

    def remembered_of(self, given: Mapping[str, Tensor]) -> Remembered:
        """Return what earlier ticks left."""
        return Remembered(
            features=given['remembered_features'],
            rays=given['pooled_rays'],
            origins=given['pooled_origins'],
            motion=given['motion'],
            age_s=given['age_s'],
            valid=given['remembered_valid'],
        )

    def encoded(self, given: Mapping[str, Tensor]) -> Tensor:
        """Return the patches [1, P, d] in front of the first block."""
        vision = self.model.vision
        with answered(vision.position, given['patch_position']):
            return vision.start(self.model_inputs(given))

    def read_and_decide(
        self, given: Mapping[str, Tensor], tokens: VisualTokens | None, kept: KeptTokens | None, ego: Tensor
    ) -> tuple[Tensor, ...]:
        """Return what is decided (`decided_by`) from tokens that were seen; None: the blind control."""
        model = self.model
        intent = IntentInputs(given['intent_kinds'], given['intent_numbers']) if model.config.intent else None
        with overheard(model.language) as routings:
            if tokens is None:
                prefix, told = model.read(ego, None, None, intent=intent)
            else:
                remembered = self.remembered_of(given)
                with answered(model.position, given['token_position']), answered(model.view.spread, given['spread']):
                    prefix, told = model.read(ego, tokens, remembered, kept, intent=intent)
        return self._decide(prefix, told, ego, intent, routings)

    def _decide(
        self,
        prefix: Prefix,
        told: tuple[Prefix, Tensor],
        ego: Tensor,
        intent: IntentInputs | None,
        routings: Sequence[Routing],
    ) -> tuple[Tensor, ...]:
        """Return what is decided from what was read, by which experts, and from what the slow half said."""
        model, config = self.model, self.model.config
        hidden, reflex = model.act(*told), model.reflex(prefix, ego)
        decoded = model.decode_all(hidden, reflex, others=False)
        assert decoded.votes is not None
        made = {
            'controls': decoded.controls,
            'uncertainty': indecision(decoded.votes),
            'hidden': hidden,
            'trunk': reflex.trunk,
            'bend': reflex.bend,
            'votes': decoded.votes,
        }
        if intent is not None and config.words_config.grammar:
            made['wants_words'] = model.words.gate.outdated(prefix.scene, intent)
        if routings:
            made['expert_load'] = load_of(routings)
        return tuple(made[name] for name in decided_by(config))


def cells_of(model: VlaModel) -> tuple[Tensor, Tensor, Tensor]:
    """Return camera, row and column [N] of every token."""
    cells, first = [], 0
    for (rows, columns), (_, count) in zip(model.vision.token_grids, model.vision.groups, strict=True):
        cells.append(
            torch.cartesian_prod(torch.arange(first, first + count), torch.arange(rows), torch.arange(columns))
        )
        first += count
    camera, row, column = torch.cat(cells).unbind(dim=1)
    return camera.contiguous(), row.contiguous(), column.contiguous()


def _examples(model: VlaModel) -> dict[str, Tensor]:
    one = torch.zeros(1)
    ego = {
        'intent_kinds': torch.zeros(1, 3, dtype=torch.int64),
        'intent_numbers': torch.zeros(1, 7),
        'speed_mps': one,
        'yaw_rate_rps': one,
        'command': torch.zeros(1, dtype=torch.int64),
        'command_distance_m': one,
        'targets_m': torch.zeros(1, 2, 2),
    } | _examples_of_others(model.config)
    if model.config.blind:
        return ego
    s = shapes_of(model)
    kept, cells = s.tokens // 2, model.view.spread.rows * model.view.spread.columns
    return ego | {
        'present': torch.ones(1, s.cameras, dtype=torch.bool),
        'rays': torch.zeros(1, s.patches, 3),
        'origins': torch.zeros(1, s.cameras, 3),
        'remembered_features': torch.zeros(1, s.ticks, s.pooled, s.width),
        'remembered_valid': torch.ones(1, s.ticks, dtype=torch.bool),
        'motion': torch.zeros(1, s.ticks, 3),
        'age_s': torch.zeros(1, s.ticks),
        'patch_position': torch.zeros(1, s.patches, s.patch_width),
        'token_rays': torch.zeros(1, s.tokens, 3),
        'token_origins': torch.zeros(1, s.tokens, 3),
        'token_position': torch.zeros(1, s.tokens, s.width),
        'spread': torch.zeros(1, s.tokens, cells),
        'pooled_rays': torch.zeros(1, s.pooled, 3),
        'pooled_origins': torch.zeros(1, s.pooled, 3),
        'recon_position': torch.zeros(1, s.tokens, s.width),
        'features': torch.zeros(1, s.tokens, s.width),
        'left_features': torch.zeros(1, s.tokens, s.width),
        'kept_index': torch.arange(kept).unsqueeze(0),
        'kept_features': torch.zeros(1, kept, s.width),
        'unit_states': torch.zeros(1, s.tokens, s.unit, s.patch_width),
        'kept_states': torch.zeros(1, kept, s.unit, s.patch_width),
        'of_camera': torch.zeros(1, kept, dtype=torch.int64),
    }


def _examples_of_others(config: VlaConfig) -> dict[str, Tensor]:
    action = config.action_config
    return {
        'hidden': torch.zeros(1, action.horizon + action.num_agents, action.hidden_size),
        'trunk': torch.zeros(1, config.view_config.hidden_size),
        'bend': torch.zeros(1, action.horizon),
        'votes': torch.zeros(1, action.num_anchors),
    }
