# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The frozen part of a backbone that turns frames into visual tokens, for training a pruner on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vla_driver.data.foreground.masks import Frame
from vla_driver.model.checkpoint import resolve_checkpoint, shipped_models
from vla_driver.model.files import read_json
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.seeing.arrays import Float32Array, rig_geometry
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.stage import TokenStage, Units
from vla_driver.model.pruning.trained.early import check_block
from vla_driver.model.pruning.trained.recon import ReconPruner
from vla_driver.model.pruning.trained.recon_layers import (
    NATIVE,
    QWEN2_5_VL,
    QWEN3_VL,
    LayerSpec,
    NativeStack,
    layer_spec,
)
from vla_driver.model.qwen.grids import Grids
from vla_driver.model.qwen.loading import load_weights
from vla_driver.model.qwen.vision import VisionTower
from vla_driver.model.tokens import ModelInputs, VisualTokens
from vla_driver.observation.resize import resize
from vla_driver.types import CAMERA_NAMES, InvalidInput

#: ((rows, columns) of a camera's tokens, names of the cameras that have so many), in the order of the tokens.
TokenGroups = tuple[tuple[tuple[int, int], tuple[str, ...]], ...]


class TokenEncoder(Protocol):
    """Frames to tokens: `prepare` on the CPU (in a thread), `encode` on the device, without gradient."""

    spec: LayerSpec
    groups: TokenGroups
    token_pixels: int  # side of a token's area in the encoder's input

    def prepare(self, frames: Sequence[Frame]) -> Any:
        """Return what `encode` takes, a dataclass of tensors."""

    def encode(self, inputs: Any) -> VisualTokens:
        """Return the tokens [B, N, D], camera by camera in the order of `groups`, each row by row."""
        ...

    def encode_at(self, inputs: Any, block: int) -> tuple[Tensor, VisualTokens]:
        """As `encode`; also return the hidden states [B, N, patches of a token, d] before vision block `block`."""
        ...

    def states_width(self, block: int) -> int:
        """Return d of `encode_at`; raise `InvalidInput` for a block before which no token can leave."""
        ...

    def unfinished(self, states: Tensor) -> Tensor | None:
        """Return the tokens that states make as they are, where the model reads tokens that left early; else None."""
        ...

    def start(self, pruner: ReconPruner) -> None:
        """Copy the language model's first layer into a new pruner."""


