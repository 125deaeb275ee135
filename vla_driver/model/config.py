# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every size of the native model.  The defaults are `nano`: about 2 GFLOP a tick, for two CPU cores."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from transformers import PretrainedConfig

from vla_driver.model.attention_pattern import LocalStrided
from vla_driver.model.cameras import camera_groups
from vla_driver.model.checkpoint import NATIVE_TYPE
from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES, PLAN_DT_S, PLAN_STEPS, InvalidInput

#: Kinds of attention that a layer of the language model can have.
ATTENTIONS: Final = ('full', 'local_strided')
#: How experts can be computed (layers/experts.py).
EXPERTS_BACKENDS: Final = ('grouped', 'dense', 'loop')
#: As many others are forecast at most: their attention grows with the square of their number.
MAX_AGENTS: Final = 16
#: How the flow is integrated: one look at the velocity a step, or two.
SOLVERS: Final = ('euler', 'midpoint')


#: Dense labels lie so many pixels apart (data/episode.py).
_LABEL_STRIDE: Final = 4


def _nano_image_sizes() -> dict[str, list[int]]:
    return {name: [320, 192] if name == ANCHOR_CAMERA else [160, 96] for name in CAMERA_NAMES}


def check_attention(config: LanguageConfig) -> None:
    """Raise `InvalidInput` where a layer's attention is unknown, or does not fit the heads."""
    unknown = sorted(set(config.attention) - set(ATTENTIONS))
    if unknown or len(config.attention) not in (0, config.num_hidden_layers):
        raise InvalidInput(
            f'language_config.attention is {list(config.attention)}; expected one of {", ".join(ATTENTIONS)} for '
            f'each of the {config.num_hidden_layers} layers, or [] for full everywhere'
        )
    if 'local_strided' in config.attention:
        if config.num_attention_heads % 2:
            raise InvalidInput(
                f'language_config.num_attention_heads is {config.num_attention_heads}; local_strided attention '
                'gives half of the heads to each part: choose an even number'
            )
        LocalStrided.of(1, config.attention_window, config.attention_unit)


def check_experts(config: LanguageConfig) -> None:
    """Raise `InvalidInput` for entries of a mixture of experts that do not fit together."""
    if config.num_experts == 0:
        return
    for name, least in (('num_experts', 2), ('experts_per_token', 1), ('expert_size', 1), ('shared_size', 0)):
        value = getattr(config, name)
        if not isinstance(value, int) or value < least:
            raise InvalidInput(f'language_config.{name} is {value!r}, expected a whole number of at least {least}')
    if not 1 < config.experts_per_token < config.num_experts:
        raise InvalidInput(
            f'language_config.experts_per_token is {config.experts_per_token}, expected 2 to '
            f'{config.num_experts - 1} (num_experts is {config.num_experts}): the weight of a single expert is always '
            'the same, and the router would learn nothing'
        )
    for name in ('hidden_size', 'expert_size'):
        if getattr(config, name) % 8:
            raise InvalidInput(
                f'language_config.{name} is {getattr(config, name)}, expected a multiple of 8 where there are experts: '
                'grouped products of bfloat16 take rows of whole 16 bytes'
            )
    for name in ('route_scale', 'bias_step', 'balance_loss'):
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0) or (name == 'route_scale' and value == 0):
            raise InvalidInput(f'language_config.{name} is {value!r}, expected a number above zero')
    layers = config.expert_layers
    if layers is not None and (
        not layers or len(set(layers)) < len(layers) or not set(layers) <= set(range(config.num_hidden_layers))
    ):
        raise InvalidInput(
            f'language_config.expert_layers is {list(layers)}, expected different numbers from 0 to '
            f'{config.num_hidden_layers - 1}, at least one of them (or num_experts 0)'
        )
    if config.experts_backend not in EXPERTS_BACKENDS:
        raise InvalidInput(
            f'language_config.experts_backend is {config.experts_backend!r}, expected one of: '
            f'{", ".join(EXPERTS_BACKENDS)}'
        )


