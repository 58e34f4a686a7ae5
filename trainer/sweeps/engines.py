"""The one place that knows which engines there are."""

import importlib.util

from trainer.errors import ConfigError
from trainer.sweeps.directory import SweepDirectory
from trainer.sweeps.engine import Engine
from trainer.sweeps.local import LocalEngine
from trainer.sweeps.on_ray import RayEngine
from trainer.sweeps.on_slurm import SlurmEngine

PACKAGES = {"ray": "ray", "slurm": "submitit"}  # what an engine needs: an extra has its name


def open_engine(directory: SweepDirectory, device: str) -> Engine:
    """Return what `sweep.engine` names.

    Args:
        directory: of the sweep.
        device: `trainer.device` of the trials.

    Raises:
        ConfigError: where its package is not installed, or there is nothing to run on.
    """
    sweep = directory.definition.sweep
    package = PACKAGES.get(sweep.engine)
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"sweep.engine={sweep.engine} needs the package {package}: pip install 'trainer[{sweep.engine}]'"
        )
    match sweep.engine:
        case "local":
            return LocalEngine(sweep, device)
        case "ray":
            return RayEngine(sweep)
        case "slurm":
            return SlurmEngine(sweep, directory.path, directory.definition.count)
    raise AssertionError(f"sweep.engine={sweep.engine}: a choice without an engine")
