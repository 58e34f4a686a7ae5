"""Stopping a trial that will not be the best, by the scores of the others so far: read from their run directories."""

import math
from collections.abc import Sequence
from typing import Any

from trainer.config.sweep import OptunaSweep
from trainer.loggers.files import read_metrics
from trainer.sweeps.directory import FAILED, FINISHED, PRUNED, SweepDirectory
from trainer.sweeps.suggest import quiet_optuna

REDUCTION = 3  # of successive halving: one trial in so many goes on
STARTUP = 5  # trials that the median waits for


class SweepPruner:
    """The pruner of one trial: a `trainer.training.stopping.Pruner`.

    What Optuna's pruners keep of a trial is made anew from the reports of all trials, in the order of their numbers. A
    report is a validation, and its position among those of its trial is the resource that it has taken.

    Args:
        directory: of the sweep.
        number: of the trial.
    """

    def __init__(self, directory: SweepDirectory, number: int) -> None:
        assert isinstance(directory.definition.sweep, OptunaSweep)
        self.directory, self.number, self.kind = directory, number, directory.definition.sweep.pruner

    def observe(self, name: str, mode: str, step: int, score: float) -> bool:
        """See `trainer.training.stopping.Pruner`."""
        if not math.isfinite(score):
            return False
        optuna = quiet_optuna()
        sampler = optuna.samplers.RandomSampler(seed=0)  # draws nothing: the reports are all that counts
        study = optuna.create_study(sampler=sampler, pruner=self._pruner(optuna), study_name="sweep")
        own = None
        for number in range(self.directory.definition.count):
            trial = study.ask()  # so that its number is that of the trial
            if number == self.number:
                own = trial
            else:
                self._replay(study, trial, name, mode)
        assert own is not None
        return _report(own, [*self._costs(self.number, name, mode, step), cost(score, mode)])

    def _pruner(self, optuna: Any) -> Any:
        pruners = optuna.pruners
        match self.kind:
            case "median":
                return pruners.MedianPruner(n_startup_trials=STARTUP)
            case "asha":
                return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
            case "hyperband":
                return pruners.HyperbandPruner(min_resource=1, reduction_factor=REDUCTION)
        return pruners.WilcoxonPruner()

    def _replay(self, study: Any, trial: Any, name: str, mode: str) -> None:
        """Give another trial what it has reported, and how it ended."""
        costs = self._costs(trial.number, name, mode)
        _report(trial, costs)
        status, states = self.directory.status(trial.number), quiet_optuna().trial.TrialState
        if status == PRUNED:
            study.tell(trial, state=states.PRUNED)
        elif status in FINISHED and costs:
            study.tell(trial, min(costs))
        elif status in (*FINISHED, FAILED):
            study.tell(trial, state=states.FAIL)

    def _costs(self, number: int, name: str, mode: str, before: int | None = None) -> list[float]:
        """Return the scores of the validations of a trial so far, or before a step, as costs."""
        rows = read_metrics(self.directory.run(number).directory)
        scores = [row.get(name) for row in rows if before is None or row["step"] < before]
        return [cost(score, mode) for score in scores if isinstance(score, (int, float)) and math.isfinite(score)]


def cost(score: float, mode: str) -> float:
    """Return a score as what is to become small."""
    return score if mode == "min" else -score


def _report(trial: Any, costs: Sequence[float]) -> bool:
    """Report costs, and ask as often as the pruners keep notes; return whether the last one is a reason to stop."""
    stop = False
    for position, value in enumerate(costs, start=1):
        trial.report(value, position)
        rung = math.log(position, REDUCTION)
        if position == len(costs) or abs(rung - round(rung)) < 1e-9:  # in between, no pruner keeps anything
            stop = bool(trial.should_prune())
    return stop
