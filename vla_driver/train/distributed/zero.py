# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Several processes move the weights of one run: DeepSpeed's engine, with ZeRO for what all hold alike.

Every process computes its share of the clips.  Stage 1 of ZeRO (arXiv 1910.02054) parts the optimiser's memory among
them, stage 2 the gradients as well; experts are parted by expert_parallel.py.  What is saved is whole, and in the form
of a run of one process, so that any number of processes goes on with it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from vla_driver.model.layers.experts import expert_layers
from vla_driver.train.distributed.crew import Crew
from vla_driver.train.distributed.launch import require_deepspeed
from vla_driver.train.engine import Loss, adamw
from vla_driver.train.optimisation import check_finite, decay_groups, set_rate
from vla_driver.train.state import prefixed, under
from vla_driver.types import InvalidInput

if TYPE_CHECKING:
    from vla_driver.train.distributed.expert_parallel import ParallelExperts

STAGES: Final = (1, 2)
#: Elements that are reduced, or gathered, at once: their buffers take four times as many bytes.
_BUCKET: Final = 50_000_000
_MOMENTS: Final = ('exp_avg', 'exp_avg_sq')


@dataclass(frozen=True)
class Sharing:
    """How a run is shared.  zero: the stage of ZeRO; expert_parallel: processes that hold all experts together, 0: as
    many as the experts divide among.
    """

    zero: int = 1
    expert_parallel: int = 0

    def __post_init__(self) -> None:
        if self.zero not in STAGES:
            raise InvalidInput(f'--zero {self.zero}; allowed: {", ".join(map(str, STAGES))}')


def open_deepspeed(device: torch.device) -> Any:
    """Return the module, told which kind of device it is to use; raise `InvalidInput` where it is not installed."""
    require_deepspeed()
    os.environ.setdefault('DS_ACCELERATOR', device.type)
    import deepspeed
    import deepspeed.ops

    logging.getLogger('DeepSpeed').setLevel(logging.WARNING)
    if device.type == 'cpu':
        # No compiled operation is wanted: all-reduce through shared memory would be built first, for minutes, by a
        # compiler that may not be there.  gloo does without.
        deepspeed.ops.__compatible_ops__ = {}
    return deepspeed


