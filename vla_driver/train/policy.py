# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Imitation of the expert from collected episodes: one process trains, or several share the clips of each step.

Several are started by torchrun: by this module where `processes` asks for them, or by hand, on every machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_driver.data.clips import ClipDataset, find_episodes, split_episodes
from vla_driver.data.encoding import encode_episodes
from vla_driver.data.prefetch import prepared_ahead
from vla_driver.model.checkpoint import resolve_checkpoint
from vla_driver.model.config import VlaConfig
from vla_driver.model.device import choose_device
from vla_driver.model.native.loading import load_model
from vla_driver.model.native.pruned import PrunedTraining
from vla_driver.model.native.vla import VlaModel
from vla_driver.model.pruning.base import Pruner
from vla_driver.model.pruning.registry import make_pruner
from vla_driver.model.tokens import ClipBatch
from vla_driver.show.experts import draw_training_loads, save_png
from vla_driver.train.anchors import fit_anchors
from vla_driver.train.architecture import grown, read_architecture
from vla_driver.train.checks import check_new_run, check_positive
from vla_driver.train.distributed.crew import Crew, crew_size, meeting, started_by_torchrun
from vla_driver.train.distributed.launch import launch, require_deepspeed
from vla_driver.train.distributed.zero import Sharing
from vla_driver.train.experts import logged_loads
from vla_driver.train.loop import Counting, train
from vla_driver.train.policy_trainer import PolicyConfig, PolicyTrainer
from vla_driver.train.record import LOG, append_log, computed_on, read_log
from vla_driver.train.split import record_split, recorded_split
from vla_driver.train.state import saved_settings
from vla_driver.train.validation import validate
from vla_driver.train.words import fit_temperature
from vla_driver.types import InvalidInput

#: vision: depth, classes and scene only; reflex: what is read off the panorama; policy: no dense labels; words: these
#: alone, all else staying as it is; all.
STAGES = ('vision', 'reflex', 'policy', 'words', 'all')
#: Stages whose steps count who is asked among experts.
_ASKS_EXPERTS = ('vision', 'policy', 'all')
_PATHS = ('out', 'features', 'architecture', 'recon')
_SHOWN = (
    *('ade_1s', 'ade_3s', 'lateral_slope', 'start_recall', 'stop_recall', 'light_accuracy', 'light_error_m'),
    'load_max',
)


@dataclass(frozen=True)
class PolicyRun:
    """One run of imitation, from the episodes under the folders `data` to the checkpoint `out`.

    resume: continue the run in `out`; init: the checkpoint whose weights it starts from; refit_anchors: fit the
    anchors of `init` anew; blind: train the control that sees no images; freeze_vision: keep the encoder of `init`
    and train the rest on its features, kept in `features` (default: out/features); freeze_reflex: keep the reflex
    of `init`; architecture: a JSON file of VlaConfig entries that differ from nano, or from `init` (what it has not
    starts afresh); recon: the folder that the pruner 'recon' stands for; validate_clips: how many held-out clips
    are validated on, after each save; processes: how many share the work, on this machine; sharing: how they do.
    """

    data: Sequence[Path]
    out: Path
    config: PolicyConfig
    resume: bool = False
    init: str | None = None
    refit_anchors: bool = False
    blind: bool = False
    freeze_vision: bool = False
    freeze_reflex: bool = False
    features: Path | None = None
    architecture: Path | None = None
    recon: Path | None = None
    save_minutes: float = 5.0
    validate_clips: int = 120
    threads: int | None = None
    device: str = 'auto'
    processes: int = 1
    sharing: Sharing = field(default_factory=Sharing)


def run_of(described: Mapping[str, Any]) -> PolicyRun:
    """Return the run of which `described` is what `asdict` made, as JSON has it."""
    paths = {name: Path(described[name]) for name in _PATHS if described[name] is not None}
    data = [Path(path) for path in described['data']]
    config = PolicyConfig(**{**described['config'], 'prune': tuple(described['config']['prune'])})
    sharing = Sharing(**described['sharing'])
    return PolicyRun(**{**described, **paths, 'data': data, 'config': config, 'sharing': sharing})


