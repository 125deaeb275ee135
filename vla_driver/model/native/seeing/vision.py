# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Six pictures to visual tokens: convolutional stem, ViT blocks within each image, 2x2 merger.

The stem replaces the linear patch embedding ("early convolutions", arXiv 2106.14881): small models
learn faster from it, and small things such as traffic lights survive it.  The position of a patch is
its viewing ray and its camera's place on the vehicle, so other rigs need no other weights.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VisionConfig, VlaConfig
from vla_driver.model.layers.attention import attention, column_sums
from vla_driver.model.layers.gather import take
from vla_driver.model.layers.grid import windows
from vla_driver.model.layers.rays import RayEmbedding
from vla_driver.model.pruning.base import KeptTokens
from vla_driver.model.pruning.stage import KEEP_ALL, TokenStage, Units
from vla_driver.model.tokens import ModelInputs, VisualTokens
from vla_driver.types import InvalidInput


class Stem(nn.Module):
    """uint8 [I, H, W, 3] to patch features [I, H / patch, W / patch, d], channels last throughout."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        channels = [3, *config.stem_channels, config.hidden_size]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=3, stride=2, padding=1) for a, b in itertools.pairwise(channels)
        )
        # The first map is the largest and would pay most for a norm; it does without.
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels[2:-1])

    def forward(self, images: Tensor) -> Tensor:
        """Return [I, rows, columns, d]."""
        # A permuted NHWC tensor *is* an NCHW tensor in channels_last memory format: no copy.
        x = images.permute(0, 3, 1, 2)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        x = x.to(dtype) * (1 / 63.75) - 2.0
        for index, conv in enumerate(self.convs):
            x = conv(x)
            if 0 < index < len(self.convs) - 1:
                x = self.norms[index - 1](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            if index < len(self.convs) - 1:
                x = F.gelu(x)
        return x.permute(0, 2, 3, 1)


class VisionBlock(nn.Module):
    """Pre-norm transformer block; attention stays within each image."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        d = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.norm1 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.proj = nn.Linear(d, d)
        self.norm2 = nn.LayerNorm(d)
        self.fc1 = nn.Linear(d, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, d)

    def forward(self, x: Tensor, images: tuple[tuple[int, int], ...], received: list[Tensor] | None = None) -> Tensor:
        """Transform x [B, P, d]; images: (images per row, patches per image) of each group, in the order of P.

        received: a list to which the attention that each patch receives is appended, [B, patches of the group] of
        each group.
        """
        return self._feed(x + self.proj(self._attend(self.qkv(self.norm1(x)), images, received)))

    def ragged(self, x: Tensor, segments: Sequence[Sequence[int]]) -> Tensor:
        """As `forward`, x [B, P, d], where row b has segments[b][c] patches of picture c, one after another."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1))
        rows = []
        for row, lengths in zip(qkv.permute(0, 2, 3, 1, 4), segments, strict=True):
            parts = row.split([length for length in lengths if length], dim=2)
            rows.append(torch.cat([attention(*part.unsqueeze(1)) for part in parts], dim=1))
        return self._feed(x + self.proj(torch.cat(rows)))

    def masked(self, x: Tensor, apart: Tensor) -> Tensor:
        """As `ragged`, x [B, P, d]; apart [B, P, P] says which patches do not see each other, so shapes are fixed."""
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self._feed(x + self.proj(attention(heads[0], heads[1], heads[2], apart)))

    def _feed(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out

    def received(self, x: Tensor, images: tuple[tuple[int, int], ...]) -> list[Tensor]:
        """Return the attention that each patch receives, [B, patches of the group] of each group (`forward`)."""
        found: list[Tensor] = []
        self._attend(self.qkv(self.norm1(x)), images, found)
        return found

    def _attend(self, qkv: Tensor, images: tuple[tuple[int, int], ...], received: list[Tensor] | None) -> Tensor:
        batch = qkv.shape[0]
        results = []
        for part, (count, patches) in zip(qkv.split([c * p for c, p in images], dim=1), images, strict=True):
            heads = part.reshape(batch * count, patches, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
            results.append(attention(heads[0], heads[1], heads[2]).reshape(batch, count * patches, -1))
            if received is not None:
                received.append(column_sums(heads[0], heads[1]).reshape(batch, count * patches))
        return torch.cat(results, dim=1)


class Merger(nn.Module):
    """Joins s x s neighbouring patches to one token of the language model's width, as in Qwen2.5-VL."""

    def __init__(self, config: VisionConfig, out_dim: int):
        super().__init__()
        self.size = config.spatial_merge_size
        self.norm = nn.LayerNorm(config.hidden_size)
        self.fc1 = nn.Linear(config.hidden_size * self.size**2, 2 * out_dim)
        self.fc2 = nn.Linear(2 * out_dim, out_dim)

    def forward(self, patches: Tensor) -> Tensor:
        """[I, rows, columns, d] -> [I, rows / s, columns / s, D]."""
        return self._join(windows(self.norm(patches), (self.size, self.size)))

    def units(self, states: Tensor) -> Tensor:
        """As `forward`, of patches that are already gathered: [B, U, s * s, d] -> [B, U, D]."""
        return self._join(self.norm(states).flatten(-2))

    def _join(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


@dataclass(frozen=True)
class VisionOutput:
    """tokens: for the language model; patches [B, P, d]: before merging, for the dense heads.

    kept: which of the tokens every block has seen, where a stage has let others leave early; None: all.
    """

    tokens: VisualTokens
    patches: Tensor
    kept: KeptTokens | None = None


class VisionEncoder(nn.Module):
    """ModelInputs to VisualTokens.  Groups of equal-sized cameras are encoded as one batch each."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        vision, width = config.vision_config, config.language_config.hidden_size
        self.groups = [(config.patch_grid(size), len(names)) for size, names in config.camera_groups]
        self.token_grids = [config.token_grid(size) for size, _ in config.camera_groups]
        self.names = config.camera_names
        self.stem = Stem(vision)
        self.position = RayEmbedding(vision.hidden_size, vision.ray_octaves)
        self.blocks = nn.ModuleList(VisionBlock(vision) for _ in range(vision.num_hidden_layers))
        self.merger = Merger(vision, width)
        self.norm = nn.LayerNorm(width)
        self.missing = nn.Parameter(torch.zeros(width))

    def forward(self, inputs: ModelInputs, stage: TokenStage = KEEP_ALL) -> VisionOutput:
        """Encode all cameras; tokens of absent cameras get the learned "missing" embedding.

        stage: may let tokens leave in front of a block, and may want the attention that tokens receive in the last one.
        Raises `InvalidInput` where the patches were computed before and the stage needs the encoder at work.
        """
        stage.check_depth(len(self.blocks))
        if inputs.patches is not None:
            if stage.needs_attention or stage.needs_pictures:
                raise InvalidInput(
                    f'pruner {stage.name!r} works with the encoder: not with patch features computed before; '
                    'give pictures'
                )
            return VisionOutput(self.tokens(inputs.patches, inputs), inputs.patches)
        received: list[Tensor] = []
        x, last = self.start(inputs), len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            units = cache(partial(self._units, x, inputs, number))  # for those who ask, computed once
            kept = stage.before_block(number, units)
            if kept is not None:
                return VisionOutput(self._go_on(number, units(), stage, kept), x, kept)
            x = block(x, self.layout, received if stage.needs_attention and number == last else None)
        tokens = self.tokens(x, inputs)
        if stage.needs_attention:
            tokens = dataclasses.replace(tokens, attention=self.per_token(received))
        return VisionOutput(tokens, x)

    def _units(self, x: Tensor, inputs: ModelInputs, number: int) -> Units:
        """Return the merge units in front of block `number`, from patches x [B, P, d]."""
        return Units(self.by_token(x), self.tokens(x, inputs), partial(self.received, number, x))

    def received(self, number: int, x: Tensor) -> Tensor:
        """Return the attention [B, N] that each token's patches, of x [B, P, d], receive in block `number`."""
        block = self.blocks[number]
        assert isinstance(block, VisionBlock)
        return self.per_token(block.received(x, self.layout))

    def _go_on(self, number: int, units: Units, stage: TokenStage, kept: KeptTokens) -> VisualTokens:
        """Return all tokens after the blocks from `number` on have seen the kept ones alone.

        A token that has left holds what its patches are by now, completed by the stage where it has learned to, for
        those who need the whole picture coarsely (panorama and memory).
        """
        states, early = units.states, units.tokens
        of_camera = [torch.bincount(row, minlength=len(self.names)).tolist() for row in early.camera[kept.index]]
        segments = [[count * states.shape[2] for count in row] for row in of_camera]
        x = take(states, kept.index).flatten(1, 2)
        for block in list(self.blocks)[number:]:
            assert isinstance(block, VisionBlock)
            x = block.ragged(x, segments)
        left = torch.where(early.valid.unsqueeze(-1), stage.complete(states, early.features), early.features)
        return self._back(x, dataclasses.replace(early, features=left), kept.index)

    def go_on_masked(
        self, number: int, states: Tensor, of_camera: Tensor, left: VisualTokens, index: Tensor
    ) -> VisualTokens:
        """As `_go_on`, in shapes that depend on K alone, for graphs.

        states [B, K, patches, d] of the kept units, of_camera [B, K]: whose they are; left: all tokens as they leave;
        index [B, K]: which of them are kept.
        """
        of_patch = of_camera.repeat_interleave(states.shape[2], dim=1)
        apart = of_patch.unsqueeze(2) != of_patch.unsqueeze(1)
        x = states.flatten(1, 2)
        for block in list(self.blocks)[number:]:
            assert isinstance(block, VisionBlock)
            x = block.masked(x, apart)
        return self._back(x, left, index)

    def _back(self, x: Tensor, left: VisualTokens, index: Tensor) -> VisualTokens:
        """Return tokens `left` with those at index [B, K] as their patches x [B, K * patches, d] have become."""
        late = self.tokens_of(x.unflatten(1, (index.shape[1], -1))).to(left.features.dtype)
        late = torch.where(take(left.valid, index).unsqueeze(-1), late, self.missing.to(late.dtype))
        return dataclasses.replace(left, features=left.features.scatter(1, index.unsqueeze(-1).expand_as(late), late))

    def tokens_of(self, states: Tensor) -> Tensor:
        """Return the tokens [B, N, D] that hidden states [B, N, s * s, d] make as they are, after whichever block."""
        tokens: Tensor = self.norm(self.merger.units(states))
        return tokens

    def encode_at(self, inputs: ModelInputs, block: int) -> tuple[Tensor, VisualTokens]:
        """Return the hidden states before a block, gathered by token [B, N, s * s, d], and the finished tokens."""
        x = self.start(inputs)
        states = x
        for number, stage in enumerate(self.blocks):
            states = x if number == block else states
            x = stage(x, self.layout)
        return self.by_token(states), self.tokens(x, inputs)

    def by_token(self, x: Tensor) -> Tensor:
        """Return patches [B, P, d] gathered by token, [B, N, s * s, d]."""
        sizes, side = [count * rows * columns for (rows, columns), count in self.groups], self.merger.size
        parts = []
        for part, ((rows, columns), count) in zip(x.split(sizes, dim=1), self.groups, strict=True):
            cells = windows(part.reshape(len(x) * count, rows, columns, -1), (side, side))
            parts.append(cells.reshape(len(x), -1, side * side, x.shape[-1]))
        return torch.cat(parts, dim=1)

    def per_token(self, received: list[Tensor]) -> Tensor:
        """Return the mean [B, N] over each token's patches of what is received [B, patches] in each group."""
        tokens, size = [], self.merger.size
        for part, ((rows, columns), count) in zip(received, self.groups, strict=True):
            cells = windows(part.reshape(len(part) * count, rows, columns, 1), (size, size))
            tokens.append(cells.mean(dim=-1).reshape(len(part), -1))
        return torch.cat(tokens, dim=1)

    def embed(self, inputs: ModelInputs) -> Tensor:
        """Return the patch features [B, P, d] of all cameras, before merging."""
        x = self.start(inputs)
        for block in self.blocks:
            x = block(x, self.layout)
        return x

    @property
    def layout(self) -> tuple[tuple[int, int], ...]:
        """(pictures per row, patches per picture) of each group of cameras."""
        return tuple((count, rows * columns) for (rows, columns), count in self.groups)

    def patch_position(self, inputs: ModelInputs) -> Tensor:
        """Return the embedding [B', P, d] of where patches lie, which is added to what they show."""
        embedded: Tensor = self.position(inputs.rays, per_camera_to_patches(inputs.origins, self.groups))
        return embedded

    def start(self, inputs: ModelInputs) -> Tensor:
        """Return the patches [B, P, d] of all cameras before the first block."""
        batch = inputs.present.shape[0]
        stems = []
        for images, ((rows, columns), count) in zip(inputs.images, self.groups, strict=True):
            x = self.stem(images.flatten(0, 1))
            stems.append(x.reshape(batch, count * rows * columns, -1))
        x = torch.cat(stems, dim=1)
        # Consecutive rows share a rig: embed each rig's rays once.
        position = self.patch_position(inputs).to(x.dtype)
        return x + position.repeat_interleave(batch // position.shape[0], dim=0)

    def tokens(self, patches: Tensor, inputs: ModelInputs) -> VisualTokens:
        """Return the tokens that patches [B, P, d] make as they are, after whichever block."""
        size, shares = self.merger.size, patches.shape[0] // inputs.rays.shape[0]
        rays, cells, first_camera = [], [], 0
        for ray, ((rows, columns), count) in zip(self._by_group(inputs.rays), self.groups, strict=True):
            grid = windows(ray.reshape(-1, rows, columns, 3), (size, size)).unflatten(-1, (size * size, 3))
            rays.append(F.normalize(grid.mean(dim=-2), dim=-1).reshape(ray.shape[0], -1, 3))
            cells.append(
                torch.cartesian_prod(
                    torch.arange(first_camera, first_camera + count, device=patches.device),
                    torch.arange(rows // size, device=patches.device),
                    torch.arange(columns // size, device=patches.device),
                )
            )
            first_camera += count
        cell = torch.cat(cells)
        valid = inputs.present[:, cell[:, 0]]
        return VisualTokens(
            features=self.merged(patches, valid),
            camera=cell[:, 0],
            row=cell[:, 1],
            column=cell[:, 2],
            rays=torch.cat(rays, dim=1).repeat_interleave(shares, dim=0),
            origins=inputs.origins[:, cell[:, 0]].repeat_interleave(shares, dim=0),
            valid=valid,
            names=self.names,
        )

    def merged(self, patches: Tensor, valid: Tensor) -> Tensor:
        """Return the features [B, N, D] of the tokens of patches [B, P, d]; valid [B, N]: their camera is there."""
        features = []
        for part, ((rows, columns), count) in zip(self._by_group(patches), self.groups, strict=True):
            merged = self.merger(part.reshape(len(part) * count, rows, columns, -1))
            features.append(merged.reshape(len(part), -1, merged.shape[-1]))
        normed = self.norm(torch.cat(features, dim=1))
        return torch.where(valid.unsqueeze(-1), normed, self.missing.to(normed.dtype))

    def _by_group(self, of_patches: Tensor) -> tuple[Tensor, ...]:
        """Return what there is of every patch, [B, P, ...], apart for each group of cameras."""
        return of_patches.split([count * rows * columns for (rows, columns), count in self.groups], dim=1)


def per_camera_to_patches(values: Tensor, groups: list[tuple[tuple[int, int], int]]) -> Tensor:
    """Repeat per-camera values [B, C, k] for every patch of the camera: [B, P, k]."""
    repeats = [rows * columns for (rows, columns), count in groups for _ in range(count)]
    return values.repeat_interleave(torch.tensor(repeats, device=values.device), dim=1)
