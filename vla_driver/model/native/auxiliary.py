# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What training asks of the model beside the plan, so that vision learns geometry and what matters.

Dense heads read each patch before merging (depth, class, lamp colour), scene heads the scene queries of the
prefix (red light, lead vehicle, hazard), the plan head the action expert's output.  None is used when driving.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_driver.model.config import VlaConfig
from vla_driver.model.native.acting.flow import FlowDecoder, position_loss
from vla_driver.model.tokens import ClipLabels

#: Queries at the end of the prefix: red light, lead vehicle, hazard.
SCENE_QUERIES = 3
#: Extra weight of classes that are small in the picture: car, truck, pedestrian, bicycle, light, red and green lamp.
CLASS_WEIGHTS = {9: 2.0, 10: 2.0, 11: 5.0, 12: 5.0, 13: 4.0, 17: 8.0, 18: 8.0}
#: Distances are predicted in units of these; farther is "none".
LIGHT_RANGE_M = 60.0
LEAD_RANGE_M = 60.0
SPEED_SCALE_MPS = 15.0


class DenseHead(nn.Module):
    """Depth and class of every sub-cell of every patch, from patches [B, P, d]."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        vision = config.vision_config
        self.groups = [(config.patch_grid(size), len(names)) for size, names in config.camera_groups]
        self.cells, self.classes = vision.dense_cells, vision.num_classes
        self.norm = nn.LayerNorm(vision.hidden_size)
        self.head = nn.Linear(vision.hidden_size, self.cells**2 * (self.classes + 1))
        weights = [CLASS_WEIGHTS.get(index, 1.0) for index in range(self.classes)]
        self.class_weights = weights

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, P, cells^2, classes] and log-depth [B, P, cells^2]."""
        out = self.head(self.norm(patches)).unflatten(-1, (self.cells**2, self.classes + 1))
        return out[..., 1:], out[..., 0].float() + 2.5  # the mean of log metres, so that learning starts near it

    def labels_to_patches(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Cut label maps, per group [B, G, rows * cells, columns * cells], into [B, P, cells^2]."""
        parts = []
        for labels, ((rows, columns), count) in zip(maps, self.groups, strict=True):
            grid = labels.reshape(len(labels), count, rows, self.cells, columns, self.cells)
            parts.append(grid.permute(0, 1, 2, 4, 3, 5).reshape(len(labels), count * rows * columns, -1))
        return torch.cat(parts, dim=1)

    def losses(self, patches: Tensor, labels: ClipLabels) -> dict[str, Tensor]:
        """Cross-entropy of the classes and L1 of log-depth, where known (depth > 0)."""
        logits, log_depth = self(patches)
        depth = self.labels_to_patches(labels.depth_m)
        semantic = self.labels_to_patches(labels.semantic)
        known = depth > 0
        error = (log_depth - depth.clamp(min=0.1).log()).abs() * known
        weight = logits.new_tensor(self.class_weights)
        # Cells without depth belong to missing pictures: their class is unknown as well.
        semantic = semantic.masked_fill(~known, -100).flatten()
        return {
            'depth': error.sum() / known.sum().clamp(min=1),
            'semantic': F.cross_entropy(logits.flatten(0, 2), semantic, weight=weight).float().nan_to_num(),
        }


class SceneHead(nn.Module):
    """What governs the ego now, from the scene queries [B, 3, D]."""

    def __init__(self, config: VlaConfig):
        super().__init__()
        width = config.language_config.hidden_size
        self.light = nn.Linear(width, 2)
        self.lead = nn.Linear(width, 3)
        self.hazard = nn.Linear(width, 4)
        # The reflex is asked as well, so that its trunk holds what to stop for.
        self.trunk = nn.Linear(config.view_config.hidden_size, 2 + 3 + 4)

    def forward(self, scene: Tensor, trunk: Tensor) -> dict[str, Tensor]:
        """Return light_logit, light_m, lead_logit, lead_m, lead_mps [B] and hazard logits [B, 4].

        scene [B, 3, D] and the reflex's trunk [B, H] answer together.
        """
        of_trunk = self.trunk(trunk).float()
        light, lead = (
            self.light(scene[:, 0]).float() + of_trunk[:, :2],
            self.lead(scene[:, 1]).float() + of_trunk[:, 2:5],
        )
        return {
            'light_logit': light[:, 0],
            'light_m': light[:, 1] * LIGHT_RANGE_M,
            'lead_logit': lead[:, 0],
            'lead_m': lead[:, 1] * LEAD_RANGE_M,
            'lead_mps': lead[:, 2] * SPEED_SCALE_MPS,
            'hazard': self.hazard(scene[:, 2]).float() + of_trunk[:, 5:],
        }

    def losses(self, scene: Tensor, trunk: Tensor, labels: ClipLabels) -> dict[str, Tensor]:
        """Existence (binary cross-entropy), distances and speed where they exist (L1), hazard (cross-entropy)."""
        out = self(scene, trunk)
        light = labels.red_light_distance_m < LIGHT_RANGE_M
        lead = labels.lead_gap_m < LEAD_RANGE_M
        moving = lead & torch.isfinite(labels.lead_speed_mps)
        light_error = _masked_l1(out['light_m'], labels.red_light_distance_m, light) / LIGHT_RANGE_M
        lead_error = _masked_l1(out['lead_m'], labels.lead_gap_m, lead) / LEAD_RANGE_M
        speed_error = _masked_l1(out['lead_mps'], labels.lead_speed_mps, moving) / SPEED_SCALE_MPS
        return {
            'light': F.binary_cross_entropy_with_logits(out['light_logit'], light.float()) + 2 * light_error,
            'lead': F.binary_cross_entropy_with_logits(out['lead_logit'], lead.float()) + 2 * lead_error + speed_error,
            'hazard': F.cross_entropy(out['hazard'], labels.hazard),
        }


class PlanHead(nn.Module):
    """Controls straight from the hidden states of the waypoints [B, T, A], without anchors and flow.

    The flow's own loss reaches the hidden states through noise; this one tells them plainly where to go.
    """

    def __init__(self, config: VlaConfig):
        super().__init__()
        action = config.action_config
        self.head = nn.Linear(action.hidden_size, 2)

    def losses(self, hidden: Tensor, flow: FlowDecoder, controls: Tensor, speed_mps: Tensor) -> dict[str, Tensor]:
        """Compare with the expert's controls [B, T, 2] (m/s^2, 1/m), as such and driven from speed_mps [B]."""
        predicted, target = self.head(hidden).float(), flow.normalise(controls)
        position = position_loss(flow.denormalise(predicted), flow.denormalise(target), speed_mps, flow.config.dt_s)
        return {'direct': position + F.mse_loss(predicted, target)}


def _masked_l1(value: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    error = (value - target.masked_fill(~mask, 0.0)).abs() * mask
    return error.sum() / mask.sum().clamp(min=1)
