"""The checkpoints of a run, and going on from one of them."""

import json
import logging
from typing import Any

from trainer.checkpoint.store import Store
from trainer.config import compose
from trainer.config.root import Config
from trainer.errors import CheckpointError
from trainer.runs.directory import Run
from trainer.runs.loading import learned_classes, normalized
from trainer.training.context import RunContext

NAMED = 10  # classes or columns that a message names
# What a network is made for: where the data no longer is of that kind, the run does not go on.
MADE_FOR = {
    "input_shape": "samples of shape {}",
    "outputs": "{} outputs",
    "cardinalities": "categories of {} codes",
    "target_steps": "numbers that are transformed by {}",
}
log = logging.getLogger("trainer")


def open_store(run: Run, config: Config, resume: str | None) -> tuple[Store, dict[str, Any] | None]:
    """Open the checkpoints of a run, and load the state to go on from.

    Args:
        resume: the name of a checkpoint; None: the run begins, and there is no state.

    Raises:
        CheckpointError: where there is none that is undamaged.
    """
    if not run.config.exists():
        run.write_config(compose.to_yaml(compose.from_config(config)), [])
    store = Store(run.checkpoints, config.trainer.keep)
    return store, None if resume is None else store.load(resume)[0]


def restore(run: Run, store: Store, payload: dict[str, Any], context: RunContext) -> None:
    """Restore the state that `open_store` has loaded.

    Raises:
        CheckpointError: where it does not fit the model, the optimizer or the data.
    """
    _check_classes(payload, context, run)
    _check_kind(payload, context, run)
    context.state.load_state_dict(payload)
    _check_sums(context)
    _warn_of_changes(payload, context)
    store.rewind(context.state.step, context.state.monitor.best_step)
    if context.state.pending is not None:
        store.invalidate(context.state.step)  # the checkpoint in which a record waits for its validation


def _check_classes(payload: dict[str, Any], context: RunContext, run: Run) -> None:
    """Raise `CheckpointError` where an output would mean another class than the one that it has learned."""
    before, now = learned_classes(payload), context.data.spec.labels
    if now is None or before is None or before == normalized(now):
        return
    gone, new = _differences(before, normalized(now))
    raise CheckpointError(
        f"{run.directory} has learned the {len(before)} classes {_some(before)}, and the data now has {len(now)} "
        f"({_changes(gone, new)}). Give the classes their names back, or begin a run from its weights: "
        f"init_from={run.directory}."
    )


def _check_kind(payload: dict[str, Any], context: RunContext, run: Run) -> None:
    """Raise `CheckpointError` where the samples are of another kind than those that were learned from."""
    saved = payload.get("data_spec")
    before, now = (
        json.loads(json.dumps(spec, default=str))  # tuples are lists in both
        for spec in (saved if isinstance(saved, dict) else {}, context.data.spec.to_dict())
    )
    for name, words in MADE_FOR.items():
        if name in before and before[name] != now[name]:
            raise CheckpointError(
                f"{run.directory} has learned {words.format(before[name] or 'none')}, and the data now has "
                f"{words.format(now[name] or 'none')}. Make the data what it was, or begin a run from its weights: "
                f"init_from={run.directory}."
            )
    learned, there = _columns(payload.get("preprocessing")), _columns(context.data.preprocessing)
    if learned is not None and there is not None and learned != there:
        gone, new = _differences(learned, there)
        raise CheckpointError(
            f"{run.directory} has learned from {len(learned)} columns, and the data now has {len(there)} "
            f"({_changes(gone, new)}). Name the columns and their roles as before, or begin a run from its weights."
        )


def _columns(preprocessing: object) -> list[str] | None:
    """Return the input columns of a table with their kinds, from its saved preprocessing; None where it has none."""
    try:
        columns = json.loads(preprocessing)["columns"] if isinstance(preprocessing, str) else None
        return None if columns is None else [f"{column['name']} ({column['kind']})" for column in columns]
    except (ValueError, LookupError, TypeError):
        return None


def _differences(before: list[str], now: list[str]) -> tuple[list[str], list[str]]:
    return [name for name in before if name not in now], [name for name in now if name not in before]


def _changes(gone: list[str], new: list[str]) -> str:
    words = [f"{what} {_some(names)}" for what, names in (("gone:", gone), ("new:", new)) if names]
    return "; ".join(words) or "the same, in another order"


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + " …" * (len(names) > NAMED)


def _check_sums(context: RunContext) -> None:
    """Raise `CheckpointError` for sums of scores that are not this task's."""
    for sums in (context.state.train_sums, context.state.epoch_sums):
        if sums is None:
            continue
        try:
            context.task.train_scores(sums.tolist())
        except (ValueError, TypeError, ArithmeticError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this task: {tuple(sums.shape)} sums of scores."
            ) from error


def _warn_of_changes(payload: dict[str, Any], context: RunContext) -> None:
    """Say what is not as it was when the checkpoint was saved: the data, or where the maths runs."""
    measured = payload.get("preprocessing")
    if measured is not None and measured != context.data.preprocessing:  # images of an older version: it was not kept
        log.warning(
            "The data is not what the run was trained on before, or is prepared otherwise: what is measured on its "
            "training samples has changed (see data.path or data.root). The run goes on with inputs as now."
        )
    before = payload.get("environment")
    if not isinstance(before, dict):
        return
    changed = [
        f"{name} {before[name]!s:.80} → {now}"
        for name, now in context.environment().items()
        if name in before and str(before[name]) != str(now)
    ]
    if changed:
        log.warning(
            f"This is not where the run was trained before ({', '.join(changed)}). It goes on, but not to the same "
            "bits as it would have there."
        )