class VisionConfig(PretrainedConfig):
    """Stem (a stride-2 convolution per entry of `stem_channels`, one more to `hidden_size`), ViT blocks, merger."""

    model_type = 'vla_driver_vision'
    base_config_key = 'vision_config'

    stem_channels: Sequence[int] = (24, 48, 96)
    hidden_size: int = 192
    num_hidden_layers: int = 3
    num_attention_heads: int = 3
    intermediate_size: int = 768
    #: Patches per side that the merger joins to one visual token.
    spatial_merge_size: int = 2
    #: Octaves of the Fourier features of rays and camera positions.
    ray_octaves: int = 4
    #: Dense heads: sub-cells per patch side; classes of sim/scene.SemanticClass, then a red and a green lamp.
    dense_cells: int = 4
    num_classes: int = 19

    @property
    def patch_size(self) -> int:
        """Pixels per patch side."""
        return int(2 ** (len(self.stem_channels) + 1))


class MemoryConfig(PretrainedConfig):
    """Which earlier ticks are remembered, and how coarsely."""

    model_type = 'vla_driver_memory'
    base_config_key = 'memory_config'

    ages_s: Sequence[float] = (0.5, 1.0)
    tolerance_s: float = 0.3
    #: Visual tokens (rows, columns) joined to one remembered token: front camera, other cameras.
    front_window: Sequence[int] = (2, 2)
    other_window: Sequence[int] = (3, 2)
    #: An odometry stamp this far back, or a gap this long, empties the memory.
    reset_gap_s: float = 5.0
    #: Whether the reflex, too, knows what is remembered (model/native/seeing/recall.py).
    recall: bool = False


class ViewConfig(PretrainedConfig):
    """The panorama in which places are told apart: angles around the vehicle, as a standard eye sees them."""

    model_type = 'vla_driver_view'
    base_config_key = 'view_config'

    azimuth_deg: float = 80.0
    elevation_deg: Sequence[float] = (-24.0, 16.0)
    cell_deg: float = 8.0
    eye_m: Sequence[float] = (1.5, 1.5)
    reach_m: float = 60.0
    #: Channels kept of each token, hidden width, and how many tokens say what was read.
    channels: int = 32
    hidden_size: int = 384
    num_tokens: int = 2
    #: Where visual tokens are pruned: 'all' of them go onto the panorama (reading it costs a hundredth of what the
    #: language model does), or only those 'kept' in front of the language model, nothing standing where the others
    #: were, or 'usual': there stands what usually does (`train usual-view`).  FastV and SparseVLM choose later.
    #: Unless it is 'all', the memory, too, keeps nothing but what was kept.
    reads: str = 'all'
    #: Whether the panorama also says how much of each place was seen, so that a hole is not taken for black.
    coverage: bool = False


