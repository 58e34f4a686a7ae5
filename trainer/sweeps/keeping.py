"""`sweep.keep`: the weights of the best trials only, the metrics of all."""

import shutil

from trainer.errors import CheckpointError
from trainer.runs.directory import Run
from trainer.sweeps.directory import FINISHED, SweepDirectory
from trainer.sweeps.results import Results


def keep_best(directory: SweepDirectory, results: Results) -> None:
    """Remove the checkpoints of finished trials that are not among the best `sweep.keep`."""
    keep = directory.definition.sweep.keep
    if keep is None:
        return
    finished = [row["trial"] for row in results.rows if row["status"] in FINISHED and row["best"] is not None]
    for number in finished[keep:]:
        run = directory.run(number)
        if not run.checkpoints.exists():
            continue
        try:
            run.lock()
        except CheckpointError:
            continue  # somebody goes on with it
        try:
            drop_weights(run)
        finally:
            run.release()
        directory.forget(number)


def drop_weights(run: Run) -> None:
    """Remove the checkpoints of a run that this process holds; its summary names none then."""
    summary = run.summary() or {}
    for name in ("best", "last"):
        if summary.get(name):
            summary[name] |= {"checkpoint": None}
    run.write_summary(summary)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