def train_policy(run: PolicyRun) -> dict[str, float]:
    """Train; return the last validation's figures (empty without held-out episodes).

    Raises `InvalidInput` for settings and data that cannot be trained on.
    """
    if started_by_torchrun():
        run = dataclasses.replace(run, processes=crew_size())
    _check(run)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, shares=_shares(run)))
    if run.processes == 1:
        return _train(run, Crew())
    require_deepspeed()
    if started_by_torchrun():
        with meeting(choose_device(run.device)) as crew:
            return _train(run, crew)
    threads = run.threads or max(1, torch.get_num_threads() // run.processes)
    job = json.loads(json.dumps(asdict(run), default=str))
    launch('vla_driver.train.distributed.worker', job, run.processes, threads)
    figures = read_log(run.out, 'validation')
    return {key: value for key, value in figures[-1].items() if isinstance(value, float)} if figures else {}


def _shares(run: PolicyRun) -> int:
    """Return into how many shares a step is parted: those of the run that is resumed, if they divide among us."""
    if run.config.shares > 1:
        return run.config.shares
    before = saved_settings(run.out) if run.resume else {}
    # Before there were shares, every process had one.
    shares = int(before.get('shares', before.get('processes', run.processes)))
    if shares % run.processes == 0 and run.config.clips % shares == 0:
        return shares
    print(f'{run.out} was begun with steps of {shares} shares, which do not divide among {run.processes} processes: it '
          f'goes on with {run.processes}, and draws other clips')  # fmt: skip
    return run.processes


def _check(run: PolicyRun) -> None:
    config = run.config
    if config.steps is None and config.minutes is None:
        raise InvalidInput('how long? give --steps or --minutes')
    check_positive(
        steps=config.steps,
        batch=config.clips,
        processes=run.processes,
        shares=config.shares,
        ticks=config.ticks,
        validate_clips=run.validate_clips,
        threads=run.threads,
        minutes=config.minutes,
        learning_rate=config.learning_rate,
        save_minutes=run.save_minutes,
    )
    if not 0.0 <= config.line_share <= 1.0:
        raise InvalidInput(f'--line-share {config.line_share}: expected a share between 0 and 1')
    if run.freeze_vision and (run.blind or not (run.init or run.resume)):
        raise InvalidInput('--freeze-vision keeps a trained encoder: give --init CKPT of a model that sees')
    if run.refit_anchors and not run.init:
        raise InvalidInput('--refit-anchors changes the anchors of a trained model: give --init CKPT, or drop it')
    if run.refit_anchors and config.stage == 'words':
        raise InvalidInput('--stage words leaves driving as it is, and --refit-anchors does not; drop one of them')
    if run.freeze_reflex and not (run.init or run.resume):
        raise InvalidInput('--freeze-reflex keeps a trained reflex: give --init CKPT of a model that has one')
    if run.freeze_reflex and config.stage not in ('policy', 'all'):
        raise InvalidInput(
            f'--freeze-reflex is for --stage policy or all, which train more than the reflex, not for {config.stage}'
        )
    if run.freeze_reflex and run.refit_anchors:
        raise InvalidInput('--refit-anchors teaches the reflex what --freeze-reflex keeps; drop one of them')
    if run.freeze_reflex and not (run.freeze_vision or run.blind):
        raise InvalidInput('--freeze-reflex reads off an encoder that must stay, too: give --freeze-vision')
    if run.freeze_vision and config.stage == 'vision':
        raise InvalidInput('--freeze-vision keeps what --stage vision trains; drop one of them')
    if config.stage == 'words' and not (run.init or run.resume):
        raise InvalidInput('--stage words leaves all but words as it is: give --init CKPT of a model that drives')
    if config.stage == 'vision' and run.blind:
        raise InvalidInput('--stage vision trains what --blind leaves out; drop one of them')
    for name, parts in (('processes', run.processes), ('shares', config.shares)):
        if config.clips % parts:
            raise InvalidInput(f'--batch {config.clips} does not divide among --{name} {parts}')
    if config.shares > 1 and config.shares % run.processes:
        raise InvalidInput(f'--shares {config.shares} do not divide among --processes {run.processes}')
    device = choose_device(run.device)
    if run.processes > 1 and device.startswith('cuda') and not started_by_torchrun():
        count = torch.cuda.device_count()
        if run.device not in ('auto', 'cuda') or run.processes > count:
            raise InvalidInput(
                f'--processes {run.processes} with --device {run.device}: each takes a GPU of its own, and there are '
                f'{count}; give --device cuda and at most as many processes'
            )
    if run.init:
        resolve_checkpoint(run.init)
    check_new_run(run.out, run.resume)


def _train(run: PolicyRun, crew: Crew) -> dict[str, float]:
    """Train as one of a crew; only the leading process writes, validates and shows progress."""
    config = run.config
    if run.resume:
        _check_kept(run)
    if run.freeze_vision and config.stage == 'all':
        config = dataclasses.replace(config, stage='policy')
    # Of a crew, each process was started with its part of the threads.
    torch.set_num_threads(run.threads or torch.get_num_threads())
    device = choose_device(run.device)
    if crew.size > 1 and device.startswith('cuda'):
        device = f'cuda:{crew.place}'
    torch.manual_seed(config.seed)
    model = _make_model(run)
    model.pruning = _pruning(run, model)
    if config.stage == 'words':
        _only_words(model)
    if run.freeze_reflex:
        _keep_reflex(model)
    train_paths, held_out = split_episodes(find_episodes(run.data))
    if run.resume:
        # New episodes would change the order of the old ones, and the run would no longer be the same.
        train_paths, held_out = recorded_split(run.out, train_paths, held_out)
    features = _features(run, model, [*train_paths, *held_out], device, crew) if run.freeze_vision else None
    share = config.line_share
    dataset = ClipDataset(
        train_paths, model.config, ticks=config.ticks, features=features, device=device, line_share=share
    )
    validation = (
        ClipDataset(held_out, model.config, ticks=config.ticks, augment=False, features=features, device=device)
        if held_out
        else None
    )
    if not run.resume and (run.refit_anchors or not run.init):
        fit_anchors(model, *dataset.controls(), seed=config.seed, again=bool(run.init))
    trainer = PolicyTrainer(model, config, device, crew, run.sharing)
    if run.resume:
        trainer.load(run.out)
    if crew.leads:
        run.out.mkdir(parents=True, exist_ok=True)
        if not run.resume:
            record_split(run.out, train_paths, held_out)
        append_log(
            run.out,
            kind='start',
            step=trainer.step,
            episodes=len(train_paths),
            validation_episodes=len(held_out),
            ticks=dataset.num_ticks,
            towns=dataset.towns,
            kept=_kept(run),
            parameters=sum(p.numel() for p in model.parameters()),
            **computed_on(device),
            init=str(run.init or ''),
            settings=asdict(config),
            processes=crew.size,
        )
    figures = train(
        trainer,
        _batches(trainer, dataset),
        _counting(config, experts=bool(trainer.balance.biases()) and config.stage in _ASKS_EXPERTS),
        run.out,
        save_minutes=run.save_minutes,
        validate=lambda: _validate(run, trainer, validation),
        shown=_SHOWN,
        crew=crew,
    )
    if not crew.leads:
        return {}
    if model.config.words_config.grammar and validation is not None and config.stage in ('policy', 'words', 'all'):
        _calibrate(run, trainer.averaged, validation)
    _draw_loads(run.out)
    return figures


def _calibrate(run: PolicyRun, model: VlaModel, validation: ClipDataset) -> None:
    """Set how sure the saved model is of its words."""
    batches = validation.validation_batches(run.config.clips, run.validate_clips)
    temperature = fit_temperature(model, batches)
    if temperature is not None:
        model.config.words_config.temperature = temperature
        model.config.save_pretrained(run.out)


def _draw_loads(folder: Path) -> None:
    """Draw who was asked among the experts, over the steps, into the run's folder; nothing without experts."""
    steps, loads = logged_loads(read_log(folder, 'train'))
    if steps:
        picture = draw_training_loads(steps, {name: np.array(load) for name, load in loads.items()})
        save_png(folder / 'experts.png', picture)


def _kept(run: PolicyRun) -> dict[str, bool]:
    """Return what of the model a run leaves as it is."""
    return {name: getattr(run, name) for name in ('freeze_vision', 'freeze_reflex', 'blind')}


def _check_kept(run: PolicyRun) -> None:
    """Raise `InvalidInput` where a resumed run would learn what it has kept so far, or the other way round."""
    starts = read_log(run.out, 'start') if (run.out / LOG).is_file() else []
    before = starts[0].get('kept') if starts else None
    differing = {name: value for name, value in (before or {}).items() if value != getattr(run, name)}
    if differing:
        options = ', '.join(
            f'{"give" if value else "leave out"} --{name.replace("_", "-")}' for name, value in differing.items()
        )
        raise InvalidInput(f'cannot resume {run.out} with other options than it began with: {options}')


def _make_model(run: PolicyRun) -> VlaModel:
    if run.resume:
        return load_model(run.out)
    entries = {} if run.architecture is None else read_architecture(run.architecture)
    if run.init:
        model = load_model(run.init, auxiliary=True)
        if model.config.blind != run.blind:
            raise InvalidInput(f'--init {run.init} has blind={model.config.blind}, but --blind is {run.blind}')
        return grown(model, entries) if entries else model
    return VlaModel(VlaConfig(**entries, blind=run.blind))


def _pruning(run: PolicyRun, model: VlaModel) -> PrunedTraining | None:
    """Return the pruners of `config.prune` at work; None for none."""
    if not run.config.prune:
        return None
    if not model.config.reads_kept:
        raise InvalidInput(
            "--prune: this model reads dropped tokens all the same; give --config with view_config.reads 'kept'"
        )
    pruners = [make_pruner(name, run.recon, model.config) for name in run.config.prune]
    inside = [name for name, pruner in zip(run.config.prune, pruners, strict=True) if not isinstance(pruner, Pruner)]
    if inside:
        raise InvalidInput(f'--prune {inside[0]}: works inside the encoder or the language model; choose another one')
    return PrunedTraining([pruner for pruner in pruners if isinstance(pruner, Pruner)])


def _only_words(model: VlaModel) -> None:
    """Freeze everything but words, so that the model drives afterwards bit by bit as before."""
    if not model.config.words_config.grammar:
        raise InvalidInput('--stage words: this model has none; give --config with {"words_config": {"grammar": 1}}')
    model.requires_grad_(False)
    model.words.requires_grad_(True)


def _keep_reflex(model: VlaModel) -> None:
    """Freeze the way from tokens to the first answer; hidden states then add to an answer that stays as good as it is.

    Small steps of few ticks would spoil what the reflex stage learnt from ten times as many.
    """
    parts = [model.ego, model.reflexes] if model.config.blind else [model.ego, model.view, model.reflexes]
    if model.config.recalls:
        # It reads what the memory pools, which therefore stays, too.
        parts += [model.recall, model.memory_pool]
    for part in parts:
        part.requires_grad_(False)


def _features(run: PolicyRun, model: VlaModel, paths: list[Path], device: str, crew: Crew) -> Path:
    """Encode the episodes, each process its share, and freeze what they were encoded with."""
    # The merger, too, although it comes after the features that are kept: a pruner of these tokens stays of use.
    model.vision.requires_grad_(False)
    folder, own = run.features or run.out / 'features', paths[crew.rank :: crew.size]
    found = encode_episodes(model.to(device), own, folder, device=device, progress=crew.leads)
    crew.wait()
    return found


def _batches(trainer: PolicyTrainer, dataset: ClipDataset) -> Generator[list[ClipBatch], None, None]:
    """Yield a batch for each of this process's shares of every step, from where the run is."""
    config = trainer.config

    def shares_of(step: int) -> list[ClipBatch]:
        numbers = [step * config.shares + share for share in trainer.mine]
        return [dataset.training_batch(config.seed, number, config.clips // config.shares) for number in numbers]

    return prepared_ahead(shares_of, trainer.step)


def _counting(config: PolicyConfig, *, experts: bool = False) -> Counting:
    ticks = config.clips * config.ticks
    shown = {'loss': '.4f'} | ({'load_max': '.2f'} if experts else {})
    if config.steps is not None:
        return Counting(config.steps, 'ticks', ticks, shown=shown)
    assert config.minutes is not None
    return Counting(round(60 * config.minutes), 'ticks', ticks, unit='s', shown=shown)


def _validate(run: PolicyRun, trainer: PolicyTrainer, validation: ClipDataset | None) -> dict[str, float]:
    if validation is None:
        return {}
    torch.manual_seed(0)
    return validate(trainer.averaged, validation.validation_batches(run.config.clips, run.validate_clips))
