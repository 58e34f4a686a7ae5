"""The one place that knows which engines there are."""

from trainer.config.sweep import SweepConfig
from trainer.sweeps.engine import Engine
from trainer.sweeps.local import LocalEngine


def open_engine(sweep: SweepConfig, device: str) -> Engine:
    """Return what `sweep.engine` names.

    Args:
        sweep: the section `sweep`.
        device: `trainer.device` of the trials.
    """
    match sweep.engine:
        case "local":
            return LocalEngine(sweep, device)
    raise AssertionError(f"sweep.engine={sweep.engine}: a choice without an engine")
