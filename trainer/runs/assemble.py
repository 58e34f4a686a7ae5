"""The one module that knows all parts: from a config to a `Trainer` that is ready to go."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.checkpoint.store import Store
from trainer.config import compose, durations
from trainer.config.root import Config
from trainer.config.trainer import TrainerConfig
from trainer.data.images.normalize import Normalize
from trainer.data.loaders.resident import make_loaders
from trainer.data.splits import limit
from trainer.data.types import Data
from trainer.errors import CheckpointError, ConfigError
from trainer.loggers.base import Logger
from trainer.optim.schedules import Clock
from trainer.runs.build import build_data_and_task, build_model, build_optimizer, build_schedule
from trainer.runs.directory import Run
from trainer.runs.loading import load_weights
from trainer.system.device import choose_device, choose_precision, numerics
from trainer.system.process import configure, configure_denormals, configure_malloc, configure_threads
from trainer.system.signals import SignalHandler
from trainer.tasks.base import Task, score_direction
from trainer.training.interval import Interval
from trainer.training.state import Monitor, TrainState
from trainer.training.timeline import Timeline
from trainer.training.trainer import Trainer

SinkFactory = Callable[["RunContext"], Sequence[Logger]]


@dataclass(frozen=True)
class RunContext:
    """What is known of a run once its parts are made: for the first screen and for sinks.

    `environment` is what `trainer.device.numerics` says.
    """

    config: Config
    data: Data
    task: Task
    plan: Timeline
    state: TrainState
    device: torch.device
    precision: torch.dtype
    environment: dict[str, Any]
    run: Run | None


def assemble(
    config: Config,
    run: Run | None = None,
    *,
    resume: str | None = None,
    sinks: SinkFactory = lambda parts: (),
    interruption: SignalHandler | None = None,
    tell: Callable[[str], None] = print,
) -> Trainer:
    """Build everything that a config names, and load what it starts from.

    Args:
        config: checked.
        run: where checkpoints go; None: nothing is saved.
        resume: the name of a checkpoint of `run` to go on from: last, best, step-...
        sinks: makes the sinks, once everything else is there.
        interruption: see `Trainer`.
        tell: is told what a person should know, such as a damaged checkpoint.

    Raises:
        ConfigError, DataError, CheckpointError: for whatever does not fit together.
    """
    if config.resume is not None:
        raise ConfigError(
            f"resume={config.resume} belongs to the command line; from Python: assemble(config, Run(DIRECTORY).lock(), "
            "resume='last') with resume=None in the config."
        )
    settings = config.trainer
    configure(settings.deterministic, config.seed)
    configure_malloc(settings.malloc)
    configure_threads(settings.threads)
    configure_denormals(settings.flush_denormals)
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    data, task = build_data_and_task(config)
    data = _limited(data, config)
    task.to(device)
    train, val = make_loaders(
        data,
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        drop_last=config.data.drop_last,
        seed=config.seed,
        device=device,
        timeout=config.data.timeout,
        balanced=config.data.sampling == "balanced",
    )
    plan = make_plan(settings, train.steps_per_epoch)
    model = build_model(config, data.spec)
    _check_last_batch(model, config, len(data.train))
    if config.init_from is not None and resume is None:
        load_weights(model, config.init_from, Path(config.output_dir))
    batch = min(settings.micro_batch or config.data.batch_size, len(data.train))
    configure_threads(settings.threads, batch * sum(p.numel() for p in model.parameters()))
    model = model.to(device)
    channels_last = _channels_last(settings, model, device, precision)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    state = _state(config, task, plan, model)
    environment = numerics(device, precision)
    store = _open_store(
        config, run, state, resume, task, environment, data.preprocessing, lambda text: tell(f"warning: {text}")
    )
    if settings.compile:
        model.compile()
    made = sinks(RunContext(config, data, task, plan, state, device, precision, environment, run))
    for text in data.warnings:
        tell(f"warning: {text}")
    return Trainer(
        state=state,
        task=task,
        train=train,
        val=val,
        plan=plan,
        device=device,
        precision=precision,
        seed=config.seed,
        store=store,
        sinks=made,
        interruption=interruption,
        channels_last=channels_last,
        picture=_picture(data),
        labels=data.spec.labels,
        notes={
            "data_spec": data.spec.to_dict(),
            "preprocessing": data.preprocessing,
            "environment": environment,
        },
        tell=tell,
    )


def _open_store(
    config: Config,
    run: Run | None,
    state: TrainState,
    resume: str | None,
    task: Task,
    environment: dict[str, Any],
    preprocessing: str | None,
    warn: Callable[[str], None],
) -> Store | None:
    """The checkpoints of the run, after the state was restored from the one to go on from."""
    if run is None:
        return None
    if not run.config.exists():
        run.write_config(compose.to_yaml(compose.from_config(config)), [])
    store = Store(run.checkpoints, config.trainer.keep, warn)
    if resume is not None:
        payload, _ = store.load(resume)
        state.load_state_dict(payload)
        _check_tally(state.tally, task)
        measured = payload.get("preprocessing")
        if measured is not None and measured != preprocessing:  # images of an older version: it was not kept
            warn(
                "The data is not what the run was trained on before, or is prepared otherwise: what is measured on its "
                "training samples has changed (see data.path or data.root). The run goes on with inputs as now."
            )
        before = payload.get("environment")
        if not isinstance(before, dict):
            before = {}
        changed = [
            f"{name} {before[name]!s:.80} → {now}"
            for name, now in environment.items()
            if name in before and str(before[name]) != str(now)
        ]
        if changed:
            warn(
                f"This is not where the run was trained before ({', '.join(changed)}). It goes on, but not to the same "
                "bits as it would have there."
            )
        store.rewind(state.step, state.monitor.best_step)
    return store


def _check_tally(tally: Tensor | None, task: Task) -> None:
    """Raise `CheckpointError` for sums that are not this task's."""
    if tally is None:
        return
    try:
        task.train_scores(tally.tolist())
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"The checkpoint does not fit this task: {tuple(tally.shape)} sums of scores.") from error


