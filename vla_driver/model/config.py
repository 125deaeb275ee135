# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Every size of the native model.  The defaults are `nano`: about 2 GFLOP a tick, for two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import PretrainedConfig

from vla_driver.model.cameras import camera_groups
from vla_driver.model.checkpoint import NATIVE_TYPE
from vla_driver.types import ANCHOR_CAMERA, CAMERA_NAMES, PLAN_DT_S, PLAN_STEPS, InvalidInput


def _nano_image_sizes() -> dict[str, list[int]]:
    return {name: [320, 192] if name == ANCHOR_CAMERA else [160, 96] for name in CAMERA_NAMES}


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
    #: Hidden width of the gate that says when thinking is worth it.
    gate_size: int = 64


class VlaConfig(PretrainedConfig):
    """The whole model.  `blind`: the control that sees no image and remembers none, all else equal."""

    model_type = NATIVE_TYPE
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        'vision_config': VisionConfig,
        'memory_config': MemoryConfig,
        'view_config': ViewConfig,
        'language_config': LanguageConfig,
        'action_config': ActionConfig,
        'words_config': WordsConfig,
    }

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
        if ANCHOR_CAMERA not in self.image_sizes:
            raise InvalidInput(f'image_sizes has no {ANCHOR_CAMERA!r}: {sorted(self.image_sizes)}')
        if action.solver not in ('euler', 'midpoint'):
            raise InvalidInput(f"action_config.solver is {action.solver!r}, expected 'euler' or 'midpoint'")
        if self.view_config.reads not in ('all', 'kept', 'usual'):
            raise InvalidInput(f"view_config.reads is {self.view_config.reads!r}, expected 'all', 'kept' or 'usual'")
        if not self.intent_ttl_s > 0:
            raise InvalidInput(f'intent_ttl_s is {self.intent_ttl_s}, expected a positive number of seconds')
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
