# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every size of the native model.  The defaults are `nano`: about 2 GFLOP a tick, for two CPU cores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from transformers import PretrainedConfig

from vla_driver.model.cameras import camera_groups
from vla_driver.model.checkpoint import NATIVE_TYPE
from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES, PLAN_DT_S, PLAN_STEPS, InvalidInput

#: How experts can be computed (layers/experts.py).
EXPERTS_BACKENDS: Final = ('grouped', 'dense', 'loop')


def _nano_image_sizes() -> dict[str, list[int]]:
    return {name: [320, 192] if name == ANCHOR_CAMERA else [160, 96] for name in CAMERA_NAMES}


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
    reads: str = 'all'


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
        """Check the entries of the experts."""
        super().__post_init__(**kwargs)
        check_experts(self)

    @property
    def routed_layers(self) -> tuple[int, ...]:
        """The layers with a mixture of experts."""
        if not self.num_experts:
            return ()
        return tuple(range(1, self.num_hidden_layers) if self.expert_layers is None else self.expert_layers)


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


class VlaConfig(PretrainedConfig):
    """The whole model.  `blind`: the control that sees no image and remembers none, all else equal."""

    model_type = NATIVE_TYPE
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        'vision_config': VisionConfig,
        'memory_config': MemoryConfig,
        'view_config': ViewConfig,
        'language_config': LanguageConfig,
        'action_config': ActionConfig,
    }

    # Each holds its component's config after construction; a dict of changes, or None, before.
    vision_config: Any = None
    memory_config: Any = None
    view_config: Any = None
    language_config: Any = None
    action_config: Any = None
    #: Camera name -> [width, height] at the model's input, None for the nano sizes.
    image_sizes: Any = None
    blind: bool = False
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
        if ANCHOR_CAMERA not in self.image_sizes:
            raise InvalidInput(f'image_sizes has no {ANCHOR_CAMERA!r}: {sorted(self.image_sizes)}')
        if action.solver not in ('euler', 'midpoint'):
            raise InvalidInput(f"action_config.solver is {action.solver!r}, expected 'euler' or 'midpoint'")
        if self.view_config.reads not in ('all', 'kept', 'usual'):
            raise InvalidInput(f"view_config.reads is {self.view_config.reads!r}, expected 'all', 'kept' or 'usual'")
        if action.num_steps < 1:
            raise InvalidInput(f'action_config.num_steps is {action.num_steps}, expected at least 1')

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
