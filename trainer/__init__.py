"""Config-driven training for PyTorch: a command line, and the few names of its Python API, imported when used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.assembly import assemble
    from trainer.config import Config
    from trainer.config.section import key
    from trainer.engine import Trainer
    from trainer.registry import register
    from trainer.runs import Run
    from trainer.weights import load_model

__version__ = "0.1.0"
__all__ = ["Config", "Run", "Trainer", "__version__", "assemble", "key", "load_model", "register"]

_HOMES = {
    "Config": "trainer.config",
    "Run": "trainer.runs",
    "Trainer": "trainer.engine",
    "assemble": "trainer.assembly",
    "key": "trainer.config.section",
    "load_model": "trainer.weights",
    "register": "trainer.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainer' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
