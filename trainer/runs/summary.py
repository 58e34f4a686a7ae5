"""What a run says of itself before the first step and after the last."""

import signal
from collections.abc import Sequence
from typing import Any

import torch

from trainer.config.durations import RunLength, parse_duration
from trainer.config.quoting import import_flags, shell_command, typed_override
from trainer.config.root import Config
from trainer.config.section import Section
from trainer.config.trainer import EPOCHS
from trainer.data.types import DataSpec
from trainer.loggers.console import format_duration, format_value
from trainer.models.parts import frozen_parameters, network_parts
from trainer.optim.optimizers import lr_factor
from trainer.runs.build import build_schedule, chosen_model, rescales
from trainer.runs.changes import Change
from trainer.runs.directory import Run
from trainer.training.context import RunContext
from trainer.training.timeline import Timeline

Lines = list[tuple[str, str]]  # (what, the words)

MOST_RATES = 6  # parts with a learning rate of their own that are shown


def opening_lines(context: RunContext, run: Run, environment: dict[str, Any]) -> Lines:
    """Return what is about to be trained, on what, for how long, and how to watch and resume it."""
    config, timeline, state, spec = context.config, context.timeline, context.state, context.data.spec
    commit = f"  commit {environment['commit']}" if environment["commit"] else ""
    kind = f"{len(spec.labels)} classes" if spec.labels is not None else "a number to predict"
    sizes = f"{len(context.data.train):,} train / {len(context.data.val):,} val, {spec.shape_words()}, {kind}"
    description = f", {context.data.description}" if context.data.description else ""
    batch = config.data.batch_size
    micro = min(config.trainer.micro_batch or batch, batch)
    length = (
        f"{timeline.total:,} = {timeline.total / timeline.steps_per_epoch:.4g} epochs × {timeline.steps_per_epoch:,}"
    )
    if not config.trainer.epochs and not config.trainer.steps and timeline.total > EPOCHS * timeline.steps_per_epoch:
        length += f", at least {config.data.least_steps:,} for a table (else: trainer.epochs)"
    resumed = f", resumed at step {state.step:,}" if state.step else ""
    warmup = f" after a warm-up of {config.scheduler.warmup}" if config.scheduler.warmup != "0" else ""
    threads = environment["threads"]
    cpu = f"{threads} CPU thread{'s' * (threads != 1)}"
    rate = getattr(config.optimizer, "lr", None)
    factors = sorted({lr_factor(p) for p in state.model.parameters() if p.requires_grad})
    multiples = (
        "" if factors == [1.0] else f" × {factors[0]:g} to {factors[-1]:g}"
    )  # of a network with rates of its own
    chosen = " (chosen from the data)" if config.task.option == "auto" else ""
    return [
        ("run", f"{run.directory}{commit}"),
        ("device", f"{context.compute.device}, {environment['precision']}, {cpu}, torch {torch.__version__}"),
        ("model", f"{_model_words(config, spec)}, {_parameters(context)}"),
        ("data", f"{config.data.option}, {sizes}{description}"),
        ("task", f"{context.task.kind}{chosen}{_scaled(context)}, best by {state.monitor.words}"),
        ("batch", f"{batch} = {micro} micro-batch × {-(-batch // micro)} accumulated × 1 process"),
        ("steps", f"{length}{resumed}"),
        ("schedule", f"{config.optimizer.option} lr {rate}{multiples}, {config.scheduler.option}{warmup}"),
        *rate_lines(context),
        *rounded_lines(config, timeline),
        ("watch", shell_command("tensorboard", "--logdir", run.tensorboard)),
        ("resume", resume_command(run, environment["imports"])),
    ]


def _model_words(config: Config, spec: DataSpec) -> str:
    chosen, why = chosen_model(config.model, spec)
    return f"{chosen.option} (chosen for {why})" if why else str(chosen.option)


def _parameters(context: RunContext) -> str:
    """Return how many parameters there are, and how many of them are trained, where those are not all."""
    model, config = context.state.model, context.config.model
    whole = sum(p.numel() for p in model.parameters())
    frozen = sum(p.numel() for p in frozen_parameters(model, config.freeze).values())
    if not frozen:
        return f"{whole:,} parameters"
    until = "" if config.unfreeze_at is None else f" until {config.unfreeze_at} (model.unfreeze_at)"
    return f"{whole - frozen:,} of {whole:,} parameters trained{until}: model.freeze={config.freeze}"


