# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Recycling of dropped tokens: density-peak clustering over nearest neighbours (SparseVLM, arXiv 2410.04417)."""

from __future__ import annotations

import torch
from torch import Tensor

#: Of the dropped tokens this share, the best by score, is recycled, this many to a cluster (SparseVLM's code).
RECYCLED_SHARE = 0.3
CLUSTER_SIZE = 10


def cluster_count(dropped: int) -> int:
    """Return to how many clusters `dropped` tokens are recycled."""
    return (int(RECYCLED_SHARE * dropped) + 1) // CLUSTER_SIZE + 1 if dropped else 0


def merge_clusters(states: Tensor, scores: Tensor, dropped: int, clusters: int) -> tuple[Tensor, Tensor]:
    """Cluster the best of the dropped tokens; return centres [B, clusters] (ascending) and means [B, clusters, D].

    states [B, N, D]; scores [B, N], -inf where a token is not among the `dropped` ones of its row.  A cluster lives on
    at its centre, so that it has a position of its own.

    Density peaks (DPC-kNN, doi 10.1016/j.knosys.2016.02.001): density = exp(-mean squared distance to the k nearest),
    k = clusters, distances divided by sqrt(D); centre score = density times the distance to the nearest denser token.
    """
    count = min(max(int(RECYCLED_SHARE * dropped) + 1, clusters), dropped)
    best = scores.sort(dim=1, descending=True, stable=True).indices[:, :count].sort(dim=1).values
    rows = torch.arange(len(best), device=best.device).unsqueeze(1)
    members = states[rows, best]
    distance = torch.cdist(members.float(), members.float()) * members.shape[-1] ** -0.5
    nearest = distance.topk(min(clusters, count), dim=-1, largest=False).values
    density = (-nearest.square().mean(dim=-1)).exp()
    # Of equally dense tokens the earlier one counts as the denser, so that every cluster has one peak.
    order = torch.arange(count, device=best.device)
    denser = density.unsqueeze(1) > density.unsqueeze(2)
    denser |= (density.unsqueeze(1) == density.unsqueeze(2)) & (order.unsqueeze(0) < order.unsqueeze(1))
    furthest = distance.flatten(1).amax(dim=1)[:, None, None]
    gap = torch.where(denser, distance, furthest).amin(dim=-1)
    peaks = (gap * density).sort(dim=1, descending=True, stable=True).indices[:, :clusters].sort(dim=1).values
    of_cluster = distance[rows, peaks].argmin(dim=1)  # [B, clusters, count] -> [B, count]
    of_cluster.scatter_(1, peaks, torch.arange(clusters, device=best.device).expand(len(best), -1))
    belongs = torch.nn.functional.one_hot(of_cluster, clusters).transpose(1, 2).to(members.dtype)
    means = belongs @ members / belongs.sum(dim=-1, keepdim=True)
    return best.gather(1, peaks), means.to(states.dtype)