def make_plan(settings: TrainerConfig, steps_per_epoch: int) -> Timeline:
    """Durations as steps."""
    total = settings.steps or settings.epochs * steps_per_epoch
    if settings.fast_dev_run:
        total = 3

    def every(key: str) -> Interval:
        return Interval.of(getattr(settings, key), f"trainer.{key}", steps_per_epoch, total)

    max_time = settings.max_time
    return Timeline(
        total=total,
        steps_per_epoch=steps_per_epoch,
        log=every("log_every"),
        evaluate=every("eval_every"),
        save=every("save_every"),
        histograms=every("log_histograms"),
        gradients=every("log_gradients"),
        micro_batch=settings.micro_batch,
        auto_micro_batch=settings.auto_micro_batch,
        clip_norm=settings.clip_norm,
        on_nan=settings.on_nan,
        on_nan_limit=settings.on_nan_limit,
        on_nan_factor=settings.on_nan_factor,
        max_seconds=None if max_time is None else durations.parse(max_time, "trainer.max_time").value,
    )


def _limited(data: Data, config: Config) -> Data:
    """The data after limit_train, limit_val, overfit_batches and fast_dev_run."""
    settings, seed = config.trainer, config.seed
    batch, eval_batch = config.data.batch_size, config.data.eval_batch_size

    def samples(text: str, size: int, whole: int) -> int:
        if text.endswith("%"):
            return max(1, round(whole * float(text[:-1]) / 100))
        return int(text) * size

    train, val, augment, mix = data.train, data.val, data.augment, data.mix
    if settings.limit_train is not None:
        train = limit(train, samples(settings.limit_train, batch, len(train)), seed)
    if settings.limit_val is not None:
        val = limit(val, samples(settings.limit_val, eval_batch, len(val)), seed)
    if settings.overfit_batches is not None:
        train = limit(train, settings.overfit_batches * batch, seed)
        val, augment, mix = train, None, None
    if settings.fast_dev_run:
        train, val = limit(train, 3 * batch, seed), limit(val, eval_batch, seed)
    return dataclasses.replace(data, train=train, val=val, augment=augment, mix=mix)


def _state(config: Config, task: Task, plan: Timeline, model: nn.Module) -> TrainState:
    settings = config.trainer
    name = settings.monitor or task.monitor
    known = [f"val/{score}" for score in task.score_names]
    name = name if name.startswith("val/") else f"val/{name}"
    if name not in known:
        raise ConfigError(f"trainer.monitor={settings.monitor}: not one of {', '.join(known)}.")
    mode = score_direction(task, name) if settings.mode == "auto" else settings.mode
    device = next(model.parameters()).device
    return TrainState(
        model=model,
        optimizer=build_optimizer(config.optimizer, model),
        schedule=build_schedule(config.scheduler, Clock(plan.steps_per_epoch, plan.total)),
        scaler=torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16"),
        monitor=Monitor(name, mode, settings.min_delta, settings.patience),
        ema=None if settings.ema is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema)),
    )


def _check_last_batch(model: nn.Module, config: Config, samples: int) -> None:
    """BatchNorm cannot train on a single sample: say so before the end of the first epoch does."""
    sizes = {config.data.batch_size if samples >= config.data.batch_size else samples}
    if not config.data.drop_last:
        sizes.add(samples % config.data.batch_size or config.data.batch_size)
    micro = config.trainer.micro_batch
    if micro is not None:
        sizes = {size % micro or micro for size in sizes} | {min(micro, size) for size in sizes}
    if 1 in sizes and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        raise ConfigError(
            f"data.batch_size={config.data.batch_size} leaves a batch of one of the {samples} training samples, and "
            "BatchNorm needs at least two; choose another batch size (or micro_batch), or data.drop_last=true."
        )


def _channels_last(settings: TrainerConfig, model: nn.Module, device: torch.device, precision: torch.dtype) -> bool:
    """Whether images are kept channels-last: on 2 CPU cores a step of the CNN on 64×3×32×32 took 16 % less time."""
    if settings.channels_last is not None:
        return settings.channels_last
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return convolves and (device.type == "cpu" or precision is not torch.float32)


def _picture(data: Data) -> Callable[[Tensor], Tensor] | None:
    """How to show model inputs to a person; None where they are not images."""
    if isinstance(data.prepare, Normalize):
        return data.prepare.undo
    return None