def rate_lines(context: RunContext) -> Lines:
    """Return one line with the multiples of the learning rate by part, where the config gives some."""
    optimizer = context.config.optimizer
    if not optimizer.lr_mult and optimizer.layer_decay is None:
        return []
    words: dict[str, list[str]] = {}
    for part in network_parts(context.state.model):
        factors = sorted({lr_factor(p) for p in part.parameters.values()})
        words.setdefault(" and ".join(f"{factor:.3g}" for factor in factors), []).append(part.name)
    named = [names[0] + f" and {len(names) - 1} more" * (len(names) > 1) for names in words.values()]
    shown = [f"{name} × {factors}" for name, factors in zip(named, words, strict=True)]
    if len(shown) > MOST_RATES:
        shown = [*shown[:2], "…", *shown[-2:]]
    return [("rates", ", ".join(shown))]


def _scaled(context: RunContext) -> str:
    """Return how outputs are scaled to the target's units, where they are."""
    config, spec = context.config, context.data.spec
    undone = "".join(f", {name} undone" for name, _, _ in reversed(spec.target_steps))
    if not rescales(config, spec):
        return undone and f" with outputs{undone.removeprefix(',')}"
    assert spec.target_mean is not None
    assert spec.target_std is not None
    if spec.outputs > 1:
        return f" with outputs scaled to the target{undone}"
    (mean,), (std,) = spec.target_mean, spec.target_std
    return f" with outputs × {std:.4g} {'+' if mean >= 0 else '-'} {abs(mean):.4g}{undone}"


def rounded_lines(config: Config, timeline: Timeline) -> Lines:
    """Return one line with the durations that are another number of steps than typed; none where all fit."""
    words = []
    for section in (part for part in vars(config).values() if isinstance(part, Section)):
        for name, (_, _, known) in section.keys().items():
            typed = getattr(section, name) if known.duration else None
            for text in typed if isinstance(typed, list) else [typed]:
                duration = parse_duration("0" if text in (None, "auto") else text, section.key_name(name))
                if steps := duration.rounded(timeline.steps_per_epoch, timeline.total):
                    words.append(f"{section.key_name(name)}={text} is {steps}")
    return [("rounded", ", ".join(words))] if words else []


def change_lines(changes: Sequence[Change], before: Config | None, context: RunContext) -> Lines:
    """Return what is not as it was in a run that goes on, and what that does to its learning rates."""
    step = context.state.step
    lines = [("changed", change.words(step)) for change in changes]
    if before is None or not changes:
        return lines
    rate, old_rate = getattr(context.config.optimizer, "lr", None), getattr(before.optimizer, "lr", None)
    if rate is None or old_rate is None:
        return lines
    spe, total = context.timeline.steps_per_epoch, context.timeline.total
    old_total = Timeline.of(before.trainer, spe, before.data.least_steps).total
    old = build_schedule(before.scheduler, RunLength(spe, old_total))
    old.load_state_dict(context.state.schedule.state_dict())
    at = sorted({step, (step + total) // 2, total - 1})
    if any(context.state.schedule(i, rate) != old(i, old_rate) for i in at if i >= step):
        now, then = (f"{value:.3g}" for value in (context.state.schedule(step, rate), old(step, old_rate)))
        length = f"over {total:,} steps" + (f" instead of {old_total:,}" if total != old_total else "")
        text = f"computed anew {length}: lr {now} for step {step + 1:,}, where it would have been {then}"
        lines.append(("schedule", text))
    return lines


def resume_command(run: Run, imports: Sequence[str], *overrides: str) -> str:
    """Return what to type to go on with a run."""
    return shell_command("train", *import_flags(imports), typed_override("resume", run.directory), *overrides)


def closing_lines(summary: dict[str, Any], config: Config, run: Run, imports: Sequence[str]) -> Lines:
    """Return how it ended, what was best and where, and what to type next."""
    reason = summary["reason"]
    if reason.startswith("signal "):
        reason = signal.Signals(int(reason.removeprefix("signal "))).name
    words = summary["status"] + ("" if reason == summary["status"] else f" ({reason})")
    lines = [("end", f"{words} after {summary['steps']:,} steps in {format_duration(summary['seconds'])}")]
    best = summary["best"]
    if best is not None:
        value = format_value(best["metric"], best["value"])
        where = f", in {run.directory / best['checkpoint']}" if best["checkpoint"] else ""
        lines.append(("best", f"{best['metric']} {value} at step {best['step']:,}{where}"))
    longer: tuple[str, ...] = ()
    settings = config.trainer
    if settings.fast_dev_run:
        return lines  # a trial: there is nothing to go on with
    if summary["reason"] == "early stopping":
        longer = (f"trainer.patience={2 * (settings.patience or 1)}",)
    elif summary["status"] == "completed":
        by_steps = settings.steps or (not settings.epochs and config.data.least_steps)
        epochs = settings.epochs or EPOCHS
        longer = (f"trainer.steps={2 * summary['steps']}" if by_steps else f"trainer.epochs={2 * epochs}",)
    return [*lines, ("next", resume_command(run, imports, *longer))]