class StatesBefore(TokenStage):
    """Keeps everything, and what the hidden states [1, N, patches, d] in front of one block were."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block
        self.states: Tensor | None = None

    def check_depth(self, depth: int) -> None:
        """See `TokenStage`."""
        check_block('early-head', self.block, depth)

    def before_block(self, number: int, units: Callable[[], Units]) -> None:
        """See `TokenStage`."""
        if number == self.block:
            self.states = units().states


class NativeEncoder:
    """The native model's vision encoder with its merger."""

    def __init__(self, model: VlaModel):
        """Raises `InvalidInput` for the blind control."""
        if model.config.blind:
            raise InvalidInput('the blind control has no visual tokens to prune; give --model a checkpoint that sees')
        self.model = model.eval().requires_grad_(False)
        config = model.config
        self.spec = layer_spec(config)
        self.groups = tuple((config.token_grid(size), names) for size, names in config.camera_groups)
        self.token_pixels = config.vision_config.patch_size * config.vision_config.spatial_merge_size
        self._geometry: dict[bytes, tuple[Float32Array, Float32Array]] = {}

    def prepare(self, frames: Sequence[Frame]) -> ModelInputs:
        """Return the inputs of a batch; frames that carry patch features need no pictures."""
        config, count = self.model.config, len(frames)
        encoded = all(frame.patches is not None for frame in frames)
        present = torch.tensor([[name in frame.views for name in config.camera_names] for frame in frames])
        images = []
        for (width, height), names in () if encoded else config.camera_groups:
            group = np.zeros((count, len(names), height, width, 3), dtype=np.uint8)
            for row, frame in enumerate(frames):
                for slot, name in enumerate(names):
                    if name in frame.views:
                        group[row, slot] = resize(frame.views[name].image, width, height)
            images.append(torch.from_numpy(group))
        geometry = [self._of(frame) for frame in frames]
        zeros = torch.zeros(count)
        return ModelInputs(
            images=tuple(images),
            present=present,
            rays=torch.from_numpy(np.stack([rays for rays, _ in geometry])),
            origins=torch.from_numpy(np.stack([origins for _, origins in geometry])),
            speed_mps=zeros,
            yaw_rate_rps=zeros,
            command=zeros.long(),
            command_distance_m=zeros,
            targets_m=torch.zeros(count, 2, 2),
            patches=torch.from_numpy(np.stack([f.patches for f in frames if f.patches is not None])).float()
            if encoded
            else None,
        )

    def _of(self, frame: Frame) -> tuple[Float32Array, Float32Array]:
        """Return rays and origins of the frame's rig; most frames share one."""
        cameras = {name: view.camera for name, view in frame.views.items()}
        parts = [camera.intrinsics.tobytes() + camera.base_from_camera.tobytes() for camera in cameras.values()]
        key = ' '.join(cameras).encode() + b''.join(parts)
        if key not in self._geometry:
            if len(self._geometry) > 1000:
                self._geometry.clear()
            self._geometry[key] = rig_geometry(self.model.config, cameras)
        return self._geometry[key]

    @torch.no_grad()
    def encode(self, inputs: ModelInputs) -> VisualTokens:
        """Return the tokens [B, N, D] that the language model would see."""
        return self.model.encode(inputs).tokens

    @torch.no_grad()
    def encode_at(self, inputs: ModelInputs, block: int) -> tuple[Tensor, VisualTokens]:
        """See `TokenEncoder`."""
        return self.model.vision.encode_at(inputs, block)

    def states_width(self, block: int) -> int:
        """See `TokenEncoder`."""
        check_block('early-head', block, len(self.model.vision.blocks))
        return int(self.model.config.vision_config.hidden_size)

    def unfinished(self, states: Tensor) -> Tensor | None:
        """See `TokenEncoder`: panorama and memory read all tokens."""
        return self.model.vision.tokens_of(states)

    def start(self, pruner: ReconPruner) -> None:
        """Copy the language model's first layer and its ray embedding into the pruner."""
        stack = pruner.stack
        assert isinstance(stack, NativeStack)
        stack.layers[0].load_state_dict(self.model.language.layers[0].state_dict())
        stack.position.load_state_dict(self.model.position.state_dict())


@dataclass(frozen=True)
class QwenInputs:
    """pixel_values [patches, d] and grid_thw [B * C, 3] of all pictures; present [B, C]."""

    pixel_values: Tensor
    grid_thw: Tensor
    present: Tensor


