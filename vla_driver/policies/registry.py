# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""The policies of an evaluation by name: the model and the three controls that give its figures a meaning.

- model: a checkpoint, as shipped or given.
- blind: the same architecture and training without images; what navigation and ego motion alone can do.
- constant-velocity: straight on at the present speed.
- expert: the privileged one.  It belongs to a simulation, or to a bag that recorded it.
- egodriver: whoever answers AlpaSim's egodriver contract, at an address in place of a checkpoint.  It is asked from
  within a simulation, which knows the route.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from vla_driver.policies.constant_velocity import ConstantVelocityPolicy
from vla_driver.policies.native_intents import set_guidance
from vla_driver.policies.pruning_settings import PruningSettings, apply_pruning
from vla_driver.types import FloatArray, InvalidInput, Policy

POLICY_NAMES: Final = ('model', 'expert', 'blind', 'constant-velocity')
#: In a simulation there is one more.
REMOTE: Final = 'egodriver'
SIMULATED_POLICY_NAMES: Final = (*POLICY_NAMES, REMOTE)
#: Checkpoints by the name they are shipped under (`models/<name>`).
DEFAULT_CHECKPOINTS: Final = {'model': 'nano', 'blind': 'nano-blind'}


def checkpoint_of(name: str, model: str | Path | None) -> str | None:
    """Return the checkpoint a policy is loaded from, or None if it needs none; of `REMOTE`, the server's address.

    `model` is refused where it would be ignored: a figure must not carry a checkpoint it did not use.
    """
    if name == REMOTE:
        if model is None:
            raise InvalidInput(f'policy {REMOTE}: give the address of its server: --model HOST:PORT or unix:///path')
        return str(model)
    if name not in POLICY_NAMES:
        raise InvalidInput(f'policy {name!r}: unknown, expected one of: {", ".join(SIMULATED_POLICY_NAMES)}')
    if name in DEFAULT_CHECKPOINTS:
        return str(model) if model is not None else DEFAULT_CHECKPOINTS[name]
    if model is not None:
        raise InvalidInput(f'policy {name!r} loads no checkpoint: leave out --model, or choose --policy model')
    return None


def require_checkpoint(name: str, model: str | Path | None) -> str | None:
    """Return `checkpoint_of`, having made sure that it is there, before processes are started that would miss it.

    Raises InvalidInput for an unknown checkpoint and for a pickle.
    """
    checkpoint = checkpoint_of(name, model)
    if checkpoint is not None and name != REMOTE:
        from vla_driver.model.checkpoint import resolve_checkpoint

        resolve_checkpoint(checkpoint)
    return checkpoint


def merged_adapter(checkpoint: str | Path | None, name: str = 'model') -> str | None:
    """Return what is merged into the weights of a policy's checkpoint, for reports; None for nothing."""
    if checkpoint is None or name == REMOTE:
        return None
    from vla_driver.model.checkpoint import inspect_checkpoint, resolve_checkpoint

    adapter = inspect_checkpoint(resolve_checkpoint(checkpoint)).adapter
    return None if adapter is None else str(adapter)


def make_policy(
    name: str,
    model: str | Path | None = None,
    expert: Callable[[], Policy] | None = None,
    pruning: PruningSettings | None = None,
    prompt: str | Path | None = None,
    device: str = 'auto',
    engine: str = 'auto',
    threads: int = 0,
    guidance: float = 1.0,
    route: Callable[[], FloatArray] | None = None,
    world: str = '',
) -> Policy:
    """Return a policy by name.

    expert: makes the privileged policy of the simulation or bag at hand; None where there is none.
    prompt: template file for a vision-language model (default: its own, or config/prompts/default.yaml).
    device: where the model runs: auto, cpu, cuda or cuda:N (`choose_device`).
    engine, threads: as in `load_policy`.
    pruning: what the model prunes; refused for policies that have no visual tokens.
    guidance: how strongly it heeds an intent; another scale than 1 is refused for policies that heed none, and takes
    torch where the engine is left to choose.
    route, world: of the simulation at hand, the way ahead [N, 2] in the odometry frame and the name of its map; None
    where there is none.
    Raises InvalidInput for an unknown name or checkpoint, for an expert where there is none, and for a
    checkpoint whose blindness contradicts the name.
    """
    checkpoint = checkpoint_of(name, model)
    if pruning is not None and pruning.active and name != 'model':
        raise InvalidInput(
            f'pruner {pruning.pruner!r}: policy {name} has no visual tokens to prune; use --policy model'
        )
    if name == 'constant-velocity' or name == 'expert':
        if name == 'expert' and expert is None:
            raise InvalidInput("policy expert: it drives with the simulator's own knowledge, which is not here")
        known = ConstantVelocityPolicy() if expert is None or name != 'expert' else expert()
        set_guidance(known, guidance)
        return known
    assert checkpoint is not None
    if name == REMOTE:
        if route is None:
            raise InvalidInput(f'policy {REMOTE}: a server is told the route, which a simulation alone knows')
        from vla_driver.policies.egodriver import EgodriverPolicy

        remote = EgodriverPolicy(checkpoint, route, world)
        set_guidance(remote, guidance)
        return remote
    from vla_driver.policies.loading import load_policy

    if guidance != 1.0 and engine == 'auto':
        engine = 'torch'  # graphs heed an intent as trained
    policy = load_policy(checkpoint, prompt=prompt, device=device, engine=engine, threads=threads)
    blind = not policy.needs.pictures
    if blind != (name == 'blind'):
        kind, right = ('is blind (it was trained without images)', 'blind') if blind else ('sees', 'model')
        raise InvalidInput(f'policy {name}: checkpoint {checkpoint} {kind}; use --policy {right}')
    if pruning is not None and pruning.active:
        apply_pruning(policy, pruning, checkpoint)
    set_guidance(policy, guidance)
    return policy
