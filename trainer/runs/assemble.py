"""The one module that knows all parts: from a config to a `Trainer` that is ready to go."""

import dataclasses

import torch
from torch import nn

from trainer.config.durations import RunLength
from trainer.config.root import Config
from trainer.data.loaders.selection import make_loaders
from trainer.data.splits import limit
from trainer.data.types import Data
from trainer.errors import ConfigError
from trainer.models.norm import BATCH_NORMS
from trainer.models.parts import freeze_for_good, set_rates
from trainer.models.ready import fit_initial_weights
from trainer.runs.build import build_data_and_task, build_model, build_optimizer, build_schedule
from trainer.runs.contract import check_contract, check_trainable
from trainer.runs.directory import Run
from trainer.runs.loading import learned_classes, load_weights
from trainer.runs.restoring import open_store, restore
from trainer.system.home import expanded
from trainer.system.process import configure, configure_denormals, configure_malloc, configure_threads
from trainer.system.signals import SignalHandler
from trainer.tasks.base import AVERAGED_PREFIX, PREFIX, Task, score_direction
from trainer.training.average import average_of
from trainer.training.context import Compute, RunContext
from trainer.training.state import TrainState
from trainer.training.stopping import Monitor, Pruner
from trainer.training.timeline import Timeline
from trainer.training.trainer import Trainer


def assemble(
    config: Config,
    run: Run | None = None,
    *,
    resume: str | None = None,
    signals: SignalHandler | None = None,
    pruner: Pruner | None = None,
) -> Trainer:
    """Build everything that a config names, and load what it starts from.

    Args:
        config: checked.
        run: where checkpoints go; None: nothing is saved.
        resume: the name of a checkpoint of `run` to go on from: last, best, step-...
        signals, pruner: see `Trainer`.

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
    compute = Compute.choose(settings)
    store, saved = (None, None) if run is None else open_store(run, config, resume)
    data, task = build_data_and_task(config, None if saved is None else learned_classes(saved))
    data = _limited(data, config)
    task.to(compute.device)
    train, val = make_loaders(
        data,
        batch_size=config.data.batch_size,
        eval_batch_size=config.data.eval_batch_size,
        drop_last=config.data.drop_last,
        seed=config.seed,
        device=compute.device,
        timeout=config.data.timeout,
        balanced=config.data.sampling == "balanced",
    )
    timeline = Timeline.of(settings, train.steps_per_epoch, config.data.least_steps)
    model = _model(config, data, begins=resume is None)
    batch = min(settings.micro_batch or config.data.batch_size, len(data.train))
    configure_threads(settings.threads, batch * sum(p.numel() for p in model.parameters()))
    compute = compute.suited_to(model, settings.channels_last)
    model = compute.place(model)
    odd = check_contract(config, data, model, task, train, compute)
    data = dataclasses.replace(data, warnings=(*data.warnings, *odd))
    state = _state(config, task, timeline, model)
    context = RunContext(config, data, task, train, val, timeline, state, compute)
    if run is not None and store is not None and saved is not None:
        restore(run, store, saved, context)
    if settings.compile:
        model.compile()
    return Trainer(context, store, signals, pruner)


def _model(config: Config, data: Data, begins: bool) -> nn.Module:
    """Build the network, with the weights that it begins with where the run `begins`, and its frozen parts."""
    model = build_model(config, data.spec, load=begins)
    if begins:
        fit_initial_weights(model, data, config.seed)
    freeze_for_good(model, config.model.freeze, thawed=config.model.unfreeze_at is not None)
    check_trainable(model, config)
    _check_batch_sizes(model, config, len(data.train))
    if begins and config.init_from is not None:
        load_weights(model, config.init_from, expanded(config.output_dir), data.spec)
    return model


def _limited(data: Data, config: Config) -> Data:
    """Return the data after limit_train, limit_val, overfit_batches and fast_dev_run."""
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


def _state(config: Config, task: Task, timeline: Timeline, model: nn.Module) -> TrainState:
    """Return the state before the first step."""
    settings = config.trainer
    device = next(model.parameters()).device
    set_rates(model, config.optimizer.lr_mult, config.optimizer.layer_decay)
    return TrainState(
        model=model,
        optimizer=build_optimizer(config.optimizer, model),
        schedule=build_schedule(config.scheduler, RunLength(timeline.steps_per_epoch, timeline.total)),
        scaler=torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16"),
        monitor=_monitor(config, task),
        average=average_of(model, settings.ema, settings.ema_warmup),
    )


def _monitor(config: Config, task: Task) -> Monitor:
    """Return what watches the score that decides; raises `ConfigError` for one that the task does not have."""
    settings = config.trainer
    typed = settings.monitor or task.monitor.removeprefix(PREFIX)
    prefixes = (PREFIX,) if settings.ema is None else (PREFIX, AVERAGED_PREFIX)
    known = [f"{prefix}{score}" for prefix in prefixes for score in task.score_names]
    name = typed if typed.startswith(prefixes) else f"{PREFIX}{typed}"
    if name not in known:
        raise ConfigError(f"trainer.monitor={settings.monitor}: not one of {', '.join(known)}.")
    score = name.partition("/")[2]
    mode = score_direction(task, score) if settings.mode == "auto" else settings.mode
    both = settings.ema is not None and name != typed  # which of the two was not said
    return Monitor(
        name,
        mode,
        settings.min_delta,
        settings.patience,
        f"{AVERAGED_PREFIX}{score}" if both else None,
        settings.best_of_equals == "last",
    )


def _check_batch_sizes(model: nn.Module, config: Config, samples: int) -> None:
    """Raise `ConfigError` where BatchNorm would get a single sample, before the end of the first epoch does."""
    sizes = {config.data.batch_size if samples >= config.data.batch_size else samples}
    if not config.data.drop_last:
        sizes.add(samples % config.data.batch_size or config.data.batch_size)
    micro = config.trainer.micro_batch
    if micro is not None:
        sizes = {size % micro or micro for size in sizes} | {min(micro, size) for size in sizes}
    if 1 in sizes and any(isinstance(module, BATCH_NORMS) for module in model.modules()):
        raise ConfigError(
            f"data.batch_size={config.data.batch_size} leaves a batch of one of the {samples} training samples, and "
            "BatchNorm needs at least two; choose another batch size (or micro_batch), or data.drop_last=true."
        )
