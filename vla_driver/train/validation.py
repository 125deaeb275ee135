# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Open-loop figures on held-out episodes, as training goes along."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from vla_driver.model.native.auxiliary import LEAD_RANGE_M, LIGHT_RANGE_M
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.precision import autocast
from vla_driver.model.tokens import ClipBatch, to_device
from vla_driver.train.experts import LoadMeter
from vla_driver.train.record import Means

#: Above this planned speed, 2 s ahead, the plan is to go.
GO_SPEED_MPS = 1.0


@torch.inference_mode()
def validate(model: VlaModel, batches: Iterable[ClipBatch]) -> dict[str, float]:
    """Return means over all ticks.

    ade_1s, ade_2s, ade_3s: mean displacement up to that time, metres; anchor_accuracy: the likeliest anchor is
    the nearest; go_accuracy: plan and expert agree whether to go 2 s ahead; start_recall, stop_recall: share of the
    standing ticks where the expert starts, and of the moving ones where it stops, at which the plan does too;
    lateral_slope: how strongly the plan steers back where the expert does (least squares of its sideways place
    at 1.5 s on the expert's, off turns; 1 is as strongly, 0 not at all); light_accuracy, light_error_m and
    lead_accuracy, lead_error_m: presence and distance; loss_*: the training losses without dropouts;
    load_*: of the experts, where the model has them (`train.experts.load_report`).
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    means, meter = Means(), LoadMeter(model.language)
    for on_cpu in batches:
        with autocast(device):
            _add_batch(model, to_device(on_cpu, device), means.add)
        meter.count()
    model.train(was_training)
    figures = dict(sorted(means.figures().items()))
    products, squares = figures.pop('_lateral_product', 0.0), figures.pop('_lateral_square', 0.0)
    if squares > 0:
        figures['lateral_slope'] = products / squares
    return figures | meter.figures()


def _add_batch(model: VlaModel, batch: ClipBatch, add: Callable[[str, torch.Tensor], None]) -> None:
    # Clips of encoded features carry no dense labels.
    out = model(batch, stage='all' if batch.labels.semantic else 'policy')
    controls = model.decode(out.hidden, out.reflex)
    for name, value in out.losses.items():
        add(f'loss_{name}', value)
    labels, speed, flow = batch.labels, batch.inputs.speed_mps, model.flow
    plan = flow.rollout(flow.normalise(controls), speed)
    error = (plan.positions_m - labels.positions_m).norm(dim=-1)
    for seconds in (1, 2, 3):
        add(f'ade_{seconds}s', error[:, : round(seconds / flow.config.dt_s)].mean(dim=1))
    nearest = flow.nearest_anchors(flow.normalise(labels.controls), speed).argmin(dim=-1)
    add('anchor_accuracy', flow.classify(out.hidden, out.reflex).argmax(dim=-1) == nearest)
    later = round(2.0 / flow.config.dt_s) - 1
    add('go_accuracy', (plan.speed_mps[:, later] > GO_SPEED_MPS) == (labels.plan_speed_mps[:, later] > GO_SPEED_MPS))
    goes, should = plan.speed_mps[:, later] > GO_SPEED_MPS, labels.plan_speed_mps[:, later] > GO_SPEED_MPS
    add('start_recall', goes[(speed < GO_SPEED_MPS) & should])
    add('stop_recall', ~goes[(speed > 2 * GO_SPEED_MPS) & ~should])
    straight = (labels.controls[..., 1] * labels.plan_speed_mps * flow.config.dt_s).sum(dim=1).abs() < 0.25
    side = round(1.5 / flow.config.dt_s) - 1
    ours, theirs = plan.positions_m[straight, side, 1], labels.positions_m[straight, side, 1]
    add('_lateral_product', ours * theirs)
    add('_lateral_square', theirs * theirs)
    if not model.config.auxiliary:
        return
    scene = model.scene_head(out.scene, out.reflex.trunk)
    for name, distance, reach in (
        ('light', labels.red_light_distance_m, LIGHT_RANGE_M),
        ('lead', labels.lead_gap_m, LEAD_RANGE_M),
    ):
        there = distance < reach
        add(f'{name}_accuracy', (scene[f'{name}_logit'] > 0) == there)
        add(f'{name}_error_m', (scene[f'{name}_m'] - distance)[there].abs())