class LanguageConfig(PretrainedConfig):
    """The decoder-style transformer whose prefix holds everything the driver perceives."""

    model_type = 'vla_driver_language'
    base_config_key = 'language_config'

    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    intermediate_size: int = 640
    rms_norm_eps: float = 1e-6
    #: Of each layer 'full' or 'local_strided' (layers/sparse_attention.py); empty: full everywhere.
    attention: Sequence[str] = ()
    #: Of the sparse layers: tokens in a window (0: chosen by their number), and those that a stride keeps together
    #: (64 or 128 for FlexAttention on CUDA).
    attention_window: int = 0
    attention_unit: int = 1

    #: Mixture of experts (layers/experts.py) in the place of the feed-forward network: how many (0: none, all is
    #: dense), how many of them read a token, their hidden width, and that of the one that reads every token (0: none).
    num_experts: int = 0
    experts_per_token: int = 2
    expert_size: int = 160
    shared_size: int = 320
    #: Which layers have it, counted from 0; None: all but the first.
    expert_layers: Sequence[int] | None = None
    #: What the weights of a token's experts add up to.
    route_scale: float = 2.0
    #: How far the bias of an expert moves at an optimiser step, against its load, at first (it falls with the learning
    #: rate; DeepSeek-V3's 0.001 is for runs a hundred times as long); weight of the balance loss.
    bias_step: float = 1e-2
    balance_loss: float = 1e-4
    #: How the experts are computed, a key of `layers.experts.BACKENDS`; all give the same.
    experts_backend: str = 'grouped'

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the entries of attention and experts."""
        super().__post_init__(**kwargs)
        check_attention(self)
        check_experts(self)

    @property
    def routed_layers(self) -> tuple[int, ...]:
        """The layers with a mixture of experts."""
        if not self.num_experts:
            return ()
        return tuple(range(1, self.num_hidden_layers) if self.expert_layers is None else self.expert_layers)

    @property
    def attention_of_layers(self) -> tuple[str, ...]:
        """The kind of attention of every layer."""
        return tuple(self.attention) or ('full',) * self.num_hidden_layers


class ActionConfig(PretrainedConfig):
    """The action expert (as deep as the language model, any width) and the flow decoder after it."""

    model_type = 'vla_driver_action'
    base_config_key = 'action_config'

    hidden_size: int = 192
    intermediate_size: int = 512
    horizon: int = PLAN_STEPS
    dt_s: float = PLAN_DT_S
    flow_hidden_size: int = 128
    flow_num_layers: int = 2
    flow_num_heads: int = 4
    #: Starts drawn per sample in training: the decoder is small next to the rest.
    flow_repeats: int = 4
    num_anchors: int = 32
    #: Standard deviation of the noise around the anchor, in normalised controls.
    anchor_sigma: float = 0.25
    #: The same for the curvatures that the reflex gives.
    steer_sigma: float = 0.05
    num_steps: int = 2
    solver: str = 'euler'
    acceleration_limits_mps2: Sequence[float] = (-8.0, 3.0)
    curvature_limit_per_m: float = 0.25
    #: Curvature enters as asinh(curvature / knee); then both are normalised, as set from the training data.
    curvature_knee_per_m: float = 0.01
    control_mean: Sequence[float] = (0.0, 0.0)
    control_std: Sequence[float] = (1.5, 1.2)
    #: How many others are forecast beside the ego, by the same flow (model/native/acting/agents.py); 0: none.
    num_agents: int = 0
    #: Waypoints that one token of an other stands for; divides the horizon.
    agent_stride: int = 4
    #: Pixels, in the picture that shows it largest, from which on training counts an other as seen.
    agent_pixels: float = 48.0
    #: Who is less likely to be there than this is not forecast.
    agent_existence: float = 0.3
    #: Others' accelerations and curvatures: standard deviations, those of the noise at the start, sharpest bend of
    #: vehicles and of people.
    agent_control_std: Sequence[float] = (1.5, 1.5)
    agent_sigmas: Sequence[float] = (0.25, 0.1)
    agent_curvature_limits_per_m: Sequence[float] = (0.25, 2.0)


class WordsConfig(PretrainedConfig):
    """The slow half's words, decoded by the language model's own weights; grammar 0: the model has none."""

    model_type = 'vla_driver_words'
    base_config_key = 'words_config'

    #: Version of the grammar (model/words); 0: no words.
    grammar: int = 0
    #: How many words there are; follows from the grammar and the cameras, and is filled in by the model.
    vocabulary: int = 0
    #: How many later choices are drafted beside each word, and the inner width of these heads.
    drafts: int = 5
    draft_size: int = 64
    #: Share of the words' gradient that reaches what the model has read (0: none, so that words cannot harm driving).
    prefix_gradient: float = 0.25
    #: Of the logits that confidence is made of; fitted on held-out drives at the end of training.
    temperature: float = 1.0
    #: Hidden width of the gate that says when thinking is worth it.
    gate_size: int = 64


#: The components' configurations, by their entries.
_PARTS: Final[Mapping[str, type[PretrainedConfig]]] = {
    'vision_config': VisionConfig,
    'memory_config': MemoryConfig,
    'view_config': ViewConfig,
    'language_config': LanguageConfig,
    'action_config': ActionConfig,
    'words_config': WordsConfig,
}


class VlaConfig(PretrainedConfig):
    """The whole model.  `blind`: the control that sees no image and remembers none, all else equal."""

    model_type = NATIVE_TYPE
    sub_configs_defaults: ClassVar[dict[str, Any]] = dict(_PARTS)

    # Each holds its component's config after construction; a dict of changes, or None, before.
    vision_config: Any = None
    memory_config: Any = None
    view_config: Any = None
    language_config: Any = None
    action_config: Any = None
    words_config: Any = None
    #: Camera name -> [width, height] at the model's input, None for the nano sizes.
    image_sizes: Any = None
    blind: bool = False
    #: Whether the fast half can be told an intent, and how long one counts in training.
    intent: bool = False
    intent_ttl_s: float = 2.0
    #: Dense heads and scene heads exist in training and are dropped by export.
    auxiliary: bool = True
    initializer_range: float = 0.02
    #: Navigation: distances beyond this say only "far"; target points are divided by it.
    command_distance_clip_m: float = 60.0
    target_scale_m: float = 50.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill defaults and check that sizes fit together."""
        if self.image_sizes is None:
            self.image_sizes = _nano_image_sizes()
        super().__post_init__(**kwargs)
        vision, action = self.vision_config, self.action_config
        step = vision.patch_size * vision.spatial_merge_size
        for name, (width, height) in self.image_sizes.items():
            if width % step or height % step:
                raise InvalidInput(f'image_sizes[{name!r}] is {width}x{height}; both must be multiples of {step}')
        for name in ('vision_config', 'language_config'):
            part = getattr(self, name)
            if part.hidden_size % part.num_attention_heads:
                raise InvalidInput(
                    f'{name}.num_attention_heads is {part.num_attention_heads}, expected a divisor of its hidden_size, '
                    f'{part.hidden_size}'
                )
        if self.auxiliary and vision.dense_cells * _LABEL_STRIDE != vision.patch_size:
            raise InvalidInput(
                f'vision_config.dense_cells is {vision.dense_cells}, expected {vision.patch_size // _LABEL_STRIDE}: '
                f'labels lie {_LABEL_STRIDE} pixels apart, patches are {vision.patch_size} wide'
            )
        if ANCHOR_CAMERA not in self.image_sizes:
            raise InvalidInput(f'image_sizes has no {ANCHOR_CAMERA!r}: {sorted(self.image_sizes)}')
        if action.solver not in SOLVERS:
            raise InvalidInput(f"action_config.solver is {action.solver!r}, expected 'euler' or 'midpoint'")
        if self.view_config.reads not in ('all', 'kept', 'usual'):
            raise InvalidInput(f"view_config.reads is {self.view_config.reads!r}, expected 'all', 'kept' or 'usual'")
        if not self.intent_ttl_s > 0:
            raise InvalidInput(f'intent_ttl_s is {self.intent_ttl_s}, expected a positive number of seconds')
        if action.num_steps < 1:
            raise InvalidInput(f'action_config.num_steps is {action.num_steps}, expected at least 1')
        if not 0 <= action.num_agents <= MAX_AGENTS:
            raise InvalidInput(f'action_config.num_agents is {action.num_agents}, expected 0 to {MAX_AGENTS}')
        if action.agent_stride < 1 or action.horizon % action.agent_stride:
            raise InvalidInput(
                f'action_config.agent_stride is {action.agent_stride}, expected a divisor of the horizon, '
                f'{action.horizon} points'
            )

    @property
    def reads_kept(self) -> bool:
        """Whether nothing but the tokens that a pruner keeps reaches the plan."""
        return bool(self.view_config.reads != 'all')

    @property
    def recalls(self) -> bool:
        """Whether the reflex knows what is remembered; the blind control remembers nothing."""
        return bool(self.memory_config.recall) and not self.blind

    @property
    def camera_groups(self) -> tuple[tuple[tuple[int, int], tuple[str, ...]], ...]:
        """Cameras of equal size, encoded as one batch: (((width, height), names), ...); see `camera_groups`."""
        return camera_groups(self.image_sizes)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """All cameras in the order of the groups: the order of every camera axis inside the model."""
        return tuple(name for _, names in self.camera_groups for name in names)

    def patch_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches of an image of `size` (width, height)."""
        return size[1] // self.vision_config.patch_size, size[0] // self.vision_config.patch_size

    def token_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of visual tokens of an image of `size` (width, height)."""
        rows, columns = self.patch_grid(size)
        return rows // self.vision_config.spatial_merge_size, columns // self.vision_config.spatial_merge_size


def check_entries(entries: Mapping[str, Any], of: type[PretrainedConfig] = VlaConfig, where: str = '') -> None:
    """Raise `InvalidInput` for entries that a configuration, or one within it, does not have: nobody heeds them."""
    known = sorted(name for name, kind in of.__annotations__.items() if 'ClassVar' not in str(kind))
    for name, value in entries.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f' (did you mean {near[0]}?)' if near else ''
            raise InvalidInput(f'{where}{name}: there is no such entry{meant}; allowed: {", ".join(known)}')
        part = _PARTS.get(name) if of is VlaConfig else None
        if part is not None and isinstance(value, Mapping):
            check_entries(value, part, f'{name}.')
