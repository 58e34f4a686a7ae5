"""The checkpoints of a run, and going on from one of them."""

import logging
import unicodedata
from typing import Any

from trainer.checkpoint.store import Store
from trainer.config import compose
from trainer.errors import CheckpointError
from trainer.runs.directory import Run
from trainer.training.context import RunContext

NAMED = 10  # classes that a message names
log = logging.getLogger("trainer")


def open_store(run: Run, context: RunContext, resume: str | None) -> Store:
    """Open the checkpoints of a run, and restore the state from the one to go on from.

    Args:
        resume: its name; None: the run begins.

    Raises:
        CheckpointError: where there is none that is undamaged, or it does not fit.
    """
    config = context.config
    if not run.config.exists():
        run.write_config(compose.to_yaml(compose.from_config(config)), [])
    store = Store(run.checkpoints, config.trainer.keep)
    if resume is not None:
        payload, _ = store.load(resume)
        _check_classes(payload, context, run)
        context.state.load_state_dict(payload)
        _check_sums(context)
        _warn_of_changes(payload, context)
        store.rewind(context.state.step, context.state.monitor.best_step)
        if context.state.pending is not None:
            store.invalidate(context.state.step)  # the checkpoint in which a record waits for its validation
    return store


def _check_classes(payload: dict[str, Any], context: RunContext, run: Run) -> None:
    """Raise `CheckpointError` where an output would mean another class than the one that it has learned."""
    saved, now = payload.get("data_spec"), context.data.spec.labels
    before = saved.get("labels") if isinstance(saved, dict) else None
    if now is None or not isinstance(before, list) or not all(isinstance(name, str) for name in before):
        return  # no classes, or a field that says nothing of them
    # A run of an older version has the names of folders in the form of Unicode that the disk gave them.
    before = [unicodedata.normalize("NFC", name) for name in before]
    now = tuple(unicodedata.normalize("NFC", name) for name in now)
    if before == [*now]:
        return
    gone, new = ([name for name in one if name not in other] for one, other in ((before, now), (now, before)))
    changes = [f"{what} {', '.join(names[:NAMED])}" for what, names in (("gone:", gone), ("new:", new)) if names]
    learned = ", ".join(before[:NAMED]) + " …" * (len(before) > NAMED)
    raise CheckpointError(
        f"{run.directory} has learned the {len(before)} classes {learned}, and the data now has {len(now)} "
        f"({'; '.join(changes) or 'the same, in another order'}). Give the classes their names back, or begin a run "
        f"from its weights: init_from={run.directory}."
    )


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