class ZeroEngine:
    """An `Engine` (train/engine.py) of all processes of a crew.

    model, averaged: whole, and alike in all processes, until the first step; then each process holds its experts alone.
    """

    def __init__(
        self,
        model: nn.Module,
        averaged: nn.Module,
        crew: Crew,
        sharing: Sharing,
        *,
        learning_rate: float,
        weight_decay: float,
        max_norm: float,
        before_step: Callable[[], None],
    ):
        """before_step: called when the weights are about to move."""
        self.model, self.averaged, self.crew, self.sharing = model, averaged, crew, sharing
        self._learning_rate, self._weight_decay, self._max_norm = learning_rate, weight_decay, max_norm
        self._before_step = before_step
        self.device = next(model.parameters()).device
        self._deepspeed = open_deepspeed(self.device)
        self._restored: dict[str, Tensor] = {}
        self._engine: Any = None
        self._spread: dict[str, ParallelExperts] = {}
        self._averaged_spread: dict[str, ParallelExperts] = {}
        self._trained: list[nn.Parameter] = []
        self._parts = 0

    @property
    def spreads(self) -> bool:
        """See `Engine`."""
        return bool(self._spread)

    def begin(self, probe: Loss) -> None:
        """See `Engine`: part everything, once it is known what takes part in the loss."""
        if self._engine is not None:
            return
        self._deepspeed.init_distributed(dist_init_required=False, verbose=False)
        active = self._active(probe)
        ranks = self._expert_ranks()
        if ranks > 1:
            from vla_driver.train.distributed.expert_parallel import spread_experts

            self._spread = spread_experts(self.model, ranks)
            self._averaged_spread = spread_experts(self.averaged, ranks)
            self.averaged.requires_grad_(False)
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        self._trained = [p for _, p in trained]
        groups = decay_groups((p for name, p in trained if name in active), self._weight_decay)
        groups.append({'params': [p for name, p in trained if name not in active], 'weight_decay': 0.0})
        groups = [group | {'name': f'group_{number}'} for number, group in enumerate(groups) if group['params']]
        if self._spread:
            from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer

            groups = split_params_into_different_moe_groups_for_optimizer(groups)
            groups = [group for group in groups if group['params']]
        self.optimizer = adamw(groups, self._learning_rate)
        self._engine = self._open(1)
        self._give_back()

    def _active(self, probe: Loss) -> set[str]:
        """Return the names of the parameters on which a loss depends, or has depended before.

        Adam in one process leaves the others alone.  To ZeRO their gradient is zero: they keep their values, as long as
        nothing decays them.
        """
        probe().backward()  # type: ignore[no-untyped-call]
        named = list(self.model.named_parameters())
        flags = self.crew.any(torch.tensor([p.grad is not None for _, p in named], device=self.device)).tolist()
        for _, p in named:
            p.grad = None
        for layer in expert_layers(self.model).values():
            layer.take_counts()
            layer.take_losses()
        known = {key.split('.', 2)[2] for key in self._restored}
        return known | {name for (name, _), active in zip(named, flags, strict=True) if active}

    def _expert_ranks(self) -> int:
        """Return how many processes hold all experts together."""
        layers = expert_layers(self.model).values()
        wanted, size = self.sharing.expert_parallel, self.crew.size
        if not layers:
            if wanted > 1:
                raise InvalidInput(f'--expert-parallel {wanted}, but the model has no experts; leave it out')
            return 1
        fitting = [n for n in range(1, size + 1) if size % n == 0 and all(len(y.router.bias) % n == 0 for y in layers)]
        if wanted and wanted not in fitting:
            raise InvalidInput(
                f'--expert-parallel {wanted}: must divide the {size} processes and the experts of every layer; allowed '
                f'here: {", ".join(map(str, fitting))}'
            )
        return wanted or fitting[-1]

    def _open(self, parts: int) -> Any:
        self._parts = parts
        bucket = min(_BUCKET, sum(p.numel() for p in self.model.parameters()))
        config = {
            'train_micro_batch_size_per_gpu': 1,  # what a loss is of is the caller's
            'gradient_accumulation_steps': parts,
            'gradient_clipping': self._max_norm,
            'zero_allow_untested_optimizer': True,
            'zero_optimization': {
                'stage': self.sharing.zero,
                'contiguous_gradients': True,
                'overlap_comm': self.device.type == 'cuda',
                'reduce_bucket_size': bucket,
                'allgather_bucket_size': bucket,
            },
        }
        return self._deepspeed.initialize(
            model=_Losses(self.model), optimizer=self.optimizer, config=config, dist_init_required=False
        )[0]

    def backward(self, loss: Tensor, parts: int) -> None:
        """See `Engine`."""
        if parts != self._parts:
            self._engine.set_train_batch_size(parts * self.crew.size)
            self._parts = parts
        # Gradients are reduced as they come: in all processes all of them must, by whatever chance takes part.
        self._engine.backward(self._engine(_Touch.apply(loss, *self._trained)))
        if self._engine.is_gradient_accumulation_boundary():
            return  # `step` does
        self._engine.step()

    def step(self, rate: float, number: int, loss: float) -> float:
        """See `Engine`.  Of a norm that is not finite DeepSpeed leaves the weights alone."""
        check_finite(number, loss, 0.0)
        self._before_step()
        set_rate(self.optimizer, rate)
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        check_finite(number, loss, norm)
        return norm

    # --- whole again -----------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """See `Engine`."""
        tensors = dict(_whole(prefixed('model.', self.model), 'model.', self._spread))
        tensors |= _whole(prefixed('averaged.', self.averaged), 'averaged.', self._averaged_spread)
        if self._engine is None:
            return tensors | {name: value for name, value in self._restored.items() if name.startswith('optimizer.')}
        for flat, parts, group in self._flat_groups():
            state = self.optimizer.state[flat]
            for key in _MOMENTS:
                gathered = [torch.empty_like(flat) for _ in range(torch.distributed.get_world_size(group))]
                torch.distributed.all_gather(gathered, state[key], group=group)
                moments = torch.cat(gathered)
                own = {
                    f'optimizer.{key}.{name}': moments.narrow(0, first, parameter.numel()).view_as(parameter).clone()
                    for name, parameter, first in parts
                }
                tensors |= _whole(own, f'optimizer.{key}.', self._spread)
            step = state['step'].detach().cpu()
            tensors |= {f'optimizer.step.{name}': step.clone() for name, _, _ in parts}
        # Who never had a gradient has no moments, as in one process.
        never = {
            key.split('.', 2)[2]
            for key, value in tensors.items()
            if key.startswith('optimizer.exp_avg_sq.') and not value.any()
        }
        return {key: v for key, v in tensors.items() if key[:10] != 'optimizer.' or key.split('.', 2)[2] not in never}

    def _flat_groups(self) -> Iterator[tuple[Tensor, list[tuple[str, nn.Parameter, int]], Any]]:
        """Yield, of every group of the optimiser, this process's part, what the whole is made of, and who shares it.

        The whole is one vector, cut into equal parts: (name, parameter, where it begins).
        """
        zero = self._engine.optimizer
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for number, flat in enumerate(zero.single_partition_of_fp32_groups):
            members = zip(zero.round_robin_bit16_groups[number], zero.round_robin_bit16_offsets[number], strict=True)
            parts = [(names[parameter], parameter, first) for parameter, first in members]
            yield flat, parts, zero.real_dp_process_group[number]

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """See `Engine`."""
        self.model.load_state_dict(under('model.', tensors))
        self.averaged.load_state_dict(under('averaged.', tensors))
        self._restored = {name: value for name, value in tensors.items() if name.startswith('optimizer.')}

    def _give_back(self) -> None:
        """Give each process its part of what the optimiser remembered."""
        if not self._restored:
            return
        for flat, parts, group in self._flat_groups():
            known = [part for part in parts if f'optimizer.step.{part[0]}' in self._restored]
            if not known:
                continue  # it has had no gradient so far
            step = max(float(self._restored[f'optimizer.step.{name}']) for name, _, _ in known)
            state = {'step': torch.tensor(step)}
            for key in _MOMENTS:
                whole = flat.new_zeros(len(flat) * torch.distributed.get_world_size(group))
                for name, parameter, first in known:
                    value, owner = self._restored[f'optimizer.{key}.{name}'], name.rpartition('.')[0]
                    value = self._spread[owner].part(value) if owner in self._spread else value
                    whole.narrow(0, first, parameter.numel()).copy_(value.flatten())
                state[key] = whole.chunk(torch.distributed.get_world_size(group))[group.rank()].clone()
            self.optimizer.state[flat] = state


class _Touch(torch.autograd.Function):
    """A loss that gives every parameter a gradient, zero where it has none."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: Tensor) -> Tensor:
        ctx.parameters = parameters
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return gradient, *(torch.zeros_like(parameter) for parameter in ctx.parameters)


class _Losses(nn.Module):
    """A model to DeepSpeed, which wants to see losses pass; they are computed outside."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, loss: Tensor) -> Tensor:
        return loss


def _whole(tensors: dict[str, Tensor], prefix: str, spread: dict[str, ParallelExperts]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors by name, those of experts gathered from all who hold some."""
    for name, value in tensors.items():
        owner, _, _ = name.removeprefix(prefix).rpartition('.')
        yield name, spread[owner].whole(value) if owner in spread else value