class QwenEncoder:
    """The vision tower and merger of a local Qwen2.5-VL or Qwen3-VL checkpoint; its language model is dropped."""

    def __init__(self, folder: Path, picture_size: tuple[int, int], device: torch.device | str = 'cpu'):
        """Load from `folder`; picture_size: (width, height) to which every picture is resized first.

        All cameras then have the same grid of tokens.
        """
        from transformers import AutoImageProcessor

        try:
            self.processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InvalidInput(f'checkpoint {folder} does not load: {error}') from error
        model = load_weights(folder, 'auto')
        self.spec = layer_spec(model.config, CAMERA_NAMES)
        self.visual = model.model.visual.eval().requires_grad_(False).to(device)
        self._first: nn.Module = model.model.language_model.layers[0]
        self._size = picture_size
        vision = model.config.vision_config
        self.token_pixels = vision.patch_size * vision.spatial_merge_size
        self._merge = int(vision.spatial_merge_size)
        blank = np.zeros((picture_size[1], picture_size[0], 3), dtype=np.uint8)
        self._grid = [int(n) for n in self.processor(images=[blank], return_tensors='pt')['image_grid_thw'][0]]
        self.groups: TokenGroups = (((self._grid[1] // self._merge, self._grid[2] // self._merge), CAMERA_NAMES),)

    def prepare(self, frames: Sequence[Frame]) -> QwenInputs:
        """Return the processed pictures of a batch; missing ones are black and marked so."""
        blank = np.zeros((self._size[1], self._size[0], 3), dtype=np.uint8)
        pictures = [
            resize(frame.views[name].image, *self._size) if name in frame.views else blank
            for frame in frames
            for name in CAMERA_NAMES
        ]
        out = self.processor(images=pictures, return_tensors='pt')
        present = torch.tensor([[name in frame.views for name in CAMERA_NAMES] for frame in frames])
        return QwenInputs(out['pixel_values'], out['image_grid_thw'], present)

    @torch.no_grad()
    def encode(self, inputs: QwenInputs) -> VisualTokens:
        """Return the tokens [B, N, D] after the merger, float32."""
        pixels = inputs.pixel_values.to(self.visual.dtype)
        return self._tokens(self.visual(pixels, grid_thw=inputs.grid_thw).pooler_output, inputs)

    @torch.no_grad()
    def encode_at(self, inputs: QwenInputs, block: int) -> tuple[Tensor, VisualTokens]:
        """See `TokenEncoder`."""
        look = StatesBefore(block)
        grids = Grids.from_thw(inputs.grid_thw.cpu(), self._merge)
        encoded = VisionTower(self.visual).encode(inputs.pixel_values, grids, look)
        assert look.states is not None
        return look.states[0].unflatten(0, (len(inputs.present), -1)), self._tokens(encoded.features, inputs)

    def states_width(self, block: int) -> int:
        """See `TokenEncoder`."""
        check_block('early-head', block, len(self.visual.blocks))
        return int(self.visual.config.hidden_size)

    def unfinished(self, states: Tensor) -> Tensor | None:
        """See `TokenEncoder`: nothing reads them here."""
        return None

    def _tokens(self, merged: Tensor, inputs: QwenInputs) -> VisualTokens:
        batch, ((rows, columns), names) = len(inputs.present), self.groups[0]
        features = merged.float().reshape(batch, len(names) * rows * columns, -1)
        device = features.device
        cell = torch.cartesian_prod(
            torch.arange(len(names), device=device),
            torch.arange(rows, device=device),
            torch.arange(columns, device=device),
        )
        nowhere = features.new_zeros(*features.shape[:2], 3)
        valid = inputs.present.to(device)[:, cell[:, 0]]
        return VisualTokens(features, cell[:, 0], cell[:, 1], cell[:, 2], nowhere, nowhere, valid, names)

    def start(self, pruner: ReconPruner) -> None:
        """Copy the language model's first layer into the pruner."""
        pruner.stack.layers[0].load_state_dict(self._first.state_dict())
        del self._first


def open_encoder(
    checkpoint: str, picture_size: tuple[int, int] | None = None, device: torch.device | str = 'cpu'
) -> TokenEncoder:
    """Return the encoder of a native checkpoint (folder or shipped name) or of a local Qwen-VL folder.

    picture_size: (width, height) for Qwen-VL, 672x392 by default (336 tokens a picture, as Impromptu-VLA was
    trained); the native model has its own.  Raises `InvalidInput` for any other model.
    """
    config = Path(checkpoint) / 'config.json'
    kind = None
    if checkpoint not in shipped_models() and config.is_file():
        kind = read_json(config).get('model_type')
    if kind in (QWEN2_5_VL, QWEN3_VL):
        return QwenEncoder(Path(checkpoint), picture_size or (672, 392), device)
    if kind not in (None, NATIVE):
        raise InvalidInput(f'checkpoint {checkpoint} holds a {kind!r} model; pruners are trained for {NATIVE}, '
                           f'{QWEN2_5_VL} and {QWEN3_VL}')  # fmt: skip
    if picture_size is not None:
        raise InvalidInput('--picture-size is for Qwen-VL checkpoints; the native model has its own sizes')
    model = load_model(resolve_checkpoint(checkpoint), auxiliary=False)
    return NativeEncoder(model.to(device))
